"""The benchmarks run and print the ratio that they exist for; what it is depends on the machine."""

from __future__ import annotations

import os
import shutil

import pytest

from benchmarks import cached_search, core_distance, int8
from benchmarks.interleaved import median_difference, median_ratio, time_in_turn
from edge_tracker.bundle import Bundle


def test_subjects_take_turns_and_warm_up_is_not_counted() -> None:
    calls: list[str] = []
    times_ms = time_in_turn(
        {"first": lambda: calls.append("first"), "second": lambda: calls.append("second")},
        rounds=3,
        warm_up=2,
    )
    assert calls == ["first", "second"] * 5
    assert [len(values) for values in times_ms.values()] == [3, 3]


def test_ratio_and_difference_are_medians_over_the_rounds() -> None:
    slow_ms, fast_ms = [4.0, 9.0, 100.0], [2.0, 3.0, 10.0]
    assert median_ratio(slow_ms, fast_ms) == 3.0
    assert median_difference(slow_ms, fast_ms) == 6.0


def test_cached_search_prints_its_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    cached_search.main(["--geometry", "nano", "--rounds", "3"])
    printed = capsys.readouterr().out
    assert "uncut / search" in printed
    assert "update() - search" in printed


def test_int8_prints_its_three_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nncf", reason="quantising needs nncf")
    int8.main(["--geometry", "nano", "--rounds", "3", "--threads", "1"])
    printed = capsys.readouterr().out
    for ratio in ("fp32 / int8", "uncut ONNX Runtime / update()", "uncut PyTorch / update()"):
        assert ratio in printed


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPU cores")
def test_core_distance_prints_a_line_for_each_group(
    nano_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    core_distance.main([str(nano_bundle.path), "--seconds", "2"])
    *seconds, last = capsys.readouterr().out.splitlines()
    assert all(line.startswith("round trip") for line in seconds[:2])
    assert "one / two" in last
