"""A backend is one file and one line: what is added shows up wherever backends are listed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from edge_tracker import BackendUnavailable, EdgeTracker
from edge_tracker.backends import choice
from edge_tracker.bundle.opening import Bundle
from edge_tracker.cli.main import main
from edge_tracker.measure.bench.benchmark import benchmark
from edge_tracker.measure.bench.comparison import compare_reports
from edge_tracker.measure.doctor import diagnose
from edge_tracker.measure.verify import verify
from edge_tracker.video.rendered_clip import render_clip
from tests.helpers import fake_backend


@pytest.fixture
def toaster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "BACKENDS", (*choice.BACKENDS, fake_backend.BACKEND))


@pytest.mark.usefixtures("toaster")
def test_it_is_chosen(nano_bundle: Bundle, cache_dir: Path) -> None:
    clip = list(render_clip(2))
    with EdgeTracker(nano_bundle, backend="toaster", cache_dir=cache_dir) as tracker:
        tracker.init(clip[0].image, clip[0].box)
        assert tracker.update(clip[1].image).found in (True, False)
        assert (tracker.choice.backend, tracker.choice.device) == ("toaster", "TOASTER")
        assert tracker.choice.reasons == ("toaster: chosen, onnx/fp32 in f32 on TOASTER",)


def test_where_it_is_missing_the_choice_says_why_and_what_to_do(
    nano_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = dataclasses.replace(fake_backend.BACKEND, find=fake_backend.missing)
    monkeypatch.setattr(choice, "BACKENDS", (absent,))
    says = "toaster: no toaster is plugged in; plug one in"
    with pytest.raises(BackendUnavailable, match=says):
        EdgeTracker(nano_bundle)
    (status,) = diagnose().backends
    assert (status.available, status.found, status.remedy) == (
        False,
        "no toaster is plugged in",
        "plug one in",
    )


@pytest.mark.usefixtures("toaster")
def test_doctor_lists_it_and_its_packages() -> None:
    diagnosis = diagnose()
    status = next(each for each in diagnosis.backends if each.backend == "toaster")
    assert (status.available, status.found) == (True, "TOASTER, two slots")
    assert "json" in [package.module for package in diagnosis.packages]


@pytest.mark.usefixtures("toaster")
def test_bench_measures_it_and_compares_versions_of_its_packages(
    nano_bundle: Bundle, cache_dir: Path
) -> None:
    settings: dict[str, Any] = {
        "backends": ["toaster"],
        "precisions": ["fp32"],
        "cache_dir": cache_dir,
    }
    report = benchmark(nano_bundle, iterations=3, cold_starts=0, **settings)
    (measured,) = report.artefacts
    assert (measured.backend, measured.device) == ("toaster", "TOASTER")
    assert report.recommendation.artefact in (None, "onnx/fp32")
    new = dataclasses.asdict(report)
    old = json.loads(json.dumps(new))
    (package,) = (each for each in old["machine"]["packages"] if each["module"] == "json")
    package["version"] = "1.0"
    assert "json: 1.0 then, unknown now" in compare_reports(old, new).differences


@pytest.mark.usefixtures("toaster")
def test_verify_runs_what_it_takes(nano_bundle: Bundle, cache_dir: Path) -> None:
    verification = verify(nano_bundle, backends=["toaster"], cache_dir=cache_dir)
    assert {each.backend for each in verification.artefacts} == {"toaster"}
    assert {each.device for each in verification.artefacts} == {"TOASTER"}


@pytest.mark.usefixtures("toaster")
@pytest.mark.parametrize("command", ["track", "bench", "verify", "eval"])
def test_the_command_line_offers_it(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "toaster" in capsys.readouterr().out
