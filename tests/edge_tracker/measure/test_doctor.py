"""What doctor reports, on this machine and on described ones."""

from __future__ import annotations

import ctypes
import dataclasses
import importlib.util
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from edge_tracker import hardware
from edge_tracker.backends import openvino
from edge_tracker.backends.choice import BACKENDS
from edge_tracker.backends.tensorrt import opening
from edge_tracker.cli.main import main
from edge_tracker.hardware import CudaDevice, Nvidia
from edge_tracker.installing import install_command
from edge_tracker.measure import doctor

X86_CPUINFO = """\
processor\t: 0
model name\t: Intel(R) Core(TM) Ultra 7 155H
flags\t\t: fpu sse4_2 avx avx2 avx_vnni

processor\t: 1
model name\t: Intel(R) Core(TM) Ultra 7 155H
flags\t\t: fpu sse4_2 avx avx2 avx_vnni
"""
ARM_CPUINFO = """\
processor\t: 0
Features\t: fp asimd aes asimdhp asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd42

processor\t: 1
Features\t: fp asimd aes asimdhp asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd44
"""
NO_NVIDIA = Nvidia(driver=None, l4t=None, cuda=None, devices=())
ORIN = Nvidia("540.4.0", "36.4.3", "12.6", (CudaDevice("Orin", "8.7"),))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def present(root: Path) -> set[str]:
    return {feature.flag for feature in hardware.read_cpu(root).features if feature.present}


def test_this_machine() -> None:
    diagnosis = doctor.diagnose()
    assert diagnosis.python.endswith(platform.python_version())
    assert diagnosis.architecture == platform.machine()
    assert 1 <= diagnosis.cpu.usable_cores <= diagnosis.cpu.cores
    versions = {package.module: package.version for package in diagnosis.packages}
    assert versions["numpy"] == metadata.version("numpy")
    assert list(versions) == list(doctor.packages_of_interest())
    assert [status.backend for status in diagnosis.backends] == [
        "openvino",
        "onnxruntime",
        "tensorrt",
    ]
    for status in diagnosis.backends:
        assert status.found
        assert not (status.available and status.remedy)
    with pytest.raises(dataclasses.FrozenInstanceError):
        diagnosis.python = "2.7"  # type: ignore[misc]


def test_x86_features_and_model(tmp_path: Path) -> None:
    write(tmp_path / "proc/cpuinfo", X86_CPUINFO)
    cpu = hardware.read_cpu(tmp_path)
    assert cpu.model == "Intel(R) Core(TM) Ultra 7 155H"
    assert [feature.flag for feature in cpu.features] == list(hardware.X86_FEATURES)
    assert present(tmp_path) == {"avx2", "avx_vnni"}


def test_arm_features_and_model(tmp_path: Path) -> None:
    write(tmp_path / "proc/cpuinfo", ARM_CPUINFO)
    assert hardware.read_cpu(tmp_path).model == "Arm, implementer 0x41, part 0xd42"
    assert present(tmp_path) == {"asimd", "asimdhp", "asimddp"}


def test_features_are_unknown_where_the_system_does_not_tell(tmp_path: Path) -> None:
    cpu = hardware.read_cpu(tmp_path)
    assert cpu.features == ()
    assert cpu.model


@pytest.mark.parametrize(
    ("version_file", "driver"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.90.07  Fri May 31\nGCC version:",
            "550.90.07",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.133.20  Release Build",
            "570.133.20",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build",
            "540.4.0",
        ),
    ],
)
def test_nvidia_driver(tmp_path: Path, version_file: str, driver: str) -> None:
    write(tmp_path / "proc/driver/nvidia/version", version_file)
    assert hardware.read_nvidia(tmp_path).driver == driver


def test_nvidia_driver_of_which_only_the_module_tells(tmp_path: Path) -> None:
    write(tmp_path / "sys/module/nvidia/version", "535.104.05\n")
    assert hardware.read_nvidia(tmp_path).driver == "535.104.05"


def test_jetson_linux_release(tmp_path: Path) -> None:
    write(
        tmp_path / "etc/nv_tegra_release",
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    )
    assert hardware.read_nvidia(tmp_path).l4t == "36.4.3"
    assert hardware.read_nvidia(tmp_path / "elsewhere").l4t is None


class CudaDriver:
    """The six functions of libcuda that are asked, for one device of compute capability 8.7."""

    def __init__(self, init_status: int = 0) -> None:
        self.init_status = init_status

    def cuInit(self, flags: int) -> int:
        return self.init_status

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = 12060
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = 1
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: int) -> int:
        name.value = b"Orin"
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> int:
        value._obj.value = {75: 8, 76: 7}[attribute]
        return 0


def test_cuda_devices_are_those_the_driver_lets_us_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: CudaDriver())
    nvidia = hardware.read_nvidia(tmp_path)
    assert (nvidia.cuda, nvidia.devices) == ("12.6", (CudaDevice("Orin", "8.7"),))
    no_device = 100
    monkeypatch.setattr(ctypes, "CDLL", lambda name: CudaDriver(init_status=no_device))
    nvidia = hardware.read_nvidia(tmp_path)
    assert (nvidia.cuda, nvidia.devices) == ("12.6", ())


def test_no_cuda_library_is_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", absent)
    assert hardware.read_nvidia(tmp_path) == NO_NVIDIA


def test_a_module_without_metadata_is_present_in_an_unknown_version() -> None:
    assert doctor.find_package("json", ("no-such-distribution",)).version == "unknown"
    assert doctor.find_package("no_such_module", ("no-such-distribution",)).version is None
    numpy = doctor.find_package("numpy", ("no-such-distribution", "numpy"))
    assert numpy.distribution == "numpy"


def test_a_missing_opencv_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.missing_opencv() == ()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (line,) = doctor.missing_opencv()
    assert line == f"OpenCV is not installed: {install_command('opencv-headless')}"


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_missing_backend_comes_with_the_command_that_installs_it(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends = {record.name: record for record in BACKENDS}
    monkeypatch.setitem(sys.modules, backend, None)
    status = doctor.status_of(backends[backend])
    assert not status.available
    assert backend in status.found
    assert status.remedy == install_command(backend)


def test_openvino_lists_its_devices() -> None:
    pytest.importorskip("openvino", reason="needs openvino")
    status = doctor.status_of(openvino.BACKEND)
    assert status.available
    assert status.found.startswith("CPU (")


@pytest.mark.parametrize(
    ("nvidia", "modules", "available", "found", "remedy"),
    [
        (NO_NVIDIA, ["tensorrt"], False, "driver is missing", "NVIDIA's driver"),
        (dataclasses.replace(ORIN, devices=()), [], False, "may use", "--gpus all"),
        (ORIN, [], False, "no tensorrt", "apt install python3-libnvinfer"),
        (dataclasses.replace(ORIN, l4t=None), [], False, "no tensorrt", "pip install tensorrt_rtx"),
        (ORIN, ["tensorrt"], False, "neither cuda.bindings", "pip install 'cuda-bindings==12.*'"),
        (ORIN, ["tensorrt", "pycuda"], True, "Orin (SM 8.7), by tensorrt", None),
        (ORIN, ["tensorrt", "cuda.bindings"], True, "Orin (SM 8.7), by tensorrt", None),
    ],
)
def test_tensorrt_says_what_is_missing_first(
    nvidia: Nvidia,
    modules: list[str],
    available: bool,
    found: str,
    remedy: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in modules or None)
    monkeypatch.setattr(opening, "read_nvidia", lambda root: nvidia)
    status = doctor.status_of(opening.BACKEND)
    assert status.available is available
    assert found in status.found
    assert status.remedy is None if remedy is None else remedy in str(status.remedy)


def test_looking_for_packages_imports_none_of_them() -> None:
    script = (
        "import sys; from edge_tracker.measure import doctor\n"
        "packages = doctor.packages_of_interest()\n"
        "for module, names in packages.items(): doctor.find_package(module, names)\n"
        "sys.exit(sum(module in sys.modules for module in packages))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_distributions_that_overwrite_each_other_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installed = {"opencv-python", "opencv-python-headless", "numpy"}
    monkeypatch.setattr(doctor, "_version", lambda name: "4.12" if name in installed else None)
    (warning,) = doctor.diagnose().warnings
    assert warning.startswith("opencv-python and opencv-python-headless are installed together")
    assert "pip uninstall opencv-python opencv-python-headless" in warning
    main(["doctor"])
    assert f"warning: {warning}" in capsys.readouterr().out


def test_one_of_each_is_nothing_to_warn_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: "1" if name == "opencv-python" else None)
    assert doctor.overwritten_modules() == ()
