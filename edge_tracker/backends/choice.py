"""The choice of what runs the two graphs on this machine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edge_tracker.backends.graph import INPUT_NAMES, CompiledGraph
from edge_tracker.bundle.manifest import MANIFEST, Artefact
from edge_tracker.bundle.opening import Bundle
from edge_tracker.errors import BackendUnavailable, BundleError

#: In the order in which "auto" tries them.
BACKENDS = ("tensorrt", "openvino", "onnxruntime")

#: Bundle, artefact, device, threads, cache folder -> template graph, search graph, device.
Compile = Callable[
    [Bundle, Artefact, str | None, int | None, str | Path | None],
    tuple[CompiledGraph, CompiledGraph, str],
]


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
    if backend != "auto" and backend not in BACKENDS:
        raise ValueError(f"backend {backend!r} is unknown: choose auto, {', '.join(BACKENDS)}")
    _check_placement(device, num_threads)
    reasons: list[str] = []
    passed_over: list[str] = []
    for name in BACKENDS if backend == "auto" else (backend,):
        artefact = None
        try:
            artefact = _find_artefact(bundle, name, precision, device)
            obstacle = why_not(name)
            if obstacle is None and artefact is None:
                obstacle = _no_artefact(bundle, name, precision)
            if obstacle is not None or artefact is None:
                reasons.append(f"{name}: {obstacle}")
                continue
            bundle.check_files(artefact.files())
            compile_graphs = _compiler(name)
            template, search, used = compile_graphs(
                bundle, artefact, device, num_threads, cache_dir
            )
            why = (*reasons, f"{name}: chosen, {artefact.name} on {used}")
            choice = BackendChoice(name, used, artefact.precision, why)
            graphs = Graphs(template, search, choice)
            _refuse_mistaken_models(bundle, artefact, graphs)
        except (BackendUnavailable, BundleError) as error:
            skippable = isinstance(error, BackendUnavailable) or name == "tensorrt"
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


def _check_placement(device: str | None, num_threads: int | None) -> None:
    if device is not None and not isinstance(device, str):
        raise TypeError(
            f"device is {device!r}: expected the backend's name of one, such as 'CPU' or '0'"
        )
    if num_threads is None:
        return
    if not isinstance(num_threads, int) or isinstance(num_threads, bool):
        raise TypeError(f"num_threads is {num_threads!r}: expected a whole number, or None")
    if num_threads < 1:
        raise ValueError(
            f"num_threads is {num_threads}: expected at least 1, or None for all cores"
        )


def _refuse_mistaken_models(bundle: Bundle, artefact: Artefact, graphs: Graphs) -> None:
    """Close the graphs and raise BundleError if they do not take what theirs would."""
    found = {"template": graphs.template.input_names, "search": graphs.search.input_names}
    if found == INPUT_NAMES:
        return
    graphs.close()
    named = "; ".join(
        f"{artefact.graphs[name].model} as the {name} graph, it takes {', '.join(sorted(inputs))}, "
        f"expected {', '.join(sorted(INPUT_NAMES[name]))}"
        for name, inputs in found.items()
    )
    redo = "convert the checkpoint again"
    if artefact.format == "tensorrt":
        redo = f"build the engine again: edge-tracker build {bundle.path} --to tensorrt"
    raise BundleError(f"bundle {bundle.path}: {MANIFEST} names {named}; {redo}")


def backend_of(artefact: Artefact) -> str:
    return backend_of_format(artefact.format)


def backend_of_format(kind: str) -> str:
    return "onnxruntime" if kind == "onnx" else kind


def matching_artefacts(
    bundle: Bundle, backends: Sequence[str] | None, precisions: Sequence[str] | None
) -> tuple[Artefact, ...]:
    """The bundle's artefacts for these backends in these precisions, all by default.

    Engines that differ only in the device they were built on count once, as the backend takes the
    one that fits. Raises ValueError if there is none.
    """
    chosen: dict[str, Artefact] = {}
    for artefact in bundle.artefacts:
        if (backends is None or backend_of(artefact) in backends) and (
            precisions is None or artefact.precision in precisions
        ):
            chosen.setdefault(artefact.name, artefact)
    if not chosen:
        asked = [f"{' or '.join(names)}" for names in (backends, precisions) if names is not None]
        have = ", ".join(f"{backend_of(a)} {a.precision}" for a in bundle.artefacts) or "none"
        raise ValueError(f"bundle {bundle.path} has nothing for {' in '.join(asked)}, only: {have}")
    return tuple(chosen.values())


def _find_artefact(
    bundle: Bundle, backend: str, precision: str | None, device: str | None
) -> Artefact | None:
    if backend == "tensorrt":
        from edge_tracker.backends.tensorrt.opening import find_engine

        return find_engine(bundle, precision, device)
    return bundle.find("openvino" if backend == "openvino" else "onnx", precision)


def _compiler(backend: str) -> Compile:
    try:
        if backend == "tensorrt":
            from edge_tracker.backends.tensorrt import opening

            return opening.compile_graphs
        if backend == "openvino":
            from edge_tracker.backends import openvino

            return openvino.compile_graphs
        from edge_tracker.backends import onnxruntime

        return onnxruntime.compile_graphs
    except ImportError as error:
        raise BackendUnavailable(
            f"{backend} is installed but does not load ({error}); install it again"
        ) from error


def why_not(backend: str) -> str | None:
    """What keeps a backend from running on this machine, with the remedy; None if nothing does."""
    if backend == "tensorrt":
        from edge_tracker.backends.tensorrt.module import runtime_obstacle
        from edge_tracker.hardware import read_nvidia

        obstacle = runtime_obstacle(read_nvidia(Path("/")))
        return str(obstacle) if obstacle is not None else None
    if find_spec(backend) is None:
        return f"the package is not installed (pip install 'edge-tracker[{backend}]')"
    return None


def _no_artefact(bundle: Bundle, backend: str, precision: str | None) -> str:
    have = ", ".join(artefact.name for artefact in bundle.artefacts) or "nothing"
    if backend == "tensorrt":
        command = f"edge-tracker build {bundle.path} --to tensorrt --precision"
        return f"the bundle has no engine; build one on the device: {command} {precision or 'fp16'}"
    wanted = f"{precision} artefact" if precision else "artefact"
    return (
        f"the bundle has no {wanted} for it, only {have}; "
        "convert the checkpoint with --to and --precision"
    )
