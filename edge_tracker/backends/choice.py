"""The list of backends, where a new one is added, and the choice of one for this machine."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import SupportsIndex

from edge_tracker.backends import onnxruntime, openvino
from edge_tracker.backends.compile_cache import cache_folder
from edge_tracker.backends.graph import BackendChoice, Graphs
from edge_tracker.backends.record import COMPUTES, NEEDS, Backend, Candidate, Obstacle, Placement
from edge_tracker.backends.tensorrt import opening as tensorrt
from edge_tracker.bundle.contract import CONTRACT
from edge_tracker.bundle.manifest import MANIFEST, PRECISIONS, Artefact
from edge_tracker.bundle.opening import Bundle
from edge_tracker.errors import BackendUnavailable, BundleError
from edge_tracker.options import checked_list, checked_name, checked_path, checked_whole

#: A number of threads above it is a mistake.
MOST_THREADS = 4096

_log = logging.getLogger(__name__)

#: In the order in which "auto" tries them, and in which they take an artefact that several run.
BACKENDS: tuple[Backend, ...] = (
    tensorrt.BACKEND,
    openvino.BACKEND,
    onnxruntime.BACKEND,
)


def backend_names() -> tuple[str, ...]:
    return tuple(backend.name for backend in BACKENDS)


def open_graphs(
    bundle: Bundle,
    *,
    backend: str = "auto",
    device: str | None = None,
    precision: str | None = None,
    num_threads: SupportsIndex | None = None,
    cache_dir: str | Path | None = None,
    compute: str | None = None,
) -> Graphs:
    """Compile a bundle's graphs with the backend asked for, or with the first that can run here.

    With backend "auto", an artefact that is in the bundle but cannot be used here is passed over
    with a RuntimeWarning that says which, why, and what is used instead.

    compute: the type of floating-point arithmetic, one of COMPUTES; by default that of the artefact
    on its device, which is float32 on a CPU unless beside int8. With "auto", the fastest that the
    backend has here for the artefact and with which the golden cases stay within limits (`settle`).

    Raises ValueError for an unknown backend or type, TypeError for a device or number of threads
    that is none, BackendUnavailable if none can run or has that type, EngineMismatch for an engine
    that belongs to another machine, BundleError for damaged files and for models that were taken
    for one another.

    So many parameters because each is a choice of the user, with a default.
    """
    checked_name("backend", backend, ("auto", *backend_names()))
    if precision is not None:
        checked_name("precision", precision, PRECISIONS)
    placement = checked_placement(device, num_threads, cache_dir, compute)
    reasons: list[str] = []
    passed_over: list[str] = []
    for record in BACKENDS:
        if backend not in ("auto", record.name):
            continue
        name, artefact = record.name, None
        try:
            artefact = record.choose(record, bundle, precision, device)
            obstacle = record.find()
            if obstacle is not None or artefact is None:
                why_not = obstacle or record.absent(bundle, precision)
                # To somebody who names a device, how to get another is beside the point.
                if isinstance(why_not, Obstacle) and backend == "auto" and device is not None:
                    why_not = why_not.reason
                reasons.append(f"{name}: {why_not}")
                continue
            candidates = _candidates(record, bundle, artefact, precision, placement)
            if isinstance(candidates, Obstacle):
                reasons.append(f"{name}: {candidates}")
                continue
            candidate, why = _settled(record, bundle, candidates, placement)
            artefact = candidate.artefact
            graphs = _open_candidate(record, bundle, candidate, placement, (*reasons, *why))
            _log.info("%s: %s", bundle.path, "; ".join(graphs.choice.reasons))
        except (BackendUnavailable, BundleError) as error:
            skippable = isinstance(error, BackendUnavailable) or record.device_bound
            if backend != "auto" or not skippable:
                raise
            reasons.append(f"{name}: {error}")
            passed_over.append(f"{artefact.name if artefact else name} is not used: {error}")
            continue
        if passed_over:
            used = graphs.choice.device
            instead = f"{artefact.name} is used instead, by {name} on {used}"
            warnings.warn(
                "; ".join([*passed_over, instead]), RuntimeWarning, stacklevel=_levels_to_the_user()
            )
        return graphs
    raise BackendUnavailable(f"bundle {bundle.path} cannot run here: " + "; ".join(reasons))


def _levels_to_the_user() -> int:
    """How far up the first frame is that is not of this package, from the caller of this."""
    levels, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("edge_tracker."):
        levels, frame = levels + 1, frame.f_back
    return levels


def _candidates(
    record: Backend,
    bundle: Bundle,
    artefact: Artefact,
    precision: str | None,
    placement: Placement,
) -> tuple[Candidate, ...] | Obstacle:
    """What the choice is from, what is taken without measuring first; or why there is nothing.

    artefact: the one that the backend takes unless told.
    """
    offered = [Candidate(artefact, compute) for compute in _computes(record, artefact, placement)]
    if placement.compute is None:
        return (offered[0],)
    if placement.compute == "auto":
        # Beside int8 the types differ by less than a measurement of moments can tell.
        return tuple(offered[:1] if artefact.precision == "int8" else offered)
    types = {candidate.compute for candidate in offered}
    if placement.compute not in types and precision is None and artefact.precision == "fp32":
        has_halves = any(a.precision == "fp16" and runs(record.name, a) for a in bundle.artefacts)
        halves = record.choose(record, bundle, "fp16", placement.device) if has_halves else None
        if halves is not None:
            offered += [
                Candidate(halves, compute)
                for compute in _computes(record, halves, placement)
                if compute not in types
            ]
    for candidate in offered:
        if candidate.compute == placement.compute:
            return (candidate,)
    have = " and ".join(candidate.name for candidate in offered)
    return Obstacle(
        f"there is {have} on {placement.device or 'this machine'}, nothing in {placement.compute}, "
        f"which needs {NEEDS[placement.compute]}",
        f"ask for {offered[0].compute} or auto",
    )


def _computes(record: Backend, artefact: Artefact, placement: Placement) -> tuple[str, ...]:
    try:
        return record.computes(artefact, placement.device)
    except ImportError as error:
        raise _does_not_load(record, error) from error


def _settled(
    record: Backend, bundle: Bundle, candidates: Sequence[Candidate], placement: Placement
) -> tuple[Candidate, tuple[str, ...]]:
    """The candidate to use, and why, if there was a choice."""
    if len(candidates) == 1:
        return candidates[0], ()
    # Here, as it brings NumPy, which listing the backends does without.
    from edge_tracker.backends.compute import settle

    facts = {
        "backend": record.name,
        "versions": _versions(record),
        "found": record.found() if placement.device else None,
        "device": placement.device,
        "num_threads": placement.num_threads,
    }
    candidate, why = settle(
        bundle,
        candidates,
        lambda candidate: _open_candidate(record, bundle, candidate, placement, ()),
        facts,
        cache_folder(placement.cache_dir),
    )
    return candidate, (f"{record.name}: {why}",)


def own_and_taken_type(
    bundle: Bundle, artefact: Artefact, backend: str, placement: Placement
) -> tuple[str, str]:
    """The type that an artefact is made for, and the one that `compute="auto"` takes for it. Raises
    BackendUnavailable if the backend cannot run here, and what opening the artefact raises.
    """
    record = next(record for record in BACKENDS if record.name == backend)
    placement = replace(placement, compute="auto")
    found = record.find() or _candidates(record, bundle, artefact, artefact.precision, placement)
    if isinstance(found, Obstacle):
        raise BackendUnavailable(f"{backend}: {found}")
    candidate, why = _settled(record, bundle, found, placement)
    for words in why:
        _log.info("%s: %s", bundle.path, words)
    return found[0].compute, candidate.compute


def _versions(record: Backend) -> dict[str, str]:
    versions = {}
    for distribution in (name for names in record.packages.values() for name in names):
        with suppress(metadata.PackageNotFoundError):
            versions[distribution] = metadata.version(distribution)
    return versions


def _open_candidate(
    record: Backend,
    bundle: Bundle,
    candidate: Candidate,
    placement: Placement,
    reasons: tuple[str, ...],
) -> Graphs:
    artefact = candidate.artefact
    bundle.check_files(artefact.files())
    if placement.compute is not None:
        placement = replace(placement, compute=candidate.compute)
    try:
        template, search, used = record.open(bundle, artefact, placement)
    except ImportError as error:
        raise _does_not_load(record, error) from error
    chosen = f"{record.name}: chosen, {candidate.name} on {used}"
    choice = BackendChoice(
        record.name, used, artefact.precision, candidate.compute, (*reasons, chosen)
    )
    graphs = Graphs(template, search, choice)
    _refuse_mistaken_models(bundle, artefact, graphs)
    return graphs


def _does_not_load(record: Backend, error: ImportError) -> BackendUnavailable:
    return BackendUnavailable(
        f"{record.name} is installed but does not load ({error}); install it again"
    )


def checked_placement(
    device: str | None,
    num_threads: object,
    cache_dir: str | Path | None,
    compute: str | None,
) -> Placement:
    """Raises ValueError or TypeError for what cannot be one."""
    if device is not None and not isinstance(device, str):
        raise TypeError(
            f"device is {device!r}: expected the backend's name of one, such as 'CPU' or '0'"
        )
    if compute is not None:
        checked_name("compute", compute, ("auto", *COMPUTES))
    if cache_dir is not None:
        cache_dir = checked_path("cache_dir", cache_dir)
    if num_threads is None:
        return Placement(device, None, cache_dir, compute)
    whole = checked_whole("num_threads", num_threads, 1, MOST_THREADS)
    return Placement(device, whole, cache_dir, compute)


def checked_computes(computes: object) -> tuple[str | None, ...]:
    """Raises TypeError or ValueError unless they are types of arithmetic, "auto" or None."""
    listed = checked_list("computes", computes, "['f32', 'auto']")
    for compute in listed:
        if compute is not None:
            checked_name("compute", compute, ("auto", *COMPUTES))
    return listed


def _refuse_mistaken_models(bundle: Bundle, artefact: Artefact, graphs: Graphs) -> None:
    """Close the graphs and raise BundleError if they do not take and give what theirs would."""
    found = {"template": graphs.template, "search": graphs.search}
    if all(
        (graph.input_names, graph.output_names)
        == (CONTRACT[name].input_names, CONTRACT[name].output_names)
        for name, graph in found.items()
    ):
        return
    graphs.close()
    named = "; ".join(
        f"{artefact.graphs[name].model} as the {name} graph, it takes "
        f"{', '.join(sorted(graph.input_names))} and gives "
        f"{', '.join(sorted(graph.output_names))}, expected "
        f"{', '.join(sorted(CONTRACT[name].input_names))} and "
        f"{', '.join(sorted(CONTRACT[name].output_names))}"
        for name, graph in found.items()
    )
    redo = "convert the checkpoint again"
    if artefact.format == "tensorrt":
        redo = f"build the engine again: edge-tracker build {bundle.path} --to tensorrt"
    raise BundleError(f"bundle {bundle.path}: {MANIFEST} names {named}; {redo}")


def backend_of(artefact: Artefact, among: Sequence[str] | None = None) -> str:
    """The first backend, of those named or of all, that runs the artefact's format."""
    return backend_of_format(artefact.format, among)


def backend_of_format(kind: str, among: Sequence[str] | None = None) -> str:
    return next(
        backend.name
        for backend in BACKENDS
        if kind in backend.artefact_kinds and (among is None or backend.name in among)
    )


def runs(backend: str, artefact: Artefact) -> bool:
    """Whether the backend of this name takes the artefact's format."""
    kinds = next(record.artefact_kinds for record in BACKENDS if record.name == backend)
    return artefact.format in kinds


def artefacts_for(bundle: Bundle, backend: str, precision: str | None) -> list[Artefact]:
    """Those that the backend may open in this precision: of engines one for each device."""
    return [
        each for each in bundle.artefacts if runs(backend, each) and each.precision == precision
    ]


def matching_artefacts(
    bundle: Bundle, backends: Sequence[str] | None, precisions: Sequence[str] | None
) -> tuple[Artefact, ...]:
    """The bundle's artefacts for these backends in these precisions, all by default.

    Engines that differ only in the device they were built on count once, as the backend takes the
    one that fits. Raises ValueError if there is none, or for a name that is unknown, TypeError for
    what is not a list of names.
    """
    if backends is not None:
        backends = checked_list("backends", backends, "['openvino']")
        for name in backends:
            checked_name("backend", name, backend_names())
    if precisions is not None:
        precisions = checked_list("precisions", precisions, "['fp32', 'int8']")
        for name in precisions:
            checked_name("precision", name, PRECISIONS)
    chosen: dict[str, Artefact] = {}
    for artefact in bundle.artefacts:
        if (backends is None or any(runs(name, artefact) for name in backends)) and (
            precisions is None or artefact.precision in precisions
        ):
            chosen.setdefault(artefact.name, artefact)
    if not chosen:
        asked = [f"{' or '.join(names)}" for names in (backends, precisions) if names is not None]
        have = ", ".join(f"{backend_of(a)} {a.precision}" for a in bundle.artefacts) or "none"
        raise ValueError(f"bundle {bundle.path} has nothing for {' in '.join(asked)}, only: {have}")
    return tuple(chosen.values())
