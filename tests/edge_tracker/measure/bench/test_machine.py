"""What machine.py reads from described systems."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edge_tracker.measure.bench import machine
from edge_tracker.measure.bench.machine import (
    EnergyCounter,
    read_cpu_seconds,
    read_power_mode,
    read_state,
    with_nvidia_smi,
)


def describe(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_a_laptop(tmp_path: Path) -> None:
    cpu = "sys/devices/system/cpu/cpu"
    describe(
        tmp_path,
        {
            f"{cpu}0/cpufreq/scaling_governor": "powersave",
            f"{cpu}0/cpufreq/scaling_cur_freq": "1800000",
            f"{cpu}0/cpufreq/cpuinfo_max_freq": "4700000",
            f"{cpu}0/thermal_throttle/core_throttle_count": "3",
            f"{cpu}1/cpufreq/scaling_governor": "performance",
            f"{cpu}1/cpufreq/scaling_cur_freq": "2200000",
            f"{cpu}1/cpufreq/cpuinfo_max_freq": "4500000",
            f"{cpu}1/thermal_throttle/core_throttle_count": "4",
            "proc/loadavg": "1.25 0.80 0.50 2/900 1234",
            "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp",
            "sys/class/thermal/thermal_zone0/temp": "54000",
            "sys/class/hwmon/hwmon1/power1_label": "PPT",
            "sys/class/hwmon/hwmon1/power1_input": "15000000",
            "sys/class/powercap/intel-rapl:0/name": "package-0",
            "sys/class/powercap/intel-rapl:0/energy_uj": "2500000",
            "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143000000",
            "sys/class/powercap/intel-rapl:0:0/name": "core",
            "sys/class/powercap/intel-rapl:0:0/energy_uj": "1500000",
            "sys/class/powercap/intel-rapl:0:0/max_energy_range_uj": "262143000000",
        },
    )
    state = read_state(tmp_path)
    assert state.governors == ("performance", "powersave")
    assert (state.cpu_mhz, state.cpu_max_mhz, state.throttle_events) == (2000.0, 4700.0, 7)
    assert state.load_average == 1.25
    assert state.temperatures_c == {"x86_pkg_temp": 54.0}
    assert state.power_w == {"PPT": 15.0}
    assert state.total_power_w is None, "one rail of a laptop is not all that it takes"
    assert state.energy == {"package-0": EnergyCounter(2.5, 262143.0)}, "cores are in the package"
    assert state.gpu_mhz is state.gpu_clock_locked is None


def test_a_jetson(tmp_path: Path) -> None:
    gpu = "sys/class/devfreq/17000000.gpu"
    describe(
        tmp_path,
        {
            f"{gpu}/cur_freq": "612000000",
            f"{gpu}/min_freq": "306000000",
            f"{gpu}/max_freq": "918000000",
            "sys/class/thermal/thermal_zone0/type": "gpu-thermal",
            "sys/class/thermal/thermal_zone0/temp": "47500",
            "sys/class/thermal/thermal_zone1/type": "cv0-thermal",
            "sys/class/thermal/thermal_zone1/temp": "-256000",
            "sys/class/hwmon/hwmon1/in1_label": "VDD_IN",
            "sys/class/hwmon/hwmon1/in1_input": "5000",
            "sys/class/hwmon/hwmon1/curr1_input": "1400",
            "sys/class/hwmon/hwmon1/in7_label": "Sum of shunt voltages",
            "sys/class/hwmon/hwmon1/in7_input": "3",
        },
    )
    state = read_state(tmp_path)
    assert (state.gpu_mhz, state.gpu_clock_locked) == (612.0, False)
    assert state.temperatures_c == {"gpu-thermal": 47.5}
    assert state.power_w == {"VDD_IN": 7.0}
    assert state.total_power_w == 7.0
    (tmp_path / gpu / "min_freq").write_text("918000000\n")
    assert read_state(tmp_path).gpu_clock_locked is True


def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    state = read_state(tmp_path)
    assert state.governors == ()
    assert state.cpu_mhz is state.load_average is state.throttle_events is None
    assert state.temperatures_c == state.power_w == {}
    assert not state.energy
    assert read_cpu_seconds(tmp_path) is None


def test_a_virtual_machine_tells_its_clock_in_cpuinfo(tmp_path: Path) -> None:
    describe(tmp_path, {"proc/cpuinfo": "cpu MHz\t\t: 2600.000\n\ncpu MHz\t\t: 2400.000"})
    assert read_state(tmp_path).cpu_mhz == 2500.0


def test_cpu_seconds(tmp_path: Path) -> None:
    describe(tmp_path, {"proc/stat": "cpu  100 10 50 900 40 5 5 30 20 0\ncpu0 1 2 3 4 5 6 7 8"})
    seconds = read_cpu_seconds(tmp_path)
    assert seconds is not None
    assert (seconds.busy, seconds.stolen, seconds.total) == pytest.approx((1.7, 0.3, 11.4))


def test_power_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert read_power_mode() is None
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/sbin/{name}")
    answer = subprocess.CompletedProcess((), 0, "NV Power Mode: MAXN_SUPER\n2\n", "")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: answer)
    assert read_power_mode() == "MAXN_SUPER"


def test_an_nvidia_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = read_state(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert with_nvidia_smi(state) == state
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    answers = iter(["41, 68.50, 1980\n39, 70.1, 1410\n", "41, [N/A], 1980\n", ""])
    monkeypatch.setattr(machine, "_answer_of", lambda command: next(answers))
    card = with_nvidia_smi(state)
    assert (card.temperatures_c, card.power_w, card.gpu_mhz) == ({"GPU": 41.0}, {"GPU": 68.5}, 1980)
    assert with_nvidia_smi(state) == with_nvidia_smi(state) == state
