"""What the machine does while something is measured: clocks, temperatures, power, other load."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edge_tracker.hardware import read_text

#: Rails of a Jetson's power monitor that carry all that the module takes.
TOTAL_RAILS = ("VDD_IN", "POM_5V_IN")


@dataclass(frozen=True)
class EnergyCounter:
    """Joules since some moment; it starts again at 0 when it reaches `range_j`."""

    joules: float
    range_j: float


@dataclass(frozen=True)
class MachineState:
    """At one moment; empty or None where the system does not tell.

    governors: distinct ones of the CPU cores. cpu_mhz: mean over cores. throttle_events: of the
    CPU cores since the system started. power_w: by rail. energy: by processor package (RAPL, which
    Linux lets only root read). gpu_clock_locked: whether a Jetson's GPU keeps its clock, as after
    `jetson_clocks`.
    """

    governors: tuple[str, ...]
    cpu_mhz: float | None
    cpu_max_mhz: float | None
    throttle_events: int | None
    load_average: float | None
    temperatures_c: Mapping[str, float]
    power_w: Mapping[str, float]
    energy: Mapping[str, EnergyCounter]
    gpu_mhz: float | None
    gpu_clock_locked: bool | None

    @property
    def total_power_w(self) -> float | None:
        return next((self.power_w[rail] for rail in TOTAL_RAILS if rail in self.power_w), None)


@dataclass(frozen=True)
class CpuSeconds:
    """Of all cores together since the system started. stolen: given to other virtual machines."""

    busy: float
    stolen: float
    total: float


def read_state(root: Path = Path("/")) -> MachineState:
    """By files under `root` alone, in about a millisecond."""
    cpus = root / "sys/devices/system/cpu"
    gpu = _jetson_gpu(root)
    gpu_hz = _number(gpu / "cur_freq") if gpu else None
    load = (read_text(root / "proc/loadavg") or "").split()
    throttled = _numbers(cpus, "cpu[0-9]*/thermal_throttle/core_throttle_count")
    current_khz = _numbers(cpus, "cpu[0-9]*/cpufreq/scaling_cur_freq")
    max_khz = _numbers(cpus, "cpu[0-9]*/cpufreq/cpuinfo_max_freq")
    governors = {read_text(path) for path in cpus.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    return MachineState(
        governors=tuple(sorted(name for name in governors if name)),
        cpu_mhz=sum(current_khz) / len(current_khz) / 1e3 if current_khz else _cpuinfo_mhz(root),
        cpu_max_mhz=max(max_khz) / 1e3 if max_khz else None,
        throttle_events=int(sum(throttled)) if throttled else None,
        load_average=float(load[0]) if load else None,
        temperatures_c=_temperatures(root),
        power_w=_power(root),
        energy=_energy(root),
        gpu_mhz=gpu_hz / 1e6 if gpu_hz is not None else None,
        gpu_clock_locked=read_text(gpu / "min_freq") == read_text(gpu / "max_freq")
        if gpu
        else None,
    )


def energy_between_j(before: MachineState, after: MachineState, elapsed_s: float) -> float | None:
    """Of all that the module takes, by its power at both ends, or counted of the processors alone;
    None where the machine tells neither.
    """
    if before.total_power_w is not None and after.total_power_w is not None:
        return elapsed_s * (before.total_power_w + after.total_power_w) / 2
    counted = [
        (now.joules - before.energy[name].joules) % now.range_j
        for name, now in after.energy.items()
        if name in before.energy
    ]
    return sum(counted) if counted else None


def read_cpu_seconds(root: Path = Path("/")) -> CpuSeconds | None:
    for line in (read_text(root / "proc/stat") or "").splitlines():
        name, *ticks = line.split()
        if name == "cpu" and len(ticks) >= 8:
            # Guests' time is counted in user and nice already; the kernel's unit is 1/100 s.
            user, nice, system, idle, iowait, irq, softirq, steal = (
                int(tick) / 100 for tick in ticks[:8]
            )
            busy = user + nice + system + irq + softirq
            return CpuSeconds(busy, steal, busy + steal + idle + iowait)
    return None


def read_power_mode() -> str | None:
    """A Jetson's power mode, such as MAXN, by `nvpmodel -q`; None where there is none."""
    command = shutil.which("nvpmodel")
    if command is None:
        return None
    answer = _answer_of([command, "-q"])
    for line in answer.splitlines():
        name, separator, mode = line.partition("NV Power Mode:")
        if separator and not name.strip():
            return mode.strip()
    return None


def with_nvidia_smi(state: MachineState) -> MachineState:
    """Temperature, power and clock of the first NVIDIA card added, where `nvidia-smi` tells them.

    It starts a process: not for use while something is measured. Jetsons have no such command.
    """
    command = shutil.which("nvidia-smi")
    if command is None:
        return state
    query = "--query-gpu=temperature.gpu,power.draw,clocks.sm"
    answer = _answer_of([command, query, "--format=csv,noheader,nounits"])
    try:
        celsius, watts, mhz = (float(cell) for cell in answer.splitlines()[0].split(","))
    except (IndexError, ValueError):
        return state
    return replace(
        state,
        temperatures_c={**state.temperatures_c, "GPU": celsius},
        power_w={**state.power_w, "GPU": watts},
        gpu_mhz=mhz,
    )


def _answer_of(command: list[str]) -> str:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _jetson_gpu(root: Path) -> Path | None:
    """Its folder of clocks; named by address and chip, as 17000000.gpu or 17000000.ga10b."""
    for folder in sorted((root / "sys/class/devfreq").glob("*")):
        if folder.name.split(".")[-1] in ("gpu", "ga10b", "gv11b", "gp10b"):
            return folder
    return None


def _cpuinfo_mhz(root: Path) -> float | None:
    cpuinfo = read_text(root / "proc/cpuinfo") or ""
    values = [
        float(line.partition(":")[2]) for line in cpuinfo.splitlines() if line.startswith("cpu MHz")
    ]
    return sum(values) / len(values) if values else None


def _temperatures(root: Path) -> dict[str, float]:
    temperatures = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        name, millidegrees = read_text(zone / "type"), _number(zone / "temp")
        # A Jetson's zones of parts that are switched off read as far below zero.
        if name is not None and millidegrees is not None and millidegrees > -100_000:
            temperatures[name] = millidegrees / 1e3
    return temperatures


def _power(root: Path) -> dict[str, float]:
    """Rails with a label, by power or by voltage times current."""
    power = {}
    for label_path in sorted((root / "sys/class/hwmon").glob("hwmon*/*_label")):
        label, kind = read_text(label_path), label_path.name.removesuffix("_label")
        if label is None:
            continue
        if kind.startswith("power"):
            microwatts = _number(label_path.with_name(f"{kind}_input"))
            if microwatts is not None:
                power[label] = microwatts / 1e6
        elif kind.startswith("in"):
            millivolts = _number(label_path.with_name(f"{kind}_input"))
            milliamperes = _number(label_path.with_name(f"curr{kind[2:]}_input"))
            if millivolts is not None and milliamperes is not None:
                power[label] = millivolts * milliamperes / 1e6
    return power


def _energy(root: Path) -> dict[str, EnergyCounter]:
    counters = {}
    for folder in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        name, range_uj = read_text(folder / "name"), _number(folder / "max_energy_range_uj")
        microjoules = _number(folder / "energy_uj")
        # Parts of a package, such as its cores, are counted in it already.
        if name is not None and name.startswith("package") and range_uj and microjoules is not None:
            counters[name] = EnergyCounter(microjoules / 1e6, range_uj / 1e6)
    return counters


def _numbers(folder: Path, pattern: str) -> list[float]:
    numbers = (_number(path) for path in folder.glob(pattern))
    return [number for number in numbers if number is not None]


def _number(path: Path) -> float | None:
    try:
        return float(read_text(path) or "")
    except ValueError:
        return None
