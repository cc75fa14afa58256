"""What the machine is made of, as far as it matters: CPU, NVIDIA driver and its CUDA, GPUs."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Flag in /proc/cpuinfo -> what it does for this tracker.
X86_FEATURES = {
    "avx2": "fp32, 8 numbers at once",
    "avx512f": "fp32, 16 numbers at once",
    "avx_vnni": "int8 dot products on AVX2",
    "avx512_vnni": "int8 dot products on AVX-512",
    "avx512_bf16": "bf16 dot products on AVX-512",
    "amx_int8": "int8 matrix tiles",
    "amx_bf16": "bf16 matrix tiles",
}
ARM_FEATURES = {
    "asimd": "fp32, 4 numbers at once (NEON)",
    "asimdhp": "fp16 arithmetic",
    "asimddp": "int8 dot products",
    "i8mm": "int8 matrix products",
    "bf16": "bf16 matrix products",
}


@dataclass(frozen=True)
class CpuFeature:
    flag: str
    present: bool
    purpose: str


@dataclass(frozen=True)
class Cpu:
    """usable_cores: those this process may use. features: empty where the system does not tell."""

    model: str
    cores: int
    usable_cores: int
    features: tuple[CpuFeature, ...]


@dataclass(frozen=True)
class CudaDevice:
    name: str
    compute_capability: str


@dataclass(frozen=True)
class Nvidia:
    """driver: kernel driver's version. l4t: Jetson Linux release. cuda: version it supports.

    devices: what the driver lets this process use, which can be less than what is built in.
    """

    driver: str | None
    l4t: str | None
    cuda: str | None
    devices: tuple[CudaDevice, ...]


def read_cpu(root: Path) -> Cpu:
    """CPU by /proc/cpuinfo under `root`."""
    cpuinfo = read_text(root / "proc/cpuinfo") or ""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    purposes = X86_FEATURES if "flags" in fields else ARM_FEATURES
    model = fields.get("model name") or platform.processor() or platform.machine()
    if "CPU part" in fields:
        model = f"Arm, implementer {fields.get('CPU implementer')}, part {fields['CPU part']}"
    cores = os.cpu_count() or 1
    return Cpu(
        model=model,
        cores=cores,
        usable_cores=len(os.sched_getaffinity(0)) if sys.platform == "linux" else cores,
        features=tuple(
            CpuFeature(flag, flag in flags, purpose) for flag, purpose in purposes.items()
        )
        if flags
        else (),
    )


def usable_cores(root: Path) -> int:
    """Cores that this process may use, of which two threads count once: by its affinity mask, and
    by /sys under `root`; at most as many as its CPU quota (`docker --cpus`), rounded up. All where
    the system does not tell.
    """
    if sys.platform != "linux":
        return os.cpu_count() or 1
    topology = root / "sys/devices/system/cpu"
    siblings = "topology/thread_siblings_list"
    allowed = {
        read_text(topology / f"cpu{number}" / siblings) or str(number)
        for number in os.sched_getaffinity(0)
    }
    return min([len(allowed), *_cpu_quotas(root)])


def _cpu_quotas(root: Path) -> Iterator[int]:
    """Of the process's control group and those around it (cgroup v2), in whole CPUs."""
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        if line.startswith("0::/"):
            group = Path(line.removeprefix("0::/"))
            for folder in (group, *group.parents):
                limit = read_text(root / "sys/fs/cgroup" / folder / "cpu.max") or ""
                quota, _, period = limit.partition(" ")
                if quota.isdigit() and period.isdigit():
                    yield max(1, math.ceil(int(quota) / int(period)))


def read_nvidia(root: Path) -> Nvidia:
    """Driver and Jetson release by files under `root`; devices by asking the driver."""
    kernel_module = read_text(root / "proc/driver/nvidia/version") or ""
    match = re.search(r"Kernel Module(?: for \S+)?\s+(\d[\d.]*)", kernel_module)
    release = re.search(
        r"R(\d+) \(release\), REVISION: ([\d.]+)", read_text(root / "etc/nv_tegra_release") or ""
    )
    cuda, devices = _ask_cuda_driver()
    return Nvidia(
        driver=match[1] if match else read_text(root / "sys/module/nvidia/version"),
        l4t=f"{release[1]}.{release[2]}" if release else None,
        cuda=cuda,
        devices=devices,
    )


def _ask_cuda_driver() -> tuple[str | None, tuple[CudaDevice, ...]]:
    """CUDA version and usable devices; creates no context, so it takes no GPU memory."""
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None, ()
    number = ctypes.c_int()
    name = ctypes.create_string_buffer(256)

    def attribute(which: int, device: int) -> int:
        cuda.cuDeviceGetAttribute(ctypes.byref(number), which, device)
        return number.value

    if cuda.cuDriverGetVersion(ctypes.byref(number)) != 0:
        return None, ()
    version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(number)) != 0:
        return version, ()
    devices = []
    for device in range(number.value):
        cuda.cuDeviceGetName(name, len(name), device)
        # 75 and 76: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
        capability = f"{attribute(75, device)}.{attribute(76, device)}"
        devices.append(CudaDevice(name.value.decode(errors="replace"), capability))
    return version, tuple(devices)


def read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n") or None
    except OSError:
        return None
