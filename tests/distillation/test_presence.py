"""The numbers of presence: fitted to what a tracker shows, judged by footage that was left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from converters.convert import convert_checkpoint
from distillation import presence
from distillation.presence import ABSENT, Frames, cross_validated, describe, fit
from edge_tracker.bundle.opening import Bundle
from edge_tracker.errors import CheckpointError, DatasetError
from edge_tracker.rules.presence_model import FEATURES


def frames_of(signs: dict[str, float], each: int = 100) -> Frames:
    """A target that is there in half of the frames; all features show it, or its opposite."""
    random = np.random.default_rng(0)
    count = each * len(signs)
    overlaps = np.where(random.random(count) < 0.5, 0.9, ABSENT)
    groups = np.repeat(list(signs), each)
    sign = np.repeat(list(signs.values()), each)
    noise = random.normal(0, 0.3, (count, len(FEATURES)))
    features = (sign * np.sign(overlaps))[:, None] + noise
    return Frames(features, overlaps, groups, np.full(count, "real"))


def test_a_group_is_judged_by_the_others() -> None:
    """What means the opposite in one group misleads there, and there alone."""
    frames = frames_of({"a": 1.0, "b": 1.0, "c": 1.0, "d": -1.0})
    found = frames.overlaps > 0
    right = (cross_validated(frames) > 0) == found
    assert right[:300].mean() > 0.95
    assert right[300:].mean() < 0.05


def test_it_says_how_well_score_and_presence_tell() -> None:
    frames = frames_of({"a": 1.0, "b": 1.0, "c": 1.0})
    lines = list(describe(frames, cross_validated(frames)))
    assert lines[0] == "300 frames of 3 groups"
    assert "presence: ROC AUC 1.000, 100.0% of them told at 5% false alarms" in lines[3]


def test_the_threshold_has_the_stated_false_alarms() -> None:
    frames = frames_of({"a": 0.3, "b": 0.3})
    model = fit(frames)
    told = np.array([model(row) for row in frames.features.tolist()])
    found = frames.overlaps > 0.5
    assert (told[found] < model.found_presence).mean() == pytest.approx(0.05, abs=0.01)
    assert (told[~found] >= model.regained_presence).mean() == pytest.approx(0.01, abs=0.01)


def test_a_tracker_that_is_always_right_teaches_nothing() -> None:
    frames = frames_of({"a": 1.0, "b": 1.0})
    with pytest.raises(DatasetError, match="in all frames or in none"):
        fit(frames._replace(overlaps=np.full(len(frames.overlaps), 0.8)))


def test_from_footage_to_a_bundle_that_tells_presence(
    trained_bundle: Bundle,
    tiny_checkpoint: Path,
    annotated_clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(presence, "PERIOD", 10)
    checkpoint = tmp_path / "own.pth.tar"
    checkpoint.write_bytes(tiny_checkpoint.read_bytes())
    numbers = tmp_path / "own.presence.json"
    arguments = [
        str(trained_bundle.path),
        "--sequences",
        str(annotated_clips),
        "--max-frames",
        "40",
    ]
    presence.main([*arguments, "--backend", "onnxruntime", "-o", str(numbers)])
    bundle = convert_checkpoint(
        checkpoint, tmp_path / "bundle", targets=["onnx"], precisions=["fp32"]
    )
    assert bundle.presence is not None
    content = json.loads(numbers.read_text())
    assert dict(zip(FEATURES, bundle.presence.weights, strict=True)) == content["weights"]
    assert bundle.presence.found_presence == content["found_presence"]
    assert np.isfinite(bundle.presence.weights).all()

    capsys.readouterr()
    presence.main([*arguments, "--backend", "onnxruntime", "--judge", str(numbers)])
    assert "presence: ROC AUC " in capsys.readouterr().out

    numbers.write_text(json.dumps({**content, "found_presence": 2}))
    with pytest.raises(CheckpointError, match=r"own.presence.json.*found_presence is 2"):
        convert_checkpoint(checkpoint, tmp_path / "other", targets=["onnx"], precisions=["fp32"])
