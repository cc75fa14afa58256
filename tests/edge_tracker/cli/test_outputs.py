"""Files that a command writes: never what it reads, and refused before any work."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import pytest

from edge_tracker.bundle.manifest import MANIFEST
from edge_tracker.bundle.opening import Bundle, open_bundle
from edge_tracker.bundle.writing import replacing_folder
from edge_tracker.cli.arguments import OUTPUT_FILES, OUTPUT_FOLDERS
from edge_tracker.cli.main import main, make_parser
from edge_tracker.errors import BundleError
from edge_tracker.options import TrackerOptions


def failure(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def test_the_checkpoint_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "weights.pth.tar"
    checkpoint.write_bytes(b"precious")
    arguments = ("convert", checkpoint, "-o", tmp_path / "bundle", "--json", checkpoint)
    assert f"--json {checkpoint} is {checkpoint}, which is read" in failure(capsys, *arguments)
    assert checkpoint.read_bytes() == b"precious"


def test_a_frame_of_the_folder_that_is_tracked_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = tmp_path / "000.jpg"
    frame.write_bytes(b"a frame")
    arguments = ("track", "bundle", tmp_path, "--box", "1,2,30,40", "--csv", frame)
    assert f"--csv {frame} lies inside {tmp_path}, which is read" in failure(capsys, *arguments)
    assert frame.read_bytes() == b"a frame"


def test_one_file_for_two_outputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = tmp_path / "both"
    arguments = ("track", "bundle", "0", "--box", "1,2,30,40", "--csv", same, "--json", same)
    assert "two outputs" in failure(capsys, *arguments)


def test_a_report_that_cannot_be_written_is_refused_before_measuring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "absent" / "page.html"
    assert "does not exist, create it first" in failure(
        capsys, "bench", "no.bundle", "--html", page
    )


@pytest.mark.parametrize("read", ["calibration", "judge-on"])
def test_what_calibrates_or_judges_is_not_overwritten(
    read: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precious = tmp_path / "000.jpg"
    precious.write_bytes(b"precious")
    inputs = {"calibration": "elsewhere", read: precious}
    options = [part for name, path in inputs.items() for part in (f"--{name}", path)]
    (tmp_path / "results").mkdir()
    (tmp_path / "link.json").symlink_to(precious)
    for output in (precious, tmp_path / "results" / ".." / "000.jpg", tmp_path / "link.json"):
        error = failure(
            *(capsys, "convert", "a.pth", "-o", tmp_path / "b", "--precision", "int8"),
            *(*options, "--json", output),
        )
        assert f"--json {output} is {precious}, which is read" in error
    assert precious.read_bytes() == b"precious"


def test_an_output_is_named_by_its_option(
    nano_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = nano_bundle.path / "golden.npz"
    error = failure(capsys, "calibrate", nano_bundle.path, tmp_path, "-o", golden)
    assert f"--output {golden} lies inside {nano_bundle.path}, which is read" in error


def test_the_weights_of_a_peer_are_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"precious")
    peers = ("--peer", f"nanotrack:{tmp_path / 'nano'}", "--peer", f"pytorch:{weights}")
    for option, output in (("--json", weights), ("--html", tmp_path / "nano" / "report.html")):
        error = failure(capsys, "eval", "no.bundle", "no_data", *peers, option, output)
        assert f"{option} {output} " in error
        assert ", which is read" in error
    assert weights.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["inspect", "in"], "--json"),
        (["verify", "in"], "--json"),
        (["build", "in"], "--json"),
        (["bench", "in"], "--json"),
        (["bench", "in"], "--html"),
        (["bench", "other", "--compare", "in"], "--html"),
        (["track", "in", "0", "--show"], "--save"),
        (["track", "in", "0", "--show"], "--csv"),
        (["track", "other", "in", "--show"], "--json"),
        (["calibrate", "other", "in"], "--output"),
        (["calibrate", "in", "other", "-o", "s.npz"], "--json"),
        (["convert", "in", "-o", "b"], "--json"),
        (["convert", "in"], "--output"),
        (["convert", "c.pth", "-o", "b", "--calibration", "in"], "--json"),
        (["convert", "c.pth", "-o", "b", "--judge-on", "in"], "--json"),
        (["eval", "in", "data"], "--json"),
        (["eval", "other", "in"], "--markdown"),
        (["eval", "other", "in"], "--html"),
        (["eval", "other", "in"], "--results"),
        (["eval", "other", "data", "--peer", "pytorch:in"], "--results"),
    ],
)
def test_no_output_of_any_command_goes_into_what_is_read(
    command: list[str],
    option: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    error = failure(capsys, *command, option, "in/output.mp4")
    assert f"{option} in/output.mp4 lies inside in, which is read: choose another place" in error
    assert list((tmp_path / "in").iterdir()) == []


def test_a_report_does_not_go_into_the_bundle_that_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    error = failure(capsys, "convert", "c.pth", "-o", bundle, "--json", bundle / "b.json")
    assert f"--json {bundle / 'b.json'} lies inside {bundle}, which is written" in error


def test_every_path_of_every_command_is_known_to_be_read_or_written() -> None:
    """A path that is not among the outputs counts as read; this table is the second opinion."""
    written = {
        "bench": {"--html", "--json"},
        "build": {"--json"},
        "calibrate": {"--json", "--output"},
        "convert": {"--json", "--output"},
        "demo": {"--output"},
        "doctor": {"--json"},
        "eval": {"--html", "--json", "--markdown", "--results"},
        "inspect": {"--json"},
        "track": {"--csv", "--json", "--save"},
        "verify": {"--json"},
    }
    read = {
        "bench": {"BUNDLE", "--compare"},
        "build": {"BUNDLE"},
        "calibrate": {"BUNDLE", "DIR"},
        "convert": {"CHECKPOINT", "--calibration", "--judge-on"},
        "eval": {"BUNDLE", "DATASET"},
        "doctor": {"BUNDLE"},
        "inspect": {"BUNDLE"},
        "track": {"BUNDLE"},
        "verify": {"BUNDLE"},
    }
    (commands,) = (
        action
        for action in make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    for name, command in commands.choices.items():
        paths = [a for a in command._actions if a.type is Path or a.dest == "save"]
        outputs = {a for a in paths if a.dest in OUTPUT_FILES + OUTPUT_FOLDERS}
        assert {a.option_strings[-1] for a in outputs} == written[name]
        inputs = {(a.option_strings or [str(a.metavar)])[-1] for a in paths if a not in outputs}
        assert inputs == read.get(name, set())


def test_a_folder_is_no_output_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = failure(capsys, "bench", "no.bundle", "--json", tmp_path)
    assert f"--json {tmp_path} is a folder: name a file" in error


def test_what_lies_in_the_old_bundle_is_not_lost(nano_bundle: Bundle, tmp_path: Path) -> None:
    bundle = shutil.copytree(nano_bundle.path, tmp_path / "bundle")
    checkpoint = bundle / "weights.pth.tar"
    checkpoint.write_bytes(b"precious")
    with (
        pytest.raises(ValueError, match=r"holds weights\.pth\.tar, not as its .* lists it"),
        replacing_folder(bundle),
    ):
        pass
    assert checkpoint.read_bytes() == b"precious"
    checkpoint.unlink()
    with replacing_folder(bundle) as folder:
        (folder / "new").touch()
    assert [path.name for path in bundle.iterdir()] == ["new"]


def test_a_link_to_a_bundle_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    with replacing_folder(link) as folder:
        (folder / "new").touch()
    assert link.is_symlink()
    assert [path.name for path in real.iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("source",), {}),
        (("tools",), None),
        (("model", "num_heads"), 0),
        (("model", "depth"), 2.5),
        (("files", "golden.npz"), "x"),
        (("files", "../outside"), {"sha256": "0", "size_bytes": 1}),
        (("artefacts", 0, "precision"), "bf16"),
        (("artefacts", 0, "precision"), [1]),
        (("artefacts", 0, "format"), "foo"),
        (("tracker", "update_interval"), 2.5),
        (("calibration",), {}),
        (("calibration",), {"sources": None, "seed": 0}),
        (("calibration",), {"sources": {"walk": None}, "seed": 0}),
        (("calibration",), {"sources": {"walk": 32}}),
        (("calibration",), {"sources": {"walk": 32}, "seed": None}),
    ],
)
def test_a_manifest_that_commands_could_not_use_is_refused(
    nano_bundle: Bundle, tmp_path: Path, place: tuple[str | int, ...], value: object
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(nano_bundle.path, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    entry = manifest
    for key in place[:-1]:
        entry = entry[key]
    entry[place[-1]] = value
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="incomplete or wrong"):
        open_bundle(folder)


@pytest.mark.parametrize("name", ["update_interval", "lost_frames", "clip_margin_px"])
@pytest.mark.parametrize("value", [2.5, float("nan")])
def test_counts_are_whole(name: str, value: float) -> None:
    with pytest.raises(TypeError, match=name):
        TrackerOptions(**{name: value})  # type: ignore[arg-type]
