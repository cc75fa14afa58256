"""OpenVINO: Intel CPUs, integrated GPUs and NPUs, and any other x86 or Arm CPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_tracker.backends.graph import Arrays
from edge_tracker.backends.record import Backend, missing_package
from edge_tracker.bundle.contract import GRAPHS, ON_DEVICE
from edge_tracker.bundle.manifest import Artefact
from edge_tracker.bundle.opening import Bundle
from edge_tracker.errors import BackendUnavailable

if TYPE_CHECKING:
    import openvino as ov


class OpenVinoGraph:
    """One compiled graph and its infer requests.

    Two requests take turns, so that tensors handed out by one run stay valid until the run after
    the next.
    """

    def __init__(self, compiled: ov.CompiledModel, requests: int) -> None:
        from openvino import Tensor

        self._tensor_type = Tensor
        self._requests = [compiled.create_infer_request() for _ in range(requests)]
        self._turn = cycle(self._requests)
        self.input_names = frozenset(port.any_name for port in compiled.inputs)
        self._output_names = [port.any_name for port in compiled.outputs]
        self.output_names = frozenset(self._output_names)

    def run(self, inputs: Arrays) -> Arrays:
        request = self._fill(inputs)
        request.infer()
        return self._outputs(request)

    def start(self, inputs: Arrays) -> Callable[[], Arrays]:
        request = self._fill(inputs)
        request.start_async()

        def outputs() -> Arrays:
            request.wait()
            return self._outputs(request)

        return outputs

    def time_copies(self) -> None:
        """On a CPU nothing is copied to a device; of others OpenVINO does not tell."""

    def close(self) -> None:
        for request in self._requests:
            request.wait()
        self._requests.clear()
        self._turn = cycle(())

    def _fill(self, inputs: Arrays) -> ov.InferRequest:
        request = next(self._turn)
        request.wait()
        for name, value in inputs.items():
            if isinstance(value, self._tensor_type):
                request.set_tensor(name, value)
            else:
                request.get_tensor(name).data[...] = value
        return request

    def _outputs(self, request: ov.InferRequest) -> Arrays:
        outputs: dict[str, Any] = {}
        for name in self._output_names:
            tensor = request.get_tensor(name)
            outputs[name] = tensor if name in ON_DEVICE else tensor.data.copy()
        return outputs


@cache
def openvino_core() -> ov.Core:
    """The one of this process, which lives as long.

    On Linux each core gives the process an alternative stack for signals, and frees it when it
    goes. Of two, the younger then puts back the older one's, which may be gone: the next signal
    that Python handles, Ctrl-C for one, ends the process (OpenVINO 2026.4).
    """
    import openvino as ov

    return ov.Core()


def compile_graphs(
    bundle: Bundle,
    artefact: Artefact,
    device: str | None,
    num_threads: int | None,
    cache_dir: str | Path | None,
) -> tuple[OpenVinoGraph, OpenVinoGraph, str]:
    """Both graphs (template, search), compiled for one target, and the device ("CPU" unless asked).

    Compiled models are kept in `cache_dir`, so that later starts are fast; by default in the user's
    cache folder, if that can be written. Raises BackendUnavailable for a device that is not there
    or a model that it refuses, OSError for a `cache_dir` that cannot be made.
    """
    core = openvino_core()
    device = device or "CPU"
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if device == "CPU":
        config["INFERENCE_PRECISION_HINT"] = _float_type(core, artefact.precision)
    if (cache_folder := _cache_folder(cache_dir)) is not None:
        config["CACHE_DIR"] = str(cache_folder)
    if num_threads is not None:
        config["INFERENCE_NUM_THREADS"] = num_threads
    graphs = []
    # Two for the template graph, so that the keys and values in use stay while others are made.
    for name, requests in zip(GRAPHS, (2, 1), strict=True):
        files = artefact.graphs[name]
        weights = bundle.path / files.weights if files.weights else None
        try:
            model = core.read_model(bundle.path / files.model, weights or "")
            model.reshape(
                {port.any_name: [1, *list(port.partial_shape)[1:]] for port in model.inputs}
            )
            compiled = core.compile_model(model, device, config)
            graphs.append(OpenVinoGraph(compiled, requests))
        except Exception as error:  # a damaged model makes OpenVINO raise what it likes
            raise BackendUnavailable(
                f"openvino refuses {bundle.path / files.model} on device {device!r} (here are "
                f"{', '.join(core.available_devices)}): {_last_line(error)}"
            ) from error
    template, search = graphs
    return template, search, device


def _float_type(core: ov.Core, precision: str) -> str:
    """What a CPU computes in where it does not compute in int8.

    Left alone, OpenVINO takes bfloat16 on CPUs that have it. Only beside int8 is what that costs
    lost in what int8 costs: see docs/decisions.md.
    """
    has_bfloat16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if precision == "int8" and has_bfloat16 else "f32"


def _cache_folder(cache_dir: str | Path | None) -> Path | None:
    if cache_dir is not None:
        folder = Path(cache_dir)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    folder = Path.home() / ".cache" / "edge_tracker" / "openvino"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


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
)
