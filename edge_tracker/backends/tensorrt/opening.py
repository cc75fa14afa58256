"""TensorRT: engines that were built on this device from the bundle's ONNX (edge-tracker build)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_tracker.backends.record import Backend, Obstacle, Placement
from edge_tracker.backends.tensorrt.cuda_session import CudaSession, open_session
from edge_tracker.backends.tensorrt.fingerprint import matching_engine, rebuild_command
from edge_tracker.backends.tensorrt.module import (
    installed_modules,
    load_module,
    make_log,
    runtime_obstacle,
)
from edge_tracker.bundle.contract import GRAPHS
from edge_tracker.bundle.manifest import PRECISIONS, Artefact
from edge_tracker.bundle.opening import Bundle
from edge_tracker.errors import BackendUnavailable
from edge_tracker.hardware import Nvidia, read_nvidia

if TYPE_CHECKING:
    from edge_tracker.backends.tensorrt.engine import LoadedEngine, TensorRtGraph


def engines_of(bundle: Bundle, precision: str | None) -> tuple[Artefact, ...]:
    """The bundle's engines of this precision, or all, the most exact first."""
    wanted = PRECISIONS if precision is None else (precision,)
    return tuple(
        artefact
        for candidate in wanted
        for artefact in bundle.artefacts
        if (artefact.format, artefact.precision) == ("tensorrt", candidate)
    )


def find_engine(bundle: Bundle, precision: str | None, device: str | None) -> Artefact | None:
    """The engine that belongs to this machine; None if the bundle has none at all.

    Raises BackendUnavailable if none can run here, EngineMismatch if none belongs here, BundleError
    for a damaged engine.json.
    """
    engines = engines_of(bundle, precision)
    if not engines:
        return None
    nvidia = read_nvidia(Path("/"))
    if (obstacle := runtime_obstacle(nvidia)) is not None:
        raise BackendUnavailable(str(obstacle))
    return matching_engine(bundle, engines, nvidia, _ordinal(device, nvidia))[0]


def compile_graphs(
    bundle: Bundle,
    artefact: Artefact,
    placement: Placement,
) -> tuple[TensorRtGraph, TensorRtGraph, str]:
    """Both graphs (template, search), and the name of the GPU. The placement's device: number of
    the CUDA device, "0" by default; nothing else of it has a meaning here.

    Raises EngineMismatch for an engine that was not built here, BackendUnavailable if CUDA's
    driver, its bindings or TensorRT refuse, or if the GPU's memory does not suffice.
    """
    from edge_tracker.backends.tensorrt.cuda_bindings import CudaBindings
    from edge_tracker.backends.tensorrt.engine import TensorRtGraph

    nvidia = read_nvidia(Path("/"))
    ordinal = _ordinal(placement.device, nvidia)
    _, fingerprint = matching_engine(bundle, (artefact,), nvidia, ordinal)
    trt = load_module(fingerprint.module)
    session = open_session(ordinal)
    try:
        with session.current():
            template, search = _load_pair(bundle, artefact, trt, session)
    except BaseException:
        session.close()
        raise
    driver = session.cuda.driver if isinstance(session.cuda, CudaBindings) else None
    return (
        TensorRtGraph("template", session, template, driver),
        TensorRtGraph("search", session, search, driver),
        f"CUDA {ordinal} ({nvidia.devices[ordinal].name})",
    )


def _ordinal(device: str | None, nvidia: Nvidia) -> int:
    choices = {str(index): index for index in range(len(nvidia.devices))}
    if (device or "0") not in choices:
        listed = ", ".join(f"{i} ({gpu.name})" for i, gpu in enumerate(nvidia.devices)) or "none"
        raise BackendUnavailable(f"tensorrt has no device {device!r} here: choose {listed}")
    return choices[device or "0"]


def _load_pair(
    bundle: Bundle, artefact: Artefact, trt: Any, session: CudaSession
) -> tuple[LoadedEngine, LoadedEngine]:
    from edge_tracker.backends.tensorrt.engine import allocate

    log = make_log(trt)
    runtime = trt.Runtime(log)
    loaded = []
    for name in GRAPHS:
        path = bundle.path / artefact.graphs[name].model
        try:
            engine = runtime.deserialize_cuda_engine(path.read_bytes())
            context = engine.create_execution_context() if engine is not None else None
            if context is None:
                raise BackendUnavailable(
                    f"TensorRT {trt.__version__} refuses {path} ({log.last_words()}; "
                    f"{_memory(session.cuda)}); close other programs if memory ran out, or build "
                    f"the engine again: {rebuild_command(bundle, artefact.precision)}"
                )
            loaded.append(allocate(session, trt, engine, context))
        except session.cuda.MemoryError as error:
            raise BackendUnavailable(
                f"out of GPU memory for {path} ({_memory(session.cuda)}): close other programs, or "
                "build an engine for fewer targets or of a smaller precision"
            ) from error
        except session.cuda.Error as error:
            raise BackendUnavailable(f"CUDA fails while loading {path}: {error}") from error
    template, search = loaded
    return template, search


def _memory(cuda: Any) -> str:
    free_bytes, total_bytes = cuda.mem_get_info()
    return f"{free_bytes / 1e6:.0f} of {total_bytes / 1e6:.0f} MB of GPU memory are free"


def _find() -> Obstacle | None:
    return runtime_obstacle(read_nvidia(Path("/")))


def _found() -> str:
    devices = ", ".join(
        f"{device.name} (SM {device.compute_capability})"
        for device in read_nvidia(Path("/")).devices
    )
    return f"{devices}, by {' and '.join(installed_modules())}"


def _absent(bundle: Bundle, precision: str | None) -> str:
    command = f"edge-tracker build {bundle.path} --to tensorrt --precision"
    return f"the bundle has no engine; build one on the device: {command} {precision or 'fp16'}"


BACKEND = Backend(
    name="tensorrt",
    artefact_kinds=("tensorrt",),
    packages={
        "tensorrt": ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
        "tensorrt_rtx": ("tensorrt-rtx", "tensorrt-rtx-cu12", "tensorrt-rtx-cu13"),
        "cuda.bindings": ("cuda-bindings",),
        "pycuda": ("pycuda",),
    },
    find=_find,
    found=_found,
    open=compile_graphs,
    computes=lambda artefact, device: ("f32" if artefact.precision == "fp32" else "f16",),
    choose=lambda backend, bundle, precision, device: find_engine(bundle, precision, device),
    absent=_absent,
    device_bound=True,
)
