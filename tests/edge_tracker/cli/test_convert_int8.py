"""Asking for int8 wrongly, or where it cannot be made."""

from __future__ import annotations

from pathlib import Path

import pytest

from calibration.int8 import Int8Options
from calibration.samples import MIN_SAMPLES
from converters.convert import convert_checkpoint
from edge_tracker.cli.main import main
from edge_tracker.errors import CalibrationError
from edge_tracker.installing import install_command
from tests.helpers.command_line import run_as_program, usage_error

CONVERT = ("convert", "a.pth.tar", "-o", "b")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--precision", "fp32,int8"], "int8 needs --calibration: name a folder"),
        (["--calibration", "clips"], "--calibration is for int8: add it to --precision"),
        (["--keep-fp", "blocks.0"], "--keep-fp is for int8: add it to --precision"),
        (["--judge-on", "clips"], "--judge-on is for int8"),
        (["--seed", "0"], "--seed is for int8"),
        (["--seed", "-1"], "'-1' is not a whole number of at least 0"),
        (["--samples", "31"], "'31' is not a whole number of at least 32"),
        (["--max-auc-drop", "nan"], "'nan' is not a finite number"),
    ],
)
def test_options_of_int8_are_checked_before_anything_is_read(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in usage_error(capsys, *CONVERT, *options)


@pytest.mark.parametrize("choice", [("--samples", "64"), ("--seed", "1")])
def test_recorded_samples_are_all_used(
    choice: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = tmp_path / "samples.npz"
    samples.touch()
    options = ("--precision", "int8", "--calibration", str(samples), *choice)
    error = usage_error(capsys, *CONVERT, *options)
    assert f"{samples} is a file of recorded samples" in error


def test_defaults_in_the_help_are_those_that_are_taken(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert f"at least {MIN_SAMPLES} (default {Int8Options('x').num_samples})" in words
    assert f"(default {Int8Options('x').seed})" in words
    assert f"loses more success AUC (default {Int8Options('x').max_auc_drop})" in words


@pytest.mark.parametrize(
    ("calibration", "words"), [("nowhere", "nowhere does not exist"), ("", "nothing to record")]
)
def test_what_cannot_calibrate_is_refused_before_anything_is_converted(
    calibration: str, words: str, tmp_path: Path
) -> None:
    """The checkpoint is not even looked at: there is none."""
    options = Int8Options(tmp_path / calibration)
    with pytest.raises(CalibrationError, match=words):
        convert_checkpoint("no.pth", tmp_path / "b", precisions=["int8"], int8=options)


def test_int8_needs_options_in_python_too(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="int8 needs something to calibrate on"):
        convert_checkpoint(tiny_checkpoint, tmp_path / "b", precisions=["int8"])
    assert not (tmp_path / "b").exists()


def test_without_nncf_convert_says_what_to_install(tiny_checkpoint: Path, tmp_path: Path) -> None:
    finished = run_as_program(
        *("convert", str(tiny_checkpoint), "-o", str(tmp_path / "b")),
        *("--precision", "fp32,int8", "--calibration", str(tmp_path / "clips")),
        prelude="sys.modules['nncf'] = None",
    )
    assert finished.returncode == 1
    assert finished.stderr == (
        "edge-tracker: error: convert needs the Python package nncf: "
        f"{install_command('calibrate')}\n"
    )
    assert not (tmp_path / "b").exists()


def test_without_nncf_the_other_precisions_are_converted(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    finished = run_as_program(
        *("convert", str(tiny_checkpoint), "-o", str(tmp_path / "b")),
        *("--precision", "fp32", "--to", "onnx"),
        prelude="sys.modules['nncf'] = None",
    )
    assert finished.returncode == 0, finished.stderr
