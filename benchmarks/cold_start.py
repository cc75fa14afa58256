"""Cold start of a bundle in fresh processes: import, load and compile, `init`.

Once with an empty model cache, once with a filled one.

    python -m benchmarks.cold_start BUNDLE [--runs 7] [--backend auto]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile

STAGES = ("import", "load", "init", "total")
START = """
import json, sys, time
start = time.perf_counter()
import numpy as np
from edge_tracker import EdgeTracker
imported = time.perf_counter()
tracker = EdgeTracker(sys.argv[1], backend=sys.argv[2], cache_dir=sys.argv[3])
loaded = time.perf_counter()
tracker.init(np.full((480, 640, 3), 128, np.uint8), (280, 200, 80, 80))
ready = time.perf_counter()
times = [imported - start, loaded - imported, ready - loaded, ready - start]
print(json.dumps([1e3 * seconds for seconds in times]))
"""


def start_once(bundle: str, backend: str, cache_dir: str) -> list[float]:
    """Milliseconds of each stage in a new Python process."""
    command = [sys.executable, "-c", START, bundle, backend, cache_dir]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    times_ms: list[float] = json.loads(output)
    return times_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--backend", default="auto")
    arguments = parser.parse_args()

    cold, warm = [], []
    for _ in range(arguments.runs):
        with tempfile.TemporaryDirectory() as cache_dir:
            cold.append(start_once(arguments.bundle, arguments.backend, cache_dir))
            warm.append(start_once(arguments.bundle, arguments.backend, cache_dir))
    print(f"{arguments.bundle}: median of {arguments.runs} fresh processes each, ms")
    print(f"{'model cache':14}" + "".join(f"{stage:>10}" for stage in STAGES))
    for name, runs in (("empty", cold), ("filled", warm)):
        medians = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"{name:14}" + "".join(f"{value:10.0f}" for value in medians))


if __name__ == "__main__":
    main()
