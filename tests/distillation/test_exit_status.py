"""How programs of the training end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from distillation.exit_status import exit_status
from edge_tracker.errors import DatasetError
from tests.helpers.places import REPOSITORY


def raising(error: BaseException) -> int:
    def work() -> None:
        raise error

    return exit_status(work)


def test_an_error_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(DatasetError("tracks: no such folder")) == 1
    assert capsys.readouterr().err == "error: tracks: no such folder\n"


def test_an_interruption_says_what_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(KeyboardInterrupt("run was stopped after step 3 of 9")) == 130
    assert "step 3 of 9; the same command goes on from there" in capsys.readouterr().err
    assert raising(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError())


def test_work_that_is_done_is_zero() -> None:
    assert exit_status(lambda: "anything") == 0


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        ("ablation", ["--images", ".", "--tracks", ".", "--start", "gone.pth.tar"], "error: "),
        ("ship", ["gone.pth.tar", "-o", "x.safetensors"], "checkpoint gone.pth.tar: no such file"),
    ],
)
def test_wrong_arguments_are_a_line(
    program: str, arguments: list[str], message: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-P", "-m", f"distillation.{program}", *arguments]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode in (1, 2)
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr
