"""What this machine can run, and for what it cannot: why not, and the command that changes it."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edge_tracker.backends import choice
from edge_tracker.backends.record import Backend
from edge_tracker.errors import BackendUnavailable
from edge_tracker.hardware import Cpu, Nvidia, read_cpu, read_nvidia, read_text
from edge_tracker.installing import EXTRA_OF, install_command, is_installed, pip_command
from edge_tracker.version import __version__

#: Module -> distributions that bring it: what the runtime needs, then what conversion does.
RUNTIME = {
    "numpy": ("numpy",),
    "cv2": (
        "opencv-python",
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
}
#: Modules whose distributions stand for one another. Those of TensorRT depend on one another.
BROUGHT_BY_ONE = ("cv2", "onnxruntime")
CONVERSION = {
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
    warnings: tuple[str, ...]


def diagnose() -> Diagnosis:
    """Look at this machine and Python environment; loads the backends that are present."""
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
        packages=tuple(
            find_package(module, names) for module, names in packages_of_interest().items()
        ),
        # What any machine can install comes first.
        backends=tuple(
            status_of(backend)
            for backend in sorted(choice.BACKENDS, key=lambda backend: backend.device_bound)
        ),
        warnings=(*missing_opencv(), *overwritten_modules()),
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
    return Package(module, None, "unknown" if is_installed(module) else None)


def missing_opencv() -> tuple[str, ...]:
    """A line where there is none: no package requires one, so that any build can be chosen."""
    if is_installed("cv2"):
        return ()
    return (f"OpenCV is not installed: {install_command(EXTRA_OF['cv2'])}",)


def overwritten_modules() -> tuple[str, ...]:
    """A line for each module that several installed distributions bring, so that its files are of
    whichever was installed last, and go with whichever is removed.
    """
    packages = packages_of_interest()
    found = {
        module: [name for name in packages.get(module, ()) if _version(name) is not None]
        for module in BROUGHT_BY_ONE
    }
    return tuple(
        f"{' and '.join(names)} are installed together and overwrite each other's {module}: "
        f"{pip_command('uninstall', *names)}, then install the one that you need"
        for module, names in found.items()
        if len(names) > 1
    )


def packages_of_interest() -> dict[str, tuple[str, ...]]:
    packages = dict(RUNTIME)
    for backend in choice.BACKENDS:
        packages.update(backend.packages)
    return {**packages, **CONVERSION}


def status_of(backend: Backend) -> BackendStatus:
    obstacle = backend.find()
    if obstacle is not None:
        return BackendStatus(backend.name, False, obstacle.reason, obstacle.remedy)
    try:
        return BackendStatus(backend.name, True, backend.found(), None)
    except (ImportError, RuntimeError, BackendUnavailable) as error:
        return BackendStatus(backend.name, False, str(error), install_command(backend.name))
