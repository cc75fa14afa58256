"""--debug, -v and -q: what is done, and where a failure comes from."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edge_tracker.bundle.opening import Bundle
from edge_tracker.cli.main import main


def test_a_failure_is_one_line_and_with_debug_a_traceback_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["inspect", "nowhere.bundle"]) == 1
    plain = capsys.readouterr().err
    assert "Traceback" not in plain
    assert main(["--debug", "inspect", "nowhere.bundle"]) == 1
    debugged = capsys.readouterr().err
    assert "Traceback" in debugged
    assert "open_bundle" in debugged
    assert debugged.endswith(plain)


def test_with_debug_it_says_what_it_does(
    nano_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--debug", "inspect", str(nano_bundle.path)]) == 0
    assert f"edge_tracker.bundle.opening: bundle {nano_bundle.path}" in capsys.readouterr().err


def test_verbosity_is_of_one_command_and_may_stand_after_it(
    nano_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = str(nano_bundle.path)
    assert main(["inspect", bundle, "--debug"]) == 0
    assert "edge_tracker.bundle.opening" in capsys.readouterr().err
    assert main(["-v", "inspect", bundle]) == 0
    assert "edge_tracker.bundle.opening" not in capsys.readouterr().err
    assert logging.getLogger("edge_tracker").level == logging.NOTSET
    assert not logging.getLogger("edge_tracker").handlers


def test_convert_tells_its_steps_off_a_terminal_unless_quiet(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["convert", str(tiny_checkpoint), "-o", str(tmp_path / "b"), "--to", "onnx"]
    arguments += ["--precision", "fp32"]
    assert main(arguments) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"edge-tracker: step 1 of {len(lines)}: ")
    assert lines[-1].startswith(f"edge-tracker: step {len(lines)} of {len(lines)}: ")
    assert main([*arguments, "-q"]) == 0
    printed, warned = capsys.readouterr()
    assert "onnx" in printed
    assert warned == ""


def test_bench_says_in_advance_how_long_it_takes(
    nano_bundle: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Begun(Exception):
        """Measuring has begun."""

    def begin(*_: object, **__: object) -> None:
        raise Begun

    monkeypatch.setattr("edge_tracker.measure.bench.benchmark.benchmark", begin)
    arguments = ["bench", str(nano_bundle.path), "--precision", "fp32", "--duration", "45"]
    with pytest.raises(Begun):
        main([*arguments, "--no-cold-start"])
    assert "2 models, each 45 s of updates, 0 s of a camera and 0 fresh starts: about 1.6 min" in (
        capsys.readouterr().err
    )
    with pytest.raises(Begun):
        main([*arguments, "--iterations", "7", "--target-fps", "30"])
    assert "2 models, 7 updates and 6 fresh starts of each" in capsys.readouterr().err
    with pytest.raises(Begun):
        main([*arguments, "-q"])
    assert capsys.readouterr().err == ""
