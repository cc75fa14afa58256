"""Asking for int8 wrongly, or where it cannot be made."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.convert import convert_checkpoint
from tests.test_cli import run_as_program, usage_error

CONVERT = ("convert", "a.pth.tar", "-o", "b")


def test_int8_and_calibration_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    alone = usage_error(capsys, *CONVERT, "--precision", "fp32,int8")
    assert "--precision int8 and --calibration go together: name a folder" in alone
    without = usage_error(capsys, *CONVERT, "--calibration", "clips")
    assert "add it to --precision, for example fp32,int8" in without


def test_int8_needs_options_in_python_too(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="int8 needs something to calibrate on"):
        convert_checkpoint(tiny_checkpoint, tmp_path / "b", precisions=["int8"])
    assert not (tmp_path / "b").exists()


def test_without_nncf_convert_says_what_to_install(tiny_checkpoint: Path, tmp_path: Path) -> None:
    finished = run_as_program(
        *("convert", str(tiny_checkpoint), "-o", str(tmp_path / "b")),
        *("--precision", "fp32,int8", "--calibration", str(tmp_path)),
        prelude="sys.modules['nncf'] = None",
    )
    assert finished.returncode == 1
    assert finished.stderr == (
        "edge-tracker: error: convert needs the Python package nncf: "
        "pip install 'edge-tracker[calibrate]'\n"
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
