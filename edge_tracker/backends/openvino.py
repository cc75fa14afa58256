"""OpenVINO: Intel CPUs, integrated GPUs and NPUs, and any other x86 or Arm CPU."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_tracker.backends.compile_cache import cache_folder, load_kept, store_kept
from edge_tracker.backends.graph import Arrays, refuse_after_fork
from edge_tracker.backends.record import Backend, Placement, missing_package
from edge_tracker.bundle.contract import GRAPHS, ON_DEVICE
from edge_tracker.bundle.manifest import Artefact
from edge_tracker.bundle.opening import Bundle
from edge_tracker.errors import BackendUnavailable
from edge_tracker.hardware import usable_cores

if TYPE_CHECKING:
    import openvino as ov
    from numpy.typing import NDArray

_log = logging.getLogger(__name__)


class OpenVinoGraph:
    """One graph, compiled for one target, and its infer requests.

    Several targets are as many requests side by side, a core each: on a CPU that is faster than a
    batch, whose cores wait for each other after every layer (docs/decisions.md). compile_streams:
    compiles the graph for that; called at the first run of more than one target.
    """

    most_targets: int | None = None

    def __init__(
        self, compiled: ov.CompiledModel, compile_streams: Callable[[], ov.CompiledModel]
    ) -> None:
        self._process = os.getpid()
        self._request = compiled.create_infer_request()
        self._compile_streams = compile_streams
        self._streams: ov.CompiledModel | None = None
        self._side_by_side: list[ov.InferRequest] = []
        #: Of the last run: OpenVINO does not keep what it shares.
        self._shared: list[Any] = []
        self.input_names = frozenset(port.any_name for port in compiled.inputs)
        self._outputs = {
            port.any_name: (tuple(port.shape)[1:], port.element_type.to_dtype())
            for port in compiled.outputs
        }
        self.output_names = frozenset(self._outputs)

    def run(self, inputs: Arrays) -> Arrays:
        return self.start(inputs)()

    def start(self, inputs: Arrays, into: NDArray[Any] | None = None) -> Callable[[], Arrays]:
        import numpy as np  # not above: listing the backends, as --help does, loads nothing

        refuse_after_fork(self._process)
        targets = len(next(iter(inputs.values())))
        requests = self._requests(targets)
        outputs = {
            name: np.empty((targets, *row_shape), dtype)
            if into is None or name not in ON_DEVICE
            else into
            for name, (row_shape, dtype) in self._outputs.items()
        }
        shared: list[Any] = []
        for place, request in enumerate(requests):
            request.wait()
            row = slice(place, place + 1)
            for name, value in inputs.items():
                if name in ON_DEVICE:
                    shared += _share(request, name, value[row])
                else:
                    request.get_tensor(name).data[...] = value[row]
            for name, value in outputs.items():
                shared += _share(request, name, value[row])
        self._shared = shared
        for request in requests:
            request.start_async()

        def finished() -> Arrays:
            for request in requests:
                request.wait()
            return outputs

        return finished

    def reserve(self, targets: int) -> NDArray[Any]:
        import numpy as np

        ((row_shape, dtype),) = (self._outputs[name] for name in ON_DEVICE)
        return np.zeros((targets, *row_shape), dtype)

    def copy(self, source: NDArray[Any], target: NDArray[Any]) -> None:
        target[...] = source

    def time_copies(self) -> None:
        """On a CPU nothing is copied to a device; of others OpenVINO does not tell."""

    def close(self) -> None:
        for request in (self._request, *self._side_by_side):
            request.wait()
        self._side_by_side.clear()
        self._shared.clear()
        del self._request
        self._streams = None

    def _requests(self, targets: int) -> Sequence[ov.InferRequest]:
        if targets == 1:
            return (self._request,)
        if self._streams is None:
            self._streams = self._compile_streams()
        while len(self._side_by_side) < targets:
            self._side_by_side.append(self._streams.create_infer_request())
        return self._side_by_side[:targets]


def _share(request: ov.InferRequest, name: str, array: NDArray[Any]) -> tuple[Any, Any]:
    """Let a request read or write an array in place; returns what has to be kept meanwhile."""
    from openvino import Tensor

    tensor = Tensor(array, shared_memory=True)
    request.set_tensor(name, tensor)
    return tensor, array


def openvino_core() -> ov.Core:
    """The one of this process, which lives as long.

    On Linux each core gives the process an alternative stack for signals, and frees it when it
    goes. Of two, the younger then puts back the older one's, which may be gone: the next signal
    that Python handles, Ctrl-C for one, ends the process (OpenVINO 2026.4).

    Raises BackendUnavailable in a process that was forked from one that has used OpenVINO, where
    it would wait for ever for threads that a fork does not copy.
    """
    core, process = _first_core()
    refuse_after_fork(process)
    return core


@cache
def _first_core() -> tuple[ov.Core, int]:
    """With the process that made it."""
    try:
        with without_telemetry():
            import openvino as ov
    except RuntimeError as error:
        raise BackendUnavailable(f"openvino does not load ({_last_line(error)})") from error
    return ov.Core(), os.getpid()


#: OpenVINO's and NNCF's package for it.
_TELEMETRY = "openvino_telemetry"


@contextmanager
def without_telemetry() -> Iterator[None]:
    """For what imports OpenVINO or NNCF first. They report each import and each conversion, from a
    process that they fork for it, and want a home to note a number for the user in; where their
    package for it is missing they do without. No effect on what was imported before.
    """
    if _TELEMETRY in sys.modules:
        yield
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]


#: Names that stand for devices, and are not listed among them.
_META_DEVICES = ("AUTO", "BATCH", "HETERO", "MULTI")


def compile_graphs(
    bundle: Bundle,
    artefact: Artefact,
    placement: Placement,
) -> tuple[OpenVinoGraph, OpenVinoGraph, str]:
    """Both graphs (template, search), compiled for one target, and the device ("CPU" unless asked).

    Compiled models are kept in the placement's `cache_dir`, so that later starts are fast; by
    default in the user's cache folder, if that can be written. Raises BackendUnavailable for a
    device that is not there or a model that it refuses, OSError for a `cache_dir` that cannot be
    made.
    """
    core = openvino_core()
    device, compute = placement.device or "CPU", placement.compute
    if compute is None and device == "CPU":
        compute = _computes(artefact, device)[0]
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if compute is not None:
        config["INFERENCE_PRECISION_HINT"] = compute
    if placement.num_threads is not None:
        config["INFERENCE_NUM_THREADS"] = placement.num_threads
    folder = cache_folder(placement.cache_dir)
    graphs = []
    for name in GRAPHS:
        model = artefact.graphs[name].model
        compile_for = partial(_compile_or_load, bundle, artefact, name, device, folder=folder)
        try:
            graphs.append(
                OpenVinoGraph(compile_for(config), partial(compile_for, _streams(config, device)))
            )
        except Exception as error:  # a damaged model makes OpenVINO raise what it likes
            here = core.available_devices
            if device.isalpha() and device not in (*here, *_META_DEVICES):
                raise BackendUnavailable(
                    f"openvino has no device {device!r} here: choose {', '.join(here)}"
                ) from error
            raise BackendUnavailable(
                f"openvino refuses {bundle.path / model} on device {device!r} (here are "
                f"{', '.join(here)}): {_last_line(error)}"
            ) from error
    template, search = graphs
    return template, search, device


def _streams(config: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The same, for requests side by side: of a CPU's threads each is a stream of its own."""
    threads = config.get("INFERENCE_NUM_THREADS", usable_cores(Path("/")))
    return {
        **config,
        "PERFORMANCE_HINT": "THROUGHPUT",
        **({"NUM_STREAMS": threads, "INFERENCE_NUM_THREADS": threads} if device == "CPU" else {}),
    }


def _compile_or_load(
    bundle: Bundle,
    artefact: Artefact,
    name: str,
    device: str,
    config: Mapping[str, Any],
    *,
    folder: Path | None,
) -> ov.CompiledModel:
    """One graph, compiled here or as an earlier start left it in `folder`.

    Not OpenVINO's own CACHE_DIR: that maps files into memory which another process may be writing,
    and takes what they hold on trust.
    """
    core = openvino_core()
    files = artefact.graphs[name]
    weights = bundle.path / files.weights if files.weights else None
    parts = [files.model, *([files.weights] if files.weights else [])]
    kept = f"{_key(bundle, parts, device, config)}.compiled"
    if folder is not None and (blob := load_kept(folder, kept)) is not None:
        try:
            return core.import_model(io.BytesIO(blob), device, dict(config))
        except RuntimeError as error:
            _log.info("%s is compiled anew: %s", files.model, _last_line(error))
    model = core.read_model(bundle.path / files.model, weights or "")
    model.reshape({port.any_name: [1, *list(port.partial_shape)[1:]] for port in model.inputs})
    compiled = core.compile_model(model, device, dict(config))
    if folder is not None:
        try:
            # Into a stream: what it returns without one differs between versions.
            compiled.export_model(exported := io.BytesIO())
        except RuntimeError as error:  # not every device can
            _log.info("%s cannot be kept compiled: %s", files.model, _last_line(error))
        else:
            store_kept(folder, kept, exported.getvalue())
    return compiled


def _key(bundle: Bundle, files: list[str], device: str, config: Mapping[str, Any]) -> str:
    """Differs wherever the compiled model would."""
    import openvino as ov

    core = openvino_core()
    facts = [
        ov.get_version(),
        device,
        str(core.get_property(device, "FULL_DEVICE_NAME")),
        sorted(core.get_property(device, "OPTIMIZATION_CAPABILITIES")),
        sorted((name, str(value)) for name, value in config.items()),
        [bundle.files[file].sha256 for file in files],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


#: OpenVINO's word for what a device has -> the type.
_CAPABILITIES = {"FP32": "f32", "FP16": "f16", "BF16": "bf16"}


def _computes(artefact: Artefact, device: str | None) -> tuple[str, ...]:
    """Left alone, OpenVINO takes bfloat16 on CPUs that have it. There float32 comes first; only
    beside int8 is what bfloat16 costs lost in what int8 costs: see docs/decisions.md.
    """
    device = device or "CPU"
    try:
        capabilities = openvino_core().get_property(device, "OPTIMIZATION_CAPABILITIES")
    except RuntimeError:  # a device that is not there, which compiling will say
        return ("f32",)
    has = [compute for word, compute in _CAPABILITIES.items() if word in capabilities]
    first = "f16" if device != "CPU" else "bf16" if artefact.precision == "int8" else "f32"
    return tuple(sorted(has, key=lambda compute: compute != first)) or ("f32",)


def _last_line(error: Exception) -> str:
    """OpenVINO's messages begin with source files and line numbers, and end with the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _found() -> str:
    core = openvino_core()
    devices = [
        f"{device} ({str(core.get_property(device, 'FULL_DEVICE_NAME')).strip()})"
        for device in core.available_devices
    ]
    if not devices:
        raise BackendUnavailable("OpenVINO sees no device here")
    return ", ".join(devices)


BACKEND = Backend(
    name="openvino",
    artefact_kinds=("openvino",),
    packages={"openvino": ("openvino",)},
    find=lambda: missing_package("openvino"),
    found=_found,
    open=compile_graphs,
    computes=_computes,
)
