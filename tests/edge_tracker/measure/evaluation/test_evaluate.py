"""Evaluations: with trackers whose outcome is known, then with real ones, then from the shell."""

from __future__ import annotations

import json
import os
import re
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from edge_tracker import Bundle, DatasetError, Evaluation, evaluate
from edge_tracker.cli.main import main
from edge_tracker.errors import BackendUnavailable, EdgeTrackerError
from edge_tracker.measure.evaluation.contenders import (
    BundleContender,
    Contender,
    NanoTrackContender,
)
from edge_tracker.measure.evaluation.ground_truth import AnnotatedSequence, read_sequence
from edge_tracker.measure.evaluation.layouts import find_sequences
from edge_tracker.measure.evaluation.metrics import Scores
from edge_tracker.measure.evaluation.one_pass import Trajectory, follow
from edge_tracker.measure.evaluation.page import to_html
from edge_tracker.measure.evaluation.result_files import read_results, result_paths, write_results
from edge_tracker.measure.evaluation.tables import overall_table, to_json, to_markdown
from edge_tracker.video.rendered_clip import render_clip
from tests.helpers.fake_contenders import SIDE, OpenSeer, Seer, make_sequence
from tests.helpers.places import SHARED

NANOTRACK = SHARED / "data" / "peers" / "nanotrack_v2"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Sequences a, b and c, of 6, 7 and 8 frames."""
    root = tmp_path / "data set"
    for number, name in enumerate("abc"):
        make_sequence(root, name, frames=6 + number, shift=10 * number)
    return root


def evaluate_peers(dataset: Path, *peers: Contender, **options: Any) -> Evaluation:
    """Without a bundle."""
    return evaluate("absent.bundle", dataset, backends=(), peers=peers, **options)


def overall(evaluation: Evaluation, contender: str) -> Scores:
    scores = evaluation.overall(contender)
    assert scores is not None
    return scores


# What is measured


def test_overlaps_are_those_of_the_trackers_errors(dataset: Path) -> None:
    evaluation = evaluate_peers(dataset, Seer(), Seer("late", error_px=2))
    assert evaluation.layout == "plain"
    assert evaluation.sequences == ("a", "b", "c")
    perfect, late = (overall(evaluation, name) for name in ("seer", "late"))
    assert (perfect.ao, perfect.sr_75, perfect.precision_20px) == (1, 1, 1)
    assert late.ao == pytest.approx((SIDE - 2) / (SIDE + 2))
    assert (late.sr_50, late.sr_75) == (1, 0)
    assert late.frames == 5 + 6 + 7
    assert evaluation.failures == ()


def test_only_some_sequences_and_frames(dataset: Path) -> None:
    evaluation = evaluate_peers(dataset, Seer(), only=["b", "[cd]"], max_frames=3)
    assert evaluation.sequences == ("b", "c")
    assert overall(evaluation, "seer").frames == 2 + 2
    with pytest.raises(DatasetError, match=r"no sequence is named 'x\*'; the first names are a, b"):
        evaluate_peers(dataset, Seer(), only=["x*"])


def test_progress_is_told(dataset: Path) -> None:
    told: list[tuple[int, int | None, str]] = []
    evaluate_peers(dataset, Seer(), on_progress=lambda *words: told.append(words))
    assert told == [(1, 3, "a"), (2, 3, "b"), (3, 3, "c")]


def test_contenders_need_names_of_their_own(dataset: Path) -> None:
    with pytest.raises(ValueError, match="seer, seer: two have the same name"):
        evaluate_peers(dataset, Seer(), Seer(error_px=1))


def test_two_processes_give_what_one_gives(dataset: Path) -> None:
    pytest.importorskip("joblib", reason="needs edge-tracker[eval]")
    alone = evaluate_peers(dataset, Seer(error_px=3))
    together = evaluate_peers(dataset, Seer(error_px=3), jobs=2)
    assert together.sequences == alone.sequences
    for name in alone.sequences:
        ours, theirs = (e.results["seer"][name].trajectory for e in (alone, together))
        np.testing.assert_array_equal(ours.boxes_xywh, theirs.boxes_xywh)
    assert "2 processes at once" in to_markdown(together)


def test_several_processes_without_joblib_say_what_to_install(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "joblib", None)
    with pytest.raises(BackendUnavailable, match=r"joblib: .*pip install"):
        evaluate_peers(dataset, Seer(), jobs=2)


# A live camera


class Clock:
    """Moves on only while the tracker works."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class SlowSeer(OpenSeer):
    def __init__(self, clock: Clock, update_s: float) -> None:
        super().__init__(Seer())
        self._clock, self._update_s = clock, update_s

    def update(self, frame: np.ndarray) -> tuple[float, float, float, float]:
        self._clock.now_s += self._update_s
        return super().update(frame)


@pytest.mark.parametrize(
    ("update_s", "seen"),
    [
        (0.03, [0, 1, 2, 3, 4, 5, 6, 7]),
        # At 30 fps, frame 1 is done at 33 + 50 = 83 ms: frame 2 (67 ms) is missed, 3 (100 ms) not.
        (0.05, [0, 1, 3, 5, 7]),
        (0.09, [0, 1, 4, 7]),
        (10.0, [0, 1]),
    ],
)
def test_frames_that_come_while_the_tracker_is_busy_are_skipped(
    update_s: float, seen: list[int], tmp_path: Path
) -> None:
    make_sequence(tmp_path, "clip", frames=8)
    sequence = read_sequence(find_sequences(tmp_path)[0])
    clock = Clock()
    trajectory = follow(SlowSeer(clock, update_s), sequence, camera_fps=30, clock_s=clock)
    lefts = trajectory.boxes_xywh[:, 0]
    stands = [max(index for index in seen if index <= frame) for frame in range(8)]
    assert lefts.tolist() == [1 + index for index in stands]
    assert trajectory.frames_skipped == 8 - len(seen)
    np.testing.assert_allclose(trajectory.update_times_ms, 1000 * update_s)


def test_a_camera_skips_no_frames_that_it_has_time_for(dataset: Path) -> None:
    evaluation = evaluate_peers(dataset, Seer(), camera_fps=1e-3)
    assert evaluation.frames_skipped("seer") == 0
    assert "0 of 18" in to_markdown(evaluation)


@pytest.mark.parametrize("camera_fps", [0.0, -1.0, float("nan")])
def test_a_camera_needs_a_rate_and_the_machine(dataset: Path, camera_fps: float) -> None:
    with pytest.raises(ValueError, match=r"camera_fps is .*: expected a number above 0"):
        evaluate_peers(dataset, Seer(), camera_fps=camera_fps)
    with pytest.raises(ValueError, match="needs the machine to itself"):
        evaluate_peers(dataset, Seer(), camera_fps=30, jobs=2)


# Damaged sequences


def test_the_other_sequences_are_still_evaluated(dataset: Path) -> None:
    (dataset / "a" / "groundtruth.txt").write_text("1,5,10,10\n")
    (dataset / "b" / "img" / "000003.png").write_bytes(b"")
    evaluation = evaluate_peers(dataset, Seer())
    assert evaluation.sequences == ("c",)
    assert overall(evaluation, "seer").ao == 1
    first, second = evaluation.failures
    assert (first.sequence, first.contender) == ("a", None)
    assert "groundtruth.txt has 1 lines for 6 frames: line 2" in first.reason
    assert (second.sequence, second.contender) == ("b", "seer")
    assert "sequence b, line 3 of groundtruth.txt: image" in second.reason
    for text in (to_markdown(evaluation), to_html(evaluation)):
        assert "000003.png cannot be decoded" in text


def test_means_are_over_sequences_that_all_contenders_finished(dataset: Path) -> None:
    evaluation = evaluate_peers(dataset, Seer(), Seer("weak", error_px=2, fails_at=13))
    assert evaluation.sequences == ("a", "c")
    assert overall(evaluation, "seer").frames == overall(evaluation, "weak").frames == 5 + 7
    (failure,) = evaluation.failures
    assert (failure.sequence, failure.contender) == ("b", "weak")


def test_a_first_box_outside_the_frame_is_named(nano_bundle: Bundle, dataset: Path) -> None:
    lines = (dataset / "b" / "groundtruth.txt").read_text().splitlines()
    lines[0] = "500,5,10,10"
    (dataset / "b" / "groundtruth.txt").write_text("\n".join(lines))
    evaluation = evaluate(nano_bundle.path, dataset, backends=["onnxruntime"], num_threads=1)
    (failure,) = evaluation.failures
    assert failure.reason.startswith("sequence b: line 1 of groundtruth.txt cannot be tracked")
    assert "outside the frame of 64x48" in failure.reason


def test_a_frame_that_cannot_be_tracked_in_is_named_and_the_others_go_on(
    nano_bundle: Bundle, dataset: Path
) -> None:
    frame = sorted(path for path in (dataset / "b").rglob("*") if path.suffix in {".png", ".jpg"})[
        3
    ]
    cv2.imwrite(str(frame), np.zeros((8, 8, 3), np.uint8))
    evaluation = evaluate(nano_bundle.path, dataset, backends=["onnxruntime"], num_threads=1)
    assert evaluation.sequences == ("a", "c")
    (failure,) = evaluation.failures
    assert failure.reason.startswith(f"sequence b: {frame.name} cannot be tracked in: frame has")


@dataclass(frozen=True)
class Dying(Seer):
    def open(self) -> OpenSeer:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().open()


def test_a_process_that_dies_is_told_in_one_line(dataset: Path) -> None:
    pytest.importorskip("joblib", reason="needs edge-tracker[eval]")
    with pytest.raises(EdgeTrackerError, match="jobs 2: one of the processes died"):
        evaluate_peers(dataset, Dying(), jobs=2)


def test_nothing_to_evaluate_is_an_error(dataset: Path) -> None:
    for name in "abc":
        (dataset / name / "groundtruth.txt").write_text(
            "nan,nan,nan,nan\n" * (6 + "abc".index(name))
        )
    with pytest.raises(DatasetError, match="no sequence could be evaluated; the first of 3"):
        evaluate_peers(dataset, Seer())


# Result files


FROM_ZERO = ["1.000,2.000,3.500,4.000", "1.250,2.000,3.000,4.000"]
FROM_ONE = ["2.000,3.000,3.500,4.000", "2.250,3.000,3.000,4.000"]
VOT_FOLDER = "unsupervised/s/s_001"


@pytest.mark.parametrize(
    ("layout", "boxes_file", "times_file", "lines"),
    [
        ("otb", "s.txt", "times/s_time.txt", FROM_ONE),
        ("lasot", "s.txt", "times/s_time.txt", FROM_ONE),
        ("uav123", "s.txt", "times/s_time.txt", FROM_ONE),
        ("got10k", "s/s_001.txt", "s/s_time.txt", FROM_ONE),
        ("trackingnet", "s.txt", "times/s_time.txt", FROM_ZERO),
        ("plain", "s.txt", "times/s_time.txt", FROM_ZERO),
        ("vot", f"{VOT_FOLDER}.txt", f"{VOT_FOLDER}_time.value", ["1", FROM_ZERO[1]]),
    ],
)
def test_result_files_are_as_the_toolkits_read_them(
    layout: str, boxes_file: str, times_file: str, lines: list[str], tmp_path: Path
) -> None:
    boxes = np.array([(1, 2, 3.5, 4), (1.25, 2, 3, 4)])
    frames = (Path("1.png"), Path("2.png"))
    sequence = AnnotatedSequence("s", layout, frames, boxes, None, Path("groundtruth.txt"))
    trajectory = Trajectory(boxes, np.array([0.5, 0.0125]))
    assert read_results(tmp_path, sequence) is None
    write_results(tmp_path, sequence, trajectory)
    assert result_paths(tmp_path, layout, "s") == (tmp_path / boxes_file, tmp_path / times_file)
    assert (tmp_path / boxes_file).read_text().splitlines() == lines
    assert (tmp_path / times_file).read_text() == "0.50000000\n0.01250000\n"
    again = read_results(tmp_path, sequence)
    assert again is not None
    np.testing.assert_array_equal(again.boxes_xywh, boxes)
    np.testing.assert_array_equal(again.times_s, trajectory.times_s)


def test_boxes_are_written_last_as_the_sign_that_all_is_there(tmp_path: Path) -> None:
    frames = (Path("1.png"), Path("2.png"))
    boxes = np.array([(1.0, 2, 3, 4), (1, 2, 3, 4)])
    sequence = AnnotatedSequence("s", "plain", frames, boxes, None, Path("groundtruth.txt"))
    (tmp_path / "times" / "s_time.txt").mkdir(parents=True)
    with pytest.raises(ValueError, match="is a folder"):
        write_results(tmp_path, sequence, Trajectory(boxes, np.ones(2)))
    assert read_results(tmp_path, sequence) is None


def test_an_interrupted_evaluation_goes_on_where_it_stopped(dataset: Path, tmp_path: Path) -> None:
    log, results = tmp_path / "log", tmp_path / "results"
    seer = Seer(error_px=1.2345, log=log)
    whole = evaluate_peers(dataset, replace(seer, log=None))
    with pytest.raises(KeyboardInterrupt):
        evaluate_peers(dataset, replace(seer, interrupted_at=14), results=results)
    assert len(log.read_text().splitlines()) == 2
    assert sorted(file.name for file in (results / "seer").glob("*.txt")) == ["a.txt"]
    resumed = evaluate_peers(dataset, seer, results=results)
    assert len(log.read_text().splitlines()) == 2 + 2
    evaluate_peers(dataset, seer, results=results)
    assert len(log.read_text().splitlines()) == 2 + 2
    for name in whole.sequences:
        expected = whole.results["seer"][name].trajectory.boxes_xywh
        read_back = resumed.results["seer"][name].trajectory.boxes_xywh
        np.testing.assert_array_equal(read_back, expected)
    assert overall(resumed, "seer").success_auc == overall(whole, "seer").success_auc


def test_results_of_something_else_are_not_taken_over(dataset: Path, tmp_path: Path) -> None:
    evaluate_peers(dataset, Seer(), results=tmp_path / "r")
    with pytest.raises(
        ValueError, match=r"made with error_px '0.0', not '1': give another --results"
    ):
        evaluate_peers(dataset, Seer(error_px=1), results=tmp_path / "r")
    with pytest.raises(ValueError, match="made with max_frames None, not 3"):
        evaluate_peers(dataset, Seer(), results=tmp_path / "r", max_frames=3)


def test_results_that_do_not_fit_the_data_are_named(dataset: Path, tmp_path: Path) -> None:
    evaluate_peers(dataset, Seer(), results=tmp_path / "r")
    (tmp_path / "r" / "seer" / "a.txt").write_text("1,2,3,4\n")
    (tmp_path / "r" / "seer" / "b.txt").write_text("no boxes\n")
    evaluation = evaluate_peers(dataset, Seer(), results=tmp_path / "r")
    first, second = (failure.reason for failure in evaluation.failures)
    assert re.search(r"sequence a: result .*a\.txt has 1 boxes for 6 frames.*delete it", first)
    assert re.search(r"sequence b: result .*b\.txt cannot be read .*delete it", second)


def test_withheld_ground_truth_yields_files_without_scores(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path / "data", "GOT-10k_Test_000001")
    for image in (folder / "img").iterdir():
        image.rename(folder / image.name)
    (folder / "img").rmdir()
    (folder / "groundtruth.txt").write_text(f"2,6,{SIDE},{SIDE}\n")
    evaluation = evaluate_peers(tmp_path / "data", Seer(), results=tmp_path / "r")
    assert evaluation.overall("seer") is None
    assert "withheld" in to_markdown(evaluation)
    assert to_json(evaluation)["trackers"]["seer"]["mean_over_sequences"] is None
    assert "GOT-10k_Test_000001" in to_html(evaluation)
    name = "GOT-10k_Test_000001"
    lines = (tmp_path / "r" / "seer" / name / f"{name}_001.txt").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == [f"{left}.000" for left in range(2, 8)]


# Reports


def test_json_has_what_the_tables_show(dataset: Path) -> None:
    evaluation = evaluate_peers(dataset, Seer(), Seer("late", error_px=2))
    report = json.loads(json.dumps(to_json(evaluation)))
    late = report["trackers"]["late"]
    assert late["mean_over_sequences"]["ao"] == pytest.approx(2 / 3)
    assert late["mean_over_frames"]["frames"] == 18
    assert len(late["sequences"]["a"]["success_curve"]) == 21
    assert late["fps"] == pytest.approx(1000 / late["update_ms_mean"])
    assert f"{late['mean_over_sequences']['success_auc']:.3f}" in to_markdown(evaluation)


def test_the_page_needs_nothing_but_itself(dataset: Path) -> None:
    odd = dataset / "<b> & co"
    (dataset / "b").rename(odd)
    page = to_html(evaluate_peers(dataset, Seer(), Seer("late", error_px=2)))
    assert "&lt;b&gt; &amp; co" in page
    assert "<b> & co" not in page
    assert "http" not in page
    assert all(
        source.startswith("data:image/jpeg;base64,") for source in re.findall(r'src="(.+?)"', page)
    )
    # Three plots of curves; three sequences with a plot, and eight frames or all of them.
    assert page.count('<svg viewBox="0 0 420') == 3 + 3
    assert page.count("<figure>") == 6 + 7 + 8
    # Two lines in each plot, and in its legend.
    assert page.count('class="line line-1"') == 2 * 6


# Real trackers


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """A plain data set of one rendered clip."""
    folder = tmp_path / "rendered" / "clip"
    (folder / "img").mkdir(parents=True)
    lines = []
    for index, frame in enumerate(render_clip(8, 160, 120)):
        cv2.imwrite(str(folder / "img" / f"{index:06d}.png"), frame.image)
        lines.append(",".join(map(str, frame.box)))
    (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "rendered"


def test_whole_pytorch_follows_the_bundle(
    nano_bundle: Bundle, nano_checkpoint: Path, rendered: Path
) -> None:
    from mixformerv2.pytorch_tracker import PyTorchContender

    peer = PyTorchContender(nano_checkpoint, nano_bundle.tracker_defaults, num_threads=1)
    options: dict[str, Any] = {"backends": ["onnxruntime"], "num_threads": 1}
    evaluation = evaluate(nano_bundle.path, rendered, peers=[peer], **options)
    assert evaluation.contenders == ("onnxruntime-fp32", "pytorch")
    ours, theirs = (
        evaluation.results[name]["clip"].trajectory.boxes_xywh for name in evaluation.contenders
    )
    assert not np.allclose(ours[1], ours[0], atol=1)
    closed_loop_tolerance_px = 0.02
    np.testing.assert_allclose(ours, theirs, atol=closed_loop_tolerance_px)


def test_precisions_are_contenders_side_by_side(nano_bundle: Bundle, rendered: Path) -> None:
    evaluation = evaluate(
        nano_bundle.path, rendered, backends=["onnxruntime"], precisions=["fp32"], num_threads=1
    )
    assert evaluation.contenders == ("onnxruntime-fp32",)
    with pytest.raises(BackendUnavailable, match="no int8 artefact"):
        evaluate(nano_bundle.path, rendered, backends=["onnxruntime"], precisions=["fp32", "int8"])


def test_types_of_arithmetic_are_contenders_with_a_paired_difference(
    nano_bundle: Bundle, annotated_clips: Path
) -> None:
    evaluation = evaluate(
        nano_bundle.path,
        annotated_clips,
        backends=["onnxruntime"],
        computes=["f32", "f16"],
        num_threads=1,
        max_frames=4,
    )
    assert evaluation.contenders == ("onnxruntime-fp32-f32", "onnxruntime-fp16-f16")
    difference = to_json(evaluation)["trackers"]["onnxruntime-fp16-f16"]["auc_difference"]
    assert difference["sequences"] == 4
    assert difference["low"] <= difference["mean"] <= difference["high"]
    columns, rows = overall_table(evaluation)
    shown = rows[1][columns.index("AUC vs onnxruntime-fp32-f32")]
    assert shown.endswith(f"({difference['low']:+.3f} to {difference['high']:+.3f})")


def test_a_bundles_identity_changes_with_its_files(nano_bundle: Bundle) -> None:
    contender = BundleContender(nano_bundle.path, "onnxruntime", "fp32")
    assert contender.identity() == contender.identity()
    other = BundleContender(nano_bundle.path, "openvino", "fp32")
    assert contender.identity()["files"] != other.identity()["files"]


def test_nanotrack_on_a_rendered_clip(rendered: Path) -> None:
    if not NANOTRACK.is_dir():
        pytest.skip("needs ../shared/data/peers")
    if not hasattr(cv2, "TrackerNano"):
        pytest.skip("needs an OpenCV with TrackerNano")
    evaluation = evaluate_peers(rendered, NanoTrackContender(NANOTRACK), num_threads=1)
    assert overall(evaluation, "nanotrack").ao > 0.6


def test_nanotrack_is_given_whole_pixels(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin of the test above."""
    fake = SimpleNamespace(Params=SimpleNamespace, create=lambda parameters: Recorder())
    monkeypatch.setattr(cv2, "TrackerNano", fake, raising=False)
    given: list[object] = []

    class Recorder:
        def init(self, frame: np.ndarray, box: tuple[int, ...]) -> None:
            given.append(box)

        def update(self, frame: np.ndarray) -> tuple[bool, tuple[int, ...]]:
            return True, (1, 2, 3, 4)

    for part in ("backbone", "head"):
        (tmp_path / f"nano_{part}_sim.onnx").touch()
    tracker = NanoTrackContender(tmp_path).open()
    tracker.init(np.zeros((48, 64, 3), np.uint8), (1.4, 2.6, 0.2, 9.5))
    assert given == [(1, 3, 1, 10)]
    assert tracker.update(np.zeros((48, 64, 3), np.uint8)) == (1, 2, 3, 4)


def test_an_opencv_without_nanotrack_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(cv2, "TrackerNano", raising=False)
    with pytest.raises(BackendUnavailable, match=r"TrackerNano, which OpenCV .* lacks"):
        NanoTrackContender(tmp_path).open()


def test_nanotrack_without_its_files_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "TrackerNano", SimpleNamespace(), raising=False)
    with pytest.raises(BackendUnavailable, match=r"needs one \*backbone\*\.onnx in .*, found 0"):
        NanoTrackContender(tmp_path).open()


# From the shell


def test_eval_prints_and_writes_the_figures(
    nano_bundle: Bundle, rendered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / name for name in ("e.json", "e.html", "e.md")]
    arguments = ["eval", str(nano_bundle.path), str(rendered), "--backend", "onnxruntime"]
    arguments += ["--threads", "1", "--results", str(tmp_path / "results")]
    for option, file in zip(("--json", "--html", "--markdown"), files, strict=True):
        arguments += [option, str(file)]
    capsys.readouterr()
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    report = json.loads(files[0].read_text())
    scores = report["trackers"]["onnxruntime-fp32"]["mean_over_sequences"]
    for value in (scores["success_auc"], scores["normalised_precision_auc"], scores["ao"]):
        assert f"{value:.3f}" in printed.out
        assert f"{value:.3f}" in files[1].read_text()
        assert f"{value:.3f}" in files[2].read_text()
    assert (tmp_path / "results" / "onnxruntime-fp32" / "clip.txt").is_file()


def test_eval_exits_with_1_for_a_damaged_sequence(
    nano_bundle: Bundle, rendered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (rendered / "empty").mkdir()
    arguments = ["eval", str(nano_bundle.path), str(rendered), "--backend", "onnxruntime"]
    capsys.readouterr()
    assert main([*arguments, "--threads", "1"]) == 1
    printed = capsys.readouterr()
    assert "clip" in printed.out
    assert printed.err.startswith("edge-tracker: error: sequence empty: its folder of images")
    assert printed.err.count("\n") == 1


def test_eval_names_an_unknown_layout_in_one_line(
    nano_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "things").mkdir()
    assert main(["eval", str(nano_bundle.path), str(tmp_path / "things")]) == 1
    error = capsys.readouterr().err
    assert "things is empty. Expected inside it, otb: NAME/img/*.jpg" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("peer", ["nanotrack", "nanotrack:", "siamfc:folder"])
def test_eval_explains_what_a_peer_is(peer: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["eval", "bundle", "dataset", "--peer", peer])
    assert exit_.value.code == 2
    assert "expected nanotrack:FOLDER or pytorch:CHECKPOINT" in capsys.readouterr().err
