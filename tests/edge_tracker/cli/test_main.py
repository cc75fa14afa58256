"""The command line, on a real bundle of a tiny network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_tracker.bundle.opening import Bundle
from edge_tracker.bundle.spec import ConvStem, StemStage
from edge_tracker.cli.arguments import names_among
from edge_tracker.cli.inspect import stem_in_words
from edge_tracker.cli.main import main
from edge_tracker.installing import install_command
from edge_tracker.version import __version__
from edge_tracker.video.frames import open_frames
from edge_tracker.video.recording import frame_writer
from tests.helpers.command_line import fails, run_as_program, usage_error
from tests.helpers.screen import Screen

BOX = "50,60.5,40,30"


@pytest.fixture(autouse=True)
def _own_home(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(cache_dir))


@pytest.fixture
def bundle(nano_bundle: Bundle) -> Path:
    return nano_bundle.path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    with frame_writer(tmp_path / "clip.mp4", 25, 320, 240) as write:
        for _ in range(8):
            write(rng.integers(0, 255, (240, 320, 3), dtype=np.uint8))
    return tmp_path / "clip.mp4"


# convert


def test_convert_prints_and_stores_the_parity(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, report = tmp_path / "out", tmp_path / "p.json"
    arguments = ["convert", str(tiny_checkpoint), "-o", str(output), "--precision", "fp32"]
    assert main([*arguments, "--json", str(report)]) == 0
    printed = capsys.readouterr()
    rows = [line.split("│")[1:-1] for line in printed.out.splitlines() if "fp32" in line]
    assert [[cell.strip() for cell in row[:2]] for row in rows] == [
        ["onnx", "fp32"],
        ["openvino", "fp32"],
    ]
    assert all(line.startswith("edge-tracker: step ") for line in printed.err.splitlines())
    manifest = json.loads(report.read_text())
    assert manifest == json.loads((output / "manifest.json").read_text())
    for row, artefact in zip(rows, manifest["artefacts"], strict=True):
        box_error, score_error, edge_kl = (float(cell.split()[0]) for cell in row[3:])
        assert box_error == pytest.approx(artefact["parity"]["box_px"], rel=0.06)
        assert score_error == pytest.approx(artefact["parity"]["score"], rel=0.06)
        assert edge_kl == pytest.approx(artefact["parity"]["edge_kl"], rel=0.06)


@pytest.mark.usefixtures("needs_conversion")
def test_convert_names_a_bad_checkpoint_and_keeps_the_old_bundle(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = shutil.copytree(bundle, tmp_path / "old")
    manifest = (old / "manifest.json").read_bytes()
    broken = tmp_path / "broken.pth.tar"
    broken.write_bytes(b"\x80\x02 cut short")
    assert "broken.pth.tar" in fails(capsys, "-q", "convert", str(broken), "-o", str(old))
    assert (old / "manifest.json").read_bytes() == manifest
    assert sorted(os.listdir(tmp_path)) == ["broken.pth.tar", "old"]


def test_convert_names_unknown_formats_and_precisions(
    nano_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["convert", str(nano_checkpoint), "-o", str(tmp_path / "out")]
    assert "'tflite' is not one of" in usage_error(capsys, *arguments, "--to", "onnx,tflite")
    message = usage_error(capsys, *arguments, "--to", "onnx,tensorrt")
    assert "edge-tracker build BUNDLE --to tensorrt" in message
    assert "'fp8' is not one of" in usage_error(capsys, *arguments, "--precision", "fp8")
    assert "has an empty name" in usage_error(capsys, *arguments, "--to", "onnx,")


@pytest.mark.usefixtures("needs_conversion")
@pytest.mark.parametrize("package", ["torch", "onnx"])
def test_convert_without_its_packages_says_what_to_install(package: str) -> None:
    prelude = f"sys.modules[{package!r}] = None"
    finished = run_as_program("convert", "a.pth.tar", "-o", "b", prelude=prelude)
    assert finished.returncode == 1
    assert finished.stderr == (
        f"edge-tracker: error: convert needs the Python package {package}: "
        f"{install_command('convert')}\n"
    )


# track


def test_track_writes_boxes_video_and_summary(bundle: Path, clip: Path, tmp_path: Path) -> None:
    save, boxes, report = tmp_path / "out.mp4", tmp_path / "boxes.csv", tmp_path / "s.json"
    finished = run_as_program(
        *("track", str(bundle), str(clip), "--box", BOX, "--backend", "onnxruntime"),
        *("--threads", "1", "--precision", "fp32"),
        *("--save", str(save), "--csv", str(boxes), "--json", str(report)),
    )
    assert finished.returncode == 0
    assert finished.stderr == ""
    rows = boxes.read_text().splitlines()
    assert rows[1].startswith("0,50.000,60.500,40.000,30.000,1.0000,1,")
    assert len(rows) == 1 + 8
    with open_frames(save) as source:
        assert source.num_frames == 8
    summary = json.loads(report.read_text())
    assert summary["frames"] == summary["announced_frames"] == 8
    assert summary["backend"]["backend"] == "onnxruntime"
    for text in ("frames/s", "median", "p95", "mean score", "onnxruntime, CPU", "frames lost"):
        assert text in finished.stdout
    assert f"{summary['mean_score']:.3f}" in finished.stdout
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"clip.mp4", "out.mp4", "boxes.csv", "s.json"}


def test_track_follows_several_targets(
    bundle: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes, report = tmp_path / "boxes.csv", tmp_path / "s.json"
    arguments = ["track", str(bundle), str(clip), "--box", BOX, "--box", "150", "20", "60", "70"]
    assert main([*arguments, "--csv", str(boxes), "--json", str(report)]) == 0
    rows = boxes.read_text().splitlines()
    assert len(rows) == 1 + 2 * 8
    assert rows[2].startswith("0,150.000,20.000,60.000,70.000,1.0000,1,")
    assert [row.split(",")[11] for row in rows] == ["target", *"12" * 8]
    assert json.loads(report.read_text())["targets"] == 2


def test_track_reads_a_folder_of_images(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames, boxes = tmp_path / "frames", tmp_path / "boxes.csv"
    frames.mkdir()
    for index in (1, 2, 10):
        cv2.imwrite(str(frames / f"{index}.png"), np.full((100, 120, 3), index, np.uint8))
    arguments = ("track", str(bundle), str(frames), "--box", BOX, "--csv", str(boxes))
    assert main(arguments) == 0
    assert len(boxes.read_text().splitlines()) == 1 + 3
    (frames / "2.png").write_bytes(b"")
    before = boxes.read_text()
    assert "2.png cannot be decoded" in fails(capsys, *arguments)
    assert boxes.read_text() == before


def test_track_reports_a_video_that_ends_early(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "cut.avi"
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 25, (320, 240))
    for _ in range(10):
        writer.write(rng.integers(0, 255, (240, 320, 3), dtype=np.uint8))
    writer.release()
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    assert main(["track", str(bundle), str(video), "--box", BOX]) == 0
    assert re.search(r"cut\.avi ended after [3-7] of 10 frames", capsys.readouterr().out)


def test_track_needs_a_target(bundle: Path, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "give --box X,Y,W,H" in usage_error(capsys, "track", str(bundle), str(clip))


@pytest.mark.parametrize("box", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1;2;3;4"])
def test_track_explains_what_a_box_is(
    bundle: Path, clip: Path, box: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = usage_error(capsys, "track", str(bundle), str(clip), "--box", box)
    assert "is not a box: expected x,y,w,h" in message


@pytest.mark.parametrize("threads", ["0", "-1", "two", "1.5"])
def test_track_wants_whole_threads(threads: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = usage_error(capsys, "track", "b", "v", "--box", BOX, f"--threads={threads}")
    assert "whole number of at least 1" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--box", "nan,2,3,4"], "not finite"),
        (["--box", "5000,60,40,30"], "outside the frame of 320x240"),
        (["--box=-50,60,40,30"], "outside the frame of 320x240"),
        (["--box", BOX, "--precision", "int8"], "the bundle has no int8 artefact"),
        (["--box", BOX, "--save", "out.gif"], "no ending that can be written"),
        (["--box", BOX, "--save", "absent/out.mp4"], "folder absent does not exist, create it"),
        (["--box", BOX, "--csv", "absent/b.csv"], "folder absent does not exist, create it"),
        (["--box", BOX, "--csv", "/proc/b.csv"], "/proc/b.csv: "),
        (
            ["--box", BOX, "--csv", "clip.mp4"],
            "--csv clip.mp4 is clip.mp4, which is read",
        ),
    ],
)
def test_track_names_what_is_wrong_and_writes_nothing(
    bundle: Path,
    clip: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(clip.parent)
    before = clip.read_bytes()
    assert message in fails(capsys, "track", str(bundle), clip.name, *options)
    assert {path.name for path in clip.parent.iterdir()} == {"clip.mp4"}
    assert clip.read_bytes() == before


def test_an_unreadable_video_is_one_line_without_opencvs_own(bundle: Path, tmp_path: Path) -> None:
    fake = tmp_path / "notes.mp4"
    fake.write_text("not a video")
    for source, message in ((str(fake), "notes.mp4 cannot be opened"), ("77", "camera 77 cannot")):
        finished = run_as_program("track", str(bundle), source, "--box", BOX)
        assert finished.returncode == 1
        assert message in finished.stderr
        assert finished.stderr.count("\n") == 1


def test_ctrl_c_exits_with_130_and_keeps_what_was_tracked(bundle: Path, clip: Path) -> None:
    prelude = (
        "import signal\n"
        "from edge_tracker.tracker import MultiTracker\n"
        "MultiTracker.update = lambda tracker, frame: signal.raise_signal(signal.SIGINT)\n"
    )
    save = clip.with_name("out.mp4")
    finished = run_as_program(
        "track", str(bundle), str(clip), "--box", BOX, "--save", str(save), prelude=prelude
    )
    assert (finished.returncode, finished.stderr) == (130, "")
    assert "interrupted after 1 of 8 frames, which are kept" in finished.stdout
    assert {path.name for path in clip.parent.iterdir()} == {"clip.mp4", "out.mp4"}


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_progress_is_shown_on_a_terminal(bundle: Path, clip: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "edge_tracker", "track", str(bundle), str(clip), "--box", BOX]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    finished = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment, check=False, timeout=60
    )
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert finished.returncode == 0
    assert "tracking" in shown
    assert "8/8" in shown


# --show


def test_show_on_a_headless_opencv_says_what_to_install(
    bundle: Path, clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "\n  GUI:              NONE\n  x: y\n")
    message = fails(capsys, "track", str(bundle), str(clip), "--show")
    assert "pip uninstall opencv-python-headless && " in message
    assert message.endswith("pip install opencv-python\n")


@pytest.mark.skipif(
    "headless" not in str(os.listdir(Path(cv2.__file__).parents[1])),
    reason="needs opencv-python-headless",
)
def test_show_knows_this_headless_opencv(
    bundle: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = fails(capsys, "track", str(bundle), str(clip), "--box", BOX, "--show")
    assert "headless build" in message


@pytest.mark.skipif(sys.platform != "linux", reason="displays are named so on Linux alone")
def test_show_without_a_display_is_refused(
    bundle: Path, clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:              QT5\n")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    message = fails(capsys, "track", str(bundle), str(clip), "--show")
    assert "neither DISPLAY nor WAYLAND_DISPLAY is set" in message


def test_a_box_is_drawn_with_the_mouse_and_q_stops(
    bundle: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A frame lasts 40 ms: a look at its keys each.
    screen = Screen(monkeypatch, keys=["", "", "q"], boxes=[(50, 60, 40, 30)])
    boxes = tmp_path / "boxes.csv"
    assert main(["track", str(bundle), str(clip), "--show", "--csv", str(boxes)]) == 0
    rows = boxes.read_text().splitlines()[1:]
    assert rows[0].startswith("0,50.000,60.000,40.000,30.000,")
    assert len(rows) == len(screen.shown) == 3


def test_a_target_is_drawn_again_and_the_last_frame_stays(
    bundle: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    keys = ["", "", "d", *[""] * 6, *[""] * 20, "x"]
    screen = Screen(monkeypatch, keys, boxes=[(150, 100, 40, 30)])
    boxes = tmp_path / "boxes.csv"
    options = ["--box", BOX, "--show", "--csv", str(boxes)]
    capsys.readouterr()
    assert main(["track", str(bundle), str(clip), *options]) == 0
    rows = boxes.read_text().splitlines()[1:]
    assert (len(rows), len(screen.shown)) == (8, 8)
    assert rows[2].startswith("2,150.000,100.000,40.000,30.000,1.0000,")
    assert "drawn again" in capsys.readouterr().out
    assert screen.keys_left == 0


def test_no_box_drawn_is_a_failure(
    bundle: Path, clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Screen(monkeypatch, keys=[], boxes=[(0, 0, 0, 0)])
    assert "no box was drawn" in fails(capsys, "track", str(bundle), str(clip), "--show")


# inspect


def test_inspect_shows_network_models_and_origin(
    bundle: Path, nano_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "manifest.json"
    capsys.readouterr()
    assert main(["inspect", str(bundle), "--json", str(report)]) == 0
    printed = capsys.readouterr().out
    manifest = json.loads((bundle / "manifest.json").read_text())
    for text in (
        "search_size_px",
        "onnx",
        "fp32",
        nano_checkpoint.name,
        manifest["source"]["sha256"],
    ):
        assert text in printed
    assert json.loads(report.read_text()) == manifest


def test_a_stem_is_told_in_words() -> None:
    stem = ConvStem(channels=8, stages=(StemStage(2, 3, 2, 6, 16),), fine=True)
    words = "convolution to 8 channels, then blocks: 2 x 3 px to 16, stride 2, expansion 6"
    assert stem_in_words(stem) == f"{words}, features at stride 8 mixed in"
    assert stem_in_words(None) == "none, a patch embedding"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("width", "is_a_list"), [(36, True), (37, False)])
def test_a_table_too_wide_for_a_terminal_is_a_list_of_each_row(width: int, is_a_list: bool) -> None:
    import pty

    program = (
        "from edge_tracker.cli.printing import print_table\n"
        "print_table('Models', ('model', 'box error (search crop)', 'score error'),\n"
        "            [('onnx/fp32', '1.2e-05 px', '6.0e-08'), ('openvino/fp16', '5e-02 px', '3')])"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(width), "NO_COLOR": "1"}
    subprocess.run(
        [sys.executable, "-c", program], stdout=theirs, env=environment, check=True, timeout=60
    )
    os.close(theirs)
    lines = re.sub(r"\x1b\[\d*m", "", os.read(ours, 65536).decode()).splitlines()
    os.close(ours)
    assert max(map(len, lines)) <= width
    words = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    if is_a_list:
        assert words.index(["model", "onnx/fp32"]) < words.index(["score error", "6.0e-08"])
        assert ["model", "openvino/fp16"] in words
    else:
        assert ["openvino/fp16", "5e-02", "3"] in words


def test_inspect_names_a_damaged_file(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    golden = copy / "golden.npz"
    golden.write_bytes(golden.read_bytes()[:-1])
    assert "golden.npz" in fails(capsys, "inspect", str(copy))
    (copy / "manifest.json").write_text("{")
    assert "manifest.json" in fails(capsys, "inspect", str(copy))
    assert "edge-tracker convert" in fails(capsys, "inspect", str(tmp_path / "absent"))


# doctor


def test_doctor_shows_what_it_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime", reason="needs a backend")
    report = tmp_path / "machine.json"
    assert main(["doctor", "--json", str(report)]) == 0
    printed = capsys.readouterr().out
    diagnosis = json.loads(report.read_text())
    assert diagnosis["edge_tracker"] == __version__
    for package in diagnosis["packages"]:
        assert package["module"] in printed
        assert package["version"] is None or package["version"] in printed
    for backend in diagnosis["backends"]:
        assert backend["found"] in printed


def test_doctor_fails_where_nothing_can_run() -> None:
    prelude = "sys.modules['openvino'] = sys.modules['onnxruntime'] = None"
    finished = run_as_program("doctor", prelude=prelude)
    assert finished.returncode == 1
    assert "Packages" in finished.stdout
    remedy = install_command("openvino")
    assert finished.stderr.startswith(f"edge-tracker: error: no backend can run here: {remedy}")
    assert finished.stderr.count("\n") == 1


# the program


@pytest.mark.parametrize(
    ("command", "option", "choices"),
    [
        ("track b v", "--backend", ("auto", "tensorrt", "openvino", "onnxruntime")),
        ("track b v", "--precision", ("fp32", "fp16", "int8")),
        ("bench b", "--backend", ("tensorrt", "openvino", "onnxruntime")),
        ("bench b", "--precision", ("fp32", "fp16", "int8")),
        ("verify b", "--backend", ("tensorrt", "openvino", "onnxruntime")),
        ("verify b", "--precision", ("fp32", "fp16", "int8")),
        ("eval b d", "--backend", ("auto", "tensorrt", "openvino", "onnxruntime")),
        ("eval b d", "--precision", ("fp32", "fp16", "int8")),
        ("build b", "--to", ("tensorrt",)),
        ("build b", "--precision", ("fp32", "fp16", "int8")),
    ],
)
def test_a_choice_that_is_none_is_wrong_usage_and_the_choices_are_named(
    command: str, option: str, choices: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    lists = command.split()[0] not in ("track", "build")
    given = f"{choices[-1]},foo" if lists else "foo"
    *_, message = usage_error(capsys, *command.split(), option, given).splitlines()
    assert f"argument {option}: " in message
    assert "'foo'" in message
    named = re.findall(r"[a-z]\w+", message.partition("choose from")[2])
    assert tuple(named) == choices


@pytest.mark.parametrize("command", ["bench b", "verify b"])
def test_what_runs_each_model_of_a_bundle_is_not_left_to_choice(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "'auto' is not one of the choices" in usage_error(
        capsys, *command.split(), "--backend", "auto"
    )


def test_a_list_of_choices_may_have_spaces_but_no_gaps(
    capsys: pytest.CaptureFixture[str],
) -> None:
    choose = names_among(("fp32", "fp16", "int8"))
    assert choose("int8, fp32") == ("int8", "fp32")
    assert "has an empty name" in usage_error(capsys, "verify", "b", "--precision", "fp32,")


@pytest.mark.parametrize("command", ["convert", "track", "inspect", "doctor"])
def test_every_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    printed = capsys.readouterr().out
    assert f"examples:\n  edge-tracker {command}" in printed
    assert max(len(line) for line in printed.splitlines()) <= 100


def test_the_program_is_named_as_it_was_called(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/edge-tracker"])
    assert usage_error(capsys).startswith("usage: edge-tracker ")
    command = [sys.executable, "-m", "edge_tracker"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert finished.stderr.startswith("usage: python -m edge_tracker ")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("two things:\n  one\n  two"), "two things: one two"),
        (PermissionError(13, "Permission denied", "/a/b.csv"), "/a/b.csv: Permission denied"),
        (OSError("cannot"), "cannot"),
        (TypeError(), "TypeError"),
    ],
)
def test_a_failure_is_one_line(
    error: Exception,
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(arguments: object) -> int:
        raise error

    monkeypatch.setattr("edge_tracker.cli.doctor.run", fail)
    assert fails(capsys, "doctor") == f"edge-tracker: error: {line}\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"edge-tracker {__version__}\n"


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys, edge_tracker.cli.main as cli; cli.make_parser().format_help()\n"
        "heavy = {'numpy', 'cv2', 'rich', 'torch', 'openvino', 'onnxruntime'}\n"
        "sys.exit(len(heavy & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="limits file sizes by setrlimit")
def test_a_full_disk_is_named(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.helpers.full_disk import full_after

    target = tmp_path / "manifest.json"
    capsys.readouterr()
    with full_after(100):
        status = main(["inspect", str(bundle), "--json", str(target)])
    assert status == 1
    assert capsys.readouterr().err == f"edge-tracker: error: {target}: File too large\n"
    assert os.listdir(tmp_path) == []
