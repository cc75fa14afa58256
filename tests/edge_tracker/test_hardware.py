"""What the machine is made of."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edge_tracker.hardware import usable_cores

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the topology")


def machine(root: Path, siblings: dict[int, str]) -> Path:
    for number, together in siblings.items():
        file = root / f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list"
        file.parent.mkdir(parents=True)
        file.write_text(f"{together}\n")
    return root


@linux
@pytest.mark.parametrize(
    ("usable", "cores"),
    [({0, 1, 2, 3}, 2), ({0, 1}, 2), ({0, 2}, 1), ({3}, 1), ({0, 1, 9}, 3)],
)
def test_two_threads_of_a_core_count_once(
    usable: set[int], cores: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = machine(tmp_path, {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: usable)
    assert usable_cores(root) == cores


@linux
@pytest.mark.parametrize(
    ("limits", "cores"),
    [
        ({"": "max 100000"}, 4),
        ({"": "200000 100000"}, 2),
        ({"": "150000 100000"}, 2),
        ({"": "20000 100000"}, 1),
        ({"": "900000 100000"}, 4),
        ({"pod/app": "max 100000", "pod": "100000 100000"}, 1),
        ({"other": "100000 100000"}, 4),
        ({"": "100000"}, 4),
    ],
    ids=str,
)
def test_a_quota_of_the_control_group_or_one_around_it_limits_the_cores(
    limits: dict[str, str], cores: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3})
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/pod/app\n")
    for group, limit in limits.items():
        folder = tmp_path / "sys/fs/cgroup" / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(f"{limit}\n")
    assert usable_cores(tmp_path) == cores


def test_elsewhere_all_cores_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores(tmp_path) == 6
