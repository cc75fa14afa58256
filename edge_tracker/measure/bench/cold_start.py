"""How long a bundle takes from nothing to its first result, in fresh processes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields

from edge_tracker.bundle.manifest import Artefact
from edge_tracker.bundle.opening import Bundle
from edge_tracker.errors import EdgeTrackerError

TIMEOUT_S = 600
_START = """
import json, sys, time
bundle, backend, precision, device, threads, cache_dir, compute = json.loads(sys.argv[1])
times = [time.perf_counter()]
import numpy as np
from edge_tracker import EdgeTracker
times.append(time.perf_counter())
tracker = EdgeTracker(bundle, backend=backend, precision=precision, device=device,
                      num_threads=threads, cache_dir=cache_dir, compute=compute)
times.append(time.perf_counter())
frame = np.full((480, 640, 3), 128, np.uint8)
tracker.init(frame, (280, 200, 80, 80))
times.append(time.perf_counter())
tracker.update(frame)
times.append(time.perf_counter())
# Not getrusage: on Linux that begins with the peak of the process that started this one.
status = open("/proc/self/status").read() if sys.platform == "linux" else ""
peak_kib = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
print(json.dumps([[1e3 * (b - a) for a, b in zip(times, times[1:])],
                  peak_kib[0] * 1024 if peak_kib else None]))
"""


@dataclass(frozen=True)
class ColdStart:
    """Milliseconds of `import edge_tracker`, of loading and compiling, of `init`, and of the first
    `update`.
    """

    import_ms: float
    load_ms: float
    init_ms: float
    first_update_ms: float

    @property
    def total_ms(self) -> float:
        return self.import_ms + self.load_ms + self.init_ms + self.first_update_ms


@dataclass(frozen=True)
class FreshProcesses:
    """Medians over runs. cold: no compiled models in the cache, the bundle's files not in memory.
    warm: both are. Python and the backend's own files are in memory in either. peak_memory_bytes:
    the largest of all runs, None where the system does not tell.
    """

    runs: int
    cold: ColdStart
    warm: ColdStart
    peak_memory_bytes: int | None


def measure_cold_start(
    bundle: Bundle,
    artefact: Artefact,
    backend: str,
    *,
    device: str | None = None,
    num_threads: int | None = None,
    compute: str | None = None,
    runs: int = 3,
) -> FreshProcesses:
    """Start `runs` times with empty caches, each followed by a start with filled ones.

    Raises EdgeTrackerError if a process fails. So many parameters because a process needs what
    EdgeTracker does.
    """
    cold: list[ColdStart] = []
    warm: list[ColdStart] = []
    peaks: list[int | None] = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as cache_dir:
            choices = [
                str(bundle.path.resolve()), backend, artefact.precision, device,
                num_threads, cache_dir, compute,
            ]  # fmt: skip
            _forget_files(bundle)
            for starts in (cold, warm):
                start, peak = _start_once(json.dumps(choices))
                starts.append(start)
                peaks.append(peak)
    known_peaks = [peak for peak in peaks if peak is not None]
    return FreshProcesses(
        runs, _median(cold), _median(warm), max(known_peaks) if known_peaks else None
    )


def _start_once(choices: str) -> tuple[ColdStart, int | None]:
    command = [sys.executable, "-c", _START, choices]
    # So that the process finds the same packages, wherever it is started.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment
        )
    except subprocess.CalledProcessError as error:
        last_line = (error.stderr.strip().splitlines() or [f"exit status {error.returncode}"])[-1]
        raise EdgeTrackerError(f"a fresh process failed: {last_line}") from error
    except subprocess.TimeoutExpired as error:
        raise EdgeTrackerError(f"a fresh process took more than {TIMEOUT_S} s to start") from error
    times_ms, peak_bytes = json.loads(done.stdout.splitlines()[-1])
    return ColdStart(*times_ms), peak_bytes


def _forget_files(bundle: Bundle) -> None:
    """Ask the system to drop the bundle's files from memory, where it can be asked."""
    if not hasattr(os, "posix_fadvise"):
        return
    for file in bundle.path.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                # Pages not yet on the disk would stay.
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def _median(starts: Sequence[ColdStart]) -> ColdStart:
    return ColdStart(
        *(
            statistics.median(getattr(start, field.name) for start in starts)
            for field in fields(ColdStart)
        )
    )
