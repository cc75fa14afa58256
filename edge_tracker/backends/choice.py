"""The list of backends, where a new one is added, and the choice of one for this machine."""

from __future__ import annotations

import logging
import operator
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsIndex

from edge_tracker.backends import onnxruntime, openvino
from edge_tracker.backends.graph import CompiledGraph
from edge_tracker.backends.record import Backend
from edge_tracker.backends.tensorrt import opening as tensorrt
from edge_tracker.bundle.contract import CONTRACT
from edge_tracker.bundle.manifest import MANIFEST, Artefact
from edge_tracker.bundle.opening import Bundle
from edge_tracker.errors import BackendUnavailable, BundleError

_log = logging.getLogger(__name__)

#: In the order in which "auto" tries them, and in which they take an artefact that several run.
BACKENDS: tuple[Backend, ...] = (
    tensorrt.BACKEND,
    openvino.BACKEND,
    onnxruntime.BACKEND,
)


def backend_names() -> tuple[str, ...]:
    return tuple(backend.name for backend in BACKENDS)


@dataclass(frozen=True)
class BackendChoice:
    """What runs the graphs, and why: a line for each backend that was considered."""

    backend: str
    device: str
    precision: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Graphs:
    template: CompiledGraph
    search: CompiledGraph
    choice: BackendChoice

    def close(self) -> None:
        self.search.close()
        self.template.close()


def open_graphs(
    bundle: Bundle,
    *,
    backend: str = "auto",
    device: str | None = None,
    precision: str | None = None,
    num_threads: int | None = None,
    cache_dir: str | Path | None = None,
) -> Graphs:
    """Compile a bundle's graphs with the backend asked for, or with the first that can run here.

    With "auto", an artefact that is in the bundle but cannot be used here is passed over with a
    RuntimeWarning that says which, why, and what is used instead.

    Raises ValueError for an unknown backend, TypeError for a device or number of threads that is
    none, BackendUnavailable if none can run, EngineMismatch for an engine that belongs to another
    machine, BundleError for damaged files and for models that were taken for one another.
    """
    if backend != "auto" and backend not in backend_names():
        known = ", ".join(backend_names())
        raise ValueError(f"backend {backend!r} is unknown: choose auto, {known}")
    num_threads = _checked_placement(device, num_threads)
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
                reasons.append(f"{name}: {obstacle or record.absent(bundle, precision)}")
                continue
            bundle.check_files(artefact.files())
            template, search, used = _opened(
                record, bundle, artefact, device, num_threads, cache_dir
            )
            why = (*reasons, f"{name}: chosen, {artefact.name} on {used}")
            choice = BackendChoice(name, used, artefact.precision, why)
            graphs = Graphs(template, search, choice)
            _refuse_mistaken_models(bundle, artefact, graphs)
            _log.info("%s: %s", bundle.path, "; ".join(why))
        except (BackendUnavailable, BundleError) as error:
            skippable = isinstance(error, BackendUnavailable) or record.device_bound
            if backend != "auto" or not skippable:
                raise
            reasons.append(f"{name}: {error}")
            passed_over.append(f"{artefact.name if artefact else name} is not used: {error}")
            continue
        if passed_over:
            instead = f"{artefact.name} is used instead, by {name} on {used}"
            warnings.warn("; ".join([*passed_over, instead]), RuntimeWarning, stacklevel=3)
        return graphs
    raise BackendUnavailable(f"bundle {bundle.path} cannot run here: " + "; ".join(reasons))


def _opened(
    record: Backend,
    bundle: Bundle,
    artefact: Artefact,
    device: str | None,
    num_threads: int | None,
    cache_dir: str | Path | None,
) -> tuple[CompiledGraph, CompiledGraph, str]:
    try:
        return record.open(bundle, artefact, device, num_threads, cache_dir)
    except ImportError as error:
        raise BackendUnavailable(
            f"{record.name} is installed but does not load ({error}); install it again"
        ) from error


def _checked_placement(device: str | None, num_threads: SupportsIndex | None) -> int | None:
    """The number of threads as Python's own."""
    if device is not None and not isinstance(device, str):
        raise TypeError(
            f"device is {device!r}: expected the backend's name of one, such as 'CPU' or '0'"
        )
    if num_threads is None:
        return None
    if not hasattr(num_threads, "__index__") or isinstance(num_threads, bool):
        raise TypeError(f"num_threads is {num_threads!r}: expected a whole number, or None")
    whole = operator.index(num_threads)
    if whole < 1:
        raise ValueError(f"num_threads is {whole}: expected at least 1, or None for all cores")
    return whole


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


def matching_artefacts(
    bundle: Bundle, backends: Sequence[str] | None, precisions: Sequence[str] | None
) -> tuple[Artefact, ...]:
    """The bundle's artefacts for these backends in these precisions, all by default.

    Engines that differ only in the device they were built on count once, as the backend takes the
    one that fits. Raises ValueError if there is none.
    """
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
