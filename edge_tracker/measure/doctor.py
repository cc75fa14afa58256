"""What this machine can run, and for what it cannot: why not, and the command that changes it."""

from __future__ import annotations

import importlib.util
import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edge_tracker.backends.tensorrt.module import installed_modules, runtime_obstacle
from edge_tracker.hardware import Cpu, Nvidia, read_cpu, read_nvidia, read_text
from edge_tracker.version import __version__

#: Module -> distributions that bring it.
PACKAGES = {
    "numpy": ("numpy",),
    "cv2": (
        "opencv-python",
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
    "tensorrt": ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
    "tensorrt_rtx": ("tensorrt-rtx", "tensorrt-rtx-cu12", "tensorrt-rtx-cu13"),
    "pycuda": ("pycuda",),
    "torch": ("torch",),
    "onnx": ("onnx",),
    "onnxsim": ("onnxsim",),
    "nncf": ("nncf",),
}


@dataclass(frozen=True)
class Package:
    """A Python module and its version; None where it is not installed."""

    module: str
    distribution: str | None
    version: str | None


@dataclass(frozen=True)
class BackendStatus:
    """found: devices or version where available, else why not. remedy: what to do, if anything."""

    backend: str
    available: bool
    found: str
    remedy: str | None


@dataclass(frozen=True)
class Diagnosis:
    edge_tracker: str
    python: str
    executable: str
    system: str
    architecture: str
    board: str | None
    cpu: Cpu
    nvidia: Nvidia
    packages: tuple[Package, ...]
    backends: tuple[BackendStatus, ...]


def diagnose() -> Diagnosis:
    """Look at this machine and Python environment; loads OpenVINO and ONNX Runtime if present."""
    root = Path("/")
    nvidia = read_nvidia(root)
    return Diagnosis(
        edge_tracker=__version__,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        executable=sys.executable,
        system=_system_name(),
        architecture=platform.machine(),
        board=read_text(root / "proc/device-tree/model"),
        cpu=read_cpu(root),
        nvidia=nvidia,
        packages=tuple(find_package(module, names) for module, names in PACKAGES.items()),
        backends=(openvino_status(), onnxruntime_status(), tensorrt_status(nvidia)),
    )


def _system_name() -> str:
    try:
        distribution = platform.freedesktop_os_release()["PRETTY_NAME"] + ", "
    except (OSError, KeyError):
        distribution = ""
    return f"{distribution}{platform.system()} {platform.release()}"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def find_package(module: str, distributions: tuple[str, ...]) -> Package:
    """Version by metadata, not importing; "unknown" for modules without, as JetPack's OpenCV."""
    for distribution in distributions:
        version = _version(distribution)
        if version is not None:
            return Package(module, distribution, version)
    present = importlib.util.find_spec(module) is not None
    return Package(module, None, "unknown" if present else None)


def openvino_status() -> BackendStatus:
    remedy = "pip install 'edge-tracker[openvino]'"
    try:
        from edge_tracker.backends.openvino import openvino_core

        core = openvino_core()
        found = [
            f"{device} ({str(core.get_property(device, 'FULL_DEVICE_NAME')).strip()})"
            for device in core.available_devices
        ]
    except (ImportError, RuntimeError) as error:
        return BackendStatus("openvino", False, str(error), remedy)
    if not found:
        return BackendStatus("openvino", False, "OpenVINO sees no device here", remedy)
    return BackendStatus("openvino", True, ", ".join(found), None)


def onnxruntime_status() -> BackendStatus:
    try:
        import onnxruntime
    except ImportError as error:
        remedy = "pip install 'edge-tracker[onnxruntime]'"
        return BackendStatus("onnxruntime", False, str(error), remedy)
    return BackendStatus("onnxruntime", True, f"CPU, version {onnxruntime.__version__}", None)


def tensorrt_status(nvidia: Nvidia) -> BackendStatus:
    """Whether a GPU, its driver, a TensorRT module and pycuda are there; none of them is loaded."""
    obstacle = runtime_obstacle(nvidia)
    if obstacle is not None:
        return BackendStatus("tensorrt", False, obstacle.reason, obstacle.remedy)
    devices = ", ".join(
        f"{device.name} (SM {device.compute_capability})" for device in nvidia.devices
    )
    found = f"{devices}, by {' and '.join(installed_modules())}"
    return BackendStatus("tensorrt", True, found, None)
