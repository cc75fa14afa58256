"""The command as a process: signals that end it, and standard streams that are not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_tracker.bundle.opening import Bundle
from edge_tracker.cli.main import main
from edge_tracker.cli.process import Stopped, ending_signals_raise
from edge_tracker.video.recording import frame_writer

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and streams of POSIX")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    with frame_writer(tmp_path / "clip.mp4", 25, 320, 240) as write:
        for _ in range(8):
            write(rng.integers(0, 255, (240, 320, 3), dtype=np.uint8))
    return tmp_path / "clip.mp4"


def track(bundle: Bundle, clip: Path, *options: str) -> list[str]:
    command = [sys.executable, "-m", "edge_tracker", "track", str(bundle.path), str(clip)]
    return [*command, "--box", "50,60,40,30", "--backend", "onnxruntime", *options]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_an_ending_signal_raises_once(name: str) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)

    def stopped_twice() -> None:
        with ending_signals_raise():
            try:
                signal.raise_signal(number)
            finally:
                signal.raise_signal(number)  # while what was begun is put away

    with pytest.raises(Stopped, match=name) as raised:
        stopped_twice()
    assert raised.value.number == number
    assert signal.getsignal(number) == before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with ending_signals_raise():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


STOPPED = """
import signal, sys
from edge_tracker.tracker import MultiTracker
update = MultiTracker.update
calls = iter(range(99))
def stopped(tracker, frame):
    if next(calls) == 3:
        signal.raise_signal(signal.SIGTERM)
    return update(tracker, frame)
MultiTracker.update = stopped
from edge_tracker.cli.main import main
sys.exit(main())
"""


def test_sigterm_keeps_what_was_tracked(nano_bundle: Bundle, clip: Path) -> None:
    command = track(nano_bundle, clip, "--csv", "boxes.csv", "--save", "kept.mp4")
    finished = subprocess.run(
        [sys.executable, "-c", STOPPED, *command[3:]],
        cwd=clip.parent, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert finished.returncode == 130, finished.stderr
    assert "interrupted after 4 of 8 frames, which are kept" in finished.stdout
    assert sorted(os.listdir(clip.parent)) == ["boxes.csv", "clip.mp4", "kept.mp4"]
    assert len((clip.parent / "boxes.csv").read_text().splitlines()) == 1 + 4


@pytest.mark.parametrize(
    "line", ['"$@" >&-', '"$@" >&- 2>&- <&-', '"$@" | true', '"$@" >/dev/full']
)
def test_the_summary_is_written_whatever_stdout_is(
    nano_bundle: Bundle, clip: Path, line: str
) -> None:
    command = track(nano_bundle, clip, "--json", "summary.json")
    finished = subprocess.run(
        ["sh", "-c", line, "sh", *command],
        cwd=clip.parent, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert json.loads((clip.parent / "summary.json").read_text())["frames"] == 8
    assert "Traceback" not in finished.stderr
    if "full" not in line:
        assert (finished.returncode, finished.stderr) == (0, "")


def test_a_terminal_that_knows_ascii_alone(nano_bundle: Bundle, clip: Path) -> None:
    clip = clip.rename(clip.with_name("café.mp4"))
    finished = subprocess.run(
        track(nano_bundle, clip, "--json", str(clip.with_name("summary.json"))),
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (finished.returncode, finished.stderr) == (0, b"")
    assert b"caf\\xe9.mp4" in finished.stdout
    assert clip.name in (clip.parent / "summary.json").read_text(encoding="utf-8")


def test_results_on_standard_output_and_words_on_the_other(nano_bundle: Bundle, clip: Path) -> None:
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = track(nano_bundle, clip, *options)
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    as_json, as_csv = run("--json", "-"), run("--csv", "/dev/stdout", "--every", "2")
    assert json.loads(as_json.stdout)["frames"] == 8
    assert [line.split(",")[0] for line in as_csv.stdout.splitlines()] == ["frame", *"0123"]
    for finished in (as_json, as_csv):
        assert finished.returncode == 0
        assert "Tracked" in finished.stderr


def test_one_result_on_standard_output_and_no_video(nano_bundle: Bundle, clip: Path) -> None:
    for options in (("--csv", "-", "--json", "-"), ("--save", "-")):
        assert main(track(nano_bundle, clip, *options)[3:]) == 1


def test_a_reader_that_has_enough_ends_it(nano_bundle: Bundle, clip: Path) -> None:
    line = '{ "$@" --csv -; echo $? >status; } | true'
    finished = subprocess.run(
        ["sh", "-c", line, "sh", *track(nano_bundle, clip)],
        cwd=clip.parent, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (clip.parent / "status").read_text() in ("0\n", "141\n")
    assert finished.stderr == ""
