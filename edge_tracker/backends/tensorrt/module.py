"""Which TensorRT module this machine has, what it lacks to run one, and what the module says when
it fails.

Two modules have the same interface as far as it is used here: `tensorrt` (Jetson, data-centre GPUs)
and `tensorrt_rtx` (TensorRT for RTX, desktop GPUs).
"""

from __future__ import annotations

import importlib
from typing import Any

from edge_tracker.backends.record import Obstacle
from edge_tracker.errors import BackendUnavailable
from edge_tracker.hardware import Nvidia
from edge_tracker.installing import is_installed

#: In the order of preference where both are installed.
MODULES = ("tensorrt", "tensorrt_rtx")
#: The end of TensorRT's last messages that goes into ours.
LOG_CHARACTERS = 400


def installed_modules() -> tuple[str, ...]:
    return tuple(name for name in MODULES if is_installed(name))


def device_obstacle(nvidia: Nvidia) -> Obstacle | None:
    """Why there is no CUDA device, if there is none."""
    if nvidia.devices:
        return None
    if nvidia.driver is None and nvidia.cuda is None:
        return Obstacle(
            "no CUDA device: the NVIDIA driver is missing",
            "install NVIDIA's driver; in a container, start it with --gpus all "
            "(on a Jetson --runtime nvidia)",
        )
    return Obstacle(
        "no CUDA device that this process may use, though a driver is there",
        "check CUDA_VISIBLE_DEVICES and the permissions of /dev/nvidia*; in a container, start it "
        "with --gpus all (on a Jetson --runtime nvidia)",
    )


def module_obstacle(nvidia: Nvidia) -> Obstacle | None:
    """Why no TensorRT module can be imported, if there is none."""
    if installed_modules():
        return None
    remedy = "pip install tensorrt_rtx (GPUs since Turing), or NVIDIA's own tensorrt"
    if nvidia.l4t is not None:
        remedy = (
            "sudo apt install python3-libnvinfer, and make the Python environment with "
            "--system-site-packages"
        )
    return Obstacle("no tensorrt or tensorrt_rtx module", remedy)


def runtime_obstacle(nvidia: Nvidia) -> Obstacle | None:
    """What keeps an engine from running here, first thing first; loads nothing."""
    obstacle = device_obstacle(nvidia) or module_obstacle(nvidia)
    if obstacle is None and not any(map(is_installed, ("cuda.bindings", "pycuda"))):
        # Of the same major version as the driver's CUDA.
        major = f"=={nvidia.cuda.split('.')[0]}.*" if nvidia.cuda else ""
        obstacle = Obstacle(
            "neither cuda.bindings nor pycuda is installed",
            f"pip install 'cuda-bindings{major}' (or pycuda, which is compiled here against the "
            "CUDA toolkit)",
        )
    return obstacle


def load_module(name: str) -> Any:
    """Import a TensorRT module, BackendUnavailable if its libraries do not load."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise BackendUnavailable(
            f"{name} is installed but does not load ({error}); install TensorRT's libraries of the "
            "same version (on a Jetson: sudo apt install --reinstall tensorrt python3-libnvinfer)"
        ) from error


def make_log(trt: Any) -> Any:
    """A logger for builders and runtimes that keeps errors, for messages of ours, and prints none.

    Its `last_words()` are what was said since the last time it was asked.
    """

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)

        def last_words(self) -> str:
            words = " ".join(" ".join(self.errors).split())
            self.errors.clear()
            return words[-LOG_CHARACTERS:] or "it gives no reason"

    return Log()
