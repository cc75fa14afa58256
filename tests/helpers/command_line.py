"""Running the command line: in this process or one of its own, and what a failure prints."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edge_tracker.cli.main import main


def run_as_program(*arguments: str, prelude: str = "") -> subprocess.CompletedProcess[str]:
    """In a process of its own, with standard streams that are pipes."""
    script = f"import sys\n{prelude}\nfrom edge_tracker.cli.main import main\nsys.exit(main())"
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line in which a command names its failure."""
    capsys.readouterr()
    assert main(list(arguments)) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("edge-tracker: error: ")
    assert printed.err.count("\n") == 1
    return printed.err


def usage_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    assert exit_.value.code == 2
    return capsys.readouterr().err
