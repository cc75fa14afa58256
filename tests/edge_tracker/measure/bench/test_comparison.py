"""An old report against a new one."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_tracker.cli.main import main
from edge_tracker.errors import EdgeTrackerError
from edge_tracker.hardware import Cpu, Nvidia
from edge_tracker.measure.bench.comparison import compare_reports
from edge_tracker.measure.bench.latency import distribution_of
from edge_tracker.measure.bench.report import (
    BenchReport,
    BenchSettings,
    MeasuredArtefact,
    Recommendation,
)
from edge_tracker.measure.doctor import Diagnosis, Package
from tests.helpers.measured_artefacts import QUIET, measured


def report_of(*artefacts: MeasuredArtefact, openvino: str = "2026.4") -> BenchReport:
    return BenchReport(
        created="2026-01-01T00:00:00+00:00",
        bundle="small.bundle",
        source_sha256="5eed" * 16,
        settings=BenchSettings(640, 480, None, 2, 10.0, None, None),
        machine=Diagnosis(
            edge_tracker="0.1.0",
            python="CPython 3.11",
            executable="python",
            system="Linux",
            architecture="x86_64",
            board=None,
            cpu=Cpu("Some CPU", 4, 4, ()),
            nvidia=Nvidia(None, None, None, ()),
            packages=(Package("openvino", "openvino", openvino),),
            backends=(),
            warnings=(),
        ),
        power_mode=None,
        before=QUIET,
        after=QUIET,
        other_load=None,
        overhead_us=1.0,
        artefacts=artefacts,
        failures=(),
        warnings=(),
        recommendation=Recommendation(None, ""),
    )


def as_json(report: BenchReport) -> Any:
    return json.loads(json.dumps(dataclasses.asdict(report)))


def test_old_against_new() -> None:
    old = as_json(report_of(measured("a/fp32", 4.0), measured("gone/fp32", 1.0)))
    new = report_of(measured("a/fp32", 5.0), measured("b/fp32", 1.0), openvino="2027.0")
    comparison = compare_reports(old, as_json(new))
    ratios = {entry.figure: (entry.artefact, entry.ratio) for entry in comparison.ratios}
    assert ratios == {
        "update p50": ("a/fp32", 1.25),
        "update p95": ("a/fp32", 1.25),
        "update p99": ("a/fp32", 1.25),
        "init p50": ("a/fp32", 1.0),
    }
    assert comparison.differences == ("openvino: 2026.4 then, 2027.0 now",)


@pytest.mark.parametrize("old", [{}, [], {"artefacts": [{}]}, {"artefacts": None}])
def test_a_file_that_is_no_report_is_refused(old: Any) -> None:
    with pytest.raises(EdgeTrackerError, match="older report was not written by bench --json"):
        compare_reports(old, as_json(report_of(measured("a/fp32", 4.0))))


def test_reports_with_nothing_in_common_are_refused() -> None:
    old = as_json(report_of(measured("a/fp32", 4.0)))
    with pytest.raises(EdgeTrackerError, match="a/fp32 then, b/fp32 now"):
        compare_reports(old, as_json(report_of(measured("b/fp32", 4.0))))


@pytest.mark.parametrize(
    ("added_ms", "verdict"), [(0.2, "slower"), (-0.2, "faster"), (0.02, "within chance")]
)
def test_intervals_that_overlap_decide_nothing(added_ms: float, verdict: str) -> None:
    # 600 updates from 5 to 6 ms: the interval of the median is 0.08 ms wide.
    old, new = (
        as_json(report_of(replace(measured("a/fp32", 1.0), update=distribution_of(ms.tolist()))))
        for ms in (np.linspace(5, 6, 600), np.linspace(5, 6, 600) + added_ms)
    )
    by_figure = {entry.figure: entry.verdict for entry in compare_reports(old, new).ratios}
    assert by_figure["update p50"] == verdict
    assert by_figure["init p50"] == "not known", "one init() has no interval"


def test_a_report_without_intervals_still_compares() -> None:
    old = as_json(report_of(measured("a/fp32", 4.0)))
    del old["artefacts"][0]["update"]["intervals"]
    ratios = compare_reports(old, as_json(report_of(measured("a/fp32", 5.0)))).ratios
    assert {entry.verdict for entry in ratios} == {"not known"}
    assert ratios[0].ratio == 1.25


def test_one_line_compares_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(as_json(report_of(measured("a/fp32", 4.0)))))
    new.write_text(json.dumps(as_json(report_of(measured("a/fp32", 5.0)))))
    assert main(["bench", str(new), "--compare", str(old)]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "update p50" in line]
    assert row.replace("│", " ").split() == [
        "a/fp32",
        "update",
        "p50",
        "4.000",
        "5.000",
        "1.250",
        "slower",
    ]
    assert main(["bench", str(new)]) == 1
    assert "add --compare OLD.json" in capsys.readouterr().err
