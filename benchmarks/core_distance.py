"""Why several threads are at times no faster than one on a virtual machine.

Second by second, with nothing else running: how long a message takes from the first usable CPU core
to the last and back, and the median `update()` of a bundle's fp32 OpenVINO model on one thread and
on two, in turn. The host of a virtual machine may move its cores apart at any time; each then
computes as fast as before, but threads that wait for one another again and again within a run do
not. Needs a C compiler (`cc`).

    python -m benchmarks.core_distance BUNDLE [--seconds 60]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edge_tracker import EdgeTracker
from edge_tracker.cli.arguments import positive_int
from edge_tracker.measure.bench.latency import Pace
from edge_tracker.video.rendered_clip import render_clip

#: Round trips longer than this many times the shortest count as those of cores that are far apart.
FAR = 2.0
#: Prints the median over batches, as in a mean a thread that is interrupted once reads as distance.
_PING_PONG_C = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BATCHES = 200, TRIPS = 500 };
static _Atomic int ball;

static void stay_on(int core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    pthread_setaffinity_np(pthread_self(), sizeof cores, &cores);
}

static void wait_for(int number) {
    while (atomic_load_explicit(&ball, memory_order_acquire) != number) {}
}

static void *answer(void *core) {
    stay_on(*(int *)core);
    for (int trip = 0; trip < BATCHES * TRIPS; trip++) {
        wait_for(2 * trip + 1);
        atomic_store_explicit(&ball, 2 * trip + 2, memory_order_release);
    }
    return NULL;
}

static int compare(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

int main(int count, char **arguments) {
    (void)count;
    int other = atoi(arguments[2]);
    pthread_t thread;
    double trip_ns[BATCHES];
    stay_on(atoi(arguments[1]));
    pthread_create(&thread, NULL, answer, &other);
    for (int batch = 0; batch < BATCHES; batch++) {
        struct timespec start, end;
        clock_gettime(CLOCK_MONOTONIC, &start);
        for (int trip = batch * TRIPS; trip < (batch + 1) * TRIPS; trip++) {
            atomic_store_explicit(&ball, 2 * trip + 1, memory_order_release);
            wait_for(2 * trip + 2);
        }
        clock_gettime(CLOCK_MONOTONIC, &end);
        trip_ns[batch] = ((end.tv_sec - start.tv_sec) * 1e9 + end.tv_nsec - start.tv_nsec) / TRIPS;
    }
    qsort(trip_ns, BATCHES, sizeof *trip_ns, compare);
    printf("%.1f\n", trip_ns[BATCHES / 2]);
}
"""


class Second(NamedTuple):
    """What was measured in one second; the threads' are medians of `update()`."""

    round_trip_ns: float
    one_thread_ms: float
    two_threads_ms: float


def main(options: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=positive_int, default=60)
    arguments = parser.parse_args(options)

    if shutil.which("cc") is None:
        raise SystemExit("there is no C compiler (cc): install one, for example apt install gcc")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("this process may use one CPU core alone: there is nothing to measure")
    clip = list(render_clip(24, 640, 480))
    pace = Pace([frame.image for frame in clip], clip[0].box)
    one, two = (
        EdgeTracker(
            arguments.bundle,
            backend="openvino",
            precision="fp32",
            num_threads=threads,
            compute="f32",
        )
        for threads in (1, 2)
    )
    seconds: list[Second] = []
    with tempfile.TemporaryDirectory() as folder, one, two:
        ping_pong = compile_ping_pong(Path(folder))
        for _ in range(arguments.seconds):
            command = [str(ping_pong), str(cores[0]), str(cores[-1])]
            round_trip_ns = float(subprocess.check_output(command))
            second = Second(round_trip_ns, half_second_ms(one, pace), half_second_ms(two, pace))
            seconds.append(second)
            print(
                f"round trip {second.round_trip_ns:4.0f} ns   "
                f"one thread {second.one_thread_ms:.2f} ms   "
                f"two threads {second.two_threads_ms:.2f} ms"
            )
    print("\n".join(summary_lines(seconds)))


def summary_lines(seconds: Sequence[Second]) -> list[str]:
    """Medians over the seconds with the cores near and over those with them far."""
    limit_ns = FAR * min(second.round_trip_ns for second in seconds)
    near = [second for second in seconds if second.round_trip_ns <= limit_ns]
    far = [second for second in seconds if second.round_trip_ns > limit_ns]
    groups = {"near": near, "far": far} if far else {"the same distance throughout": near}
    lines = []
    for name, group in groups.items():
        trip_ns, one_ms, two_ms = (statistics.median(values) for values in zip(*group, strict=True))
        lines.append(
            f"{name} ({len(group)} of {len(seconds)} seconds): round trip {trip_ns:.0f} ns, "
            f"one thread {one_ms:.2f} ms, two threads {two_ms:.2f} ms, "
            f"one / two {one_ms / two_ms:.2f}"
        )
    return lines


def compile_ping_pong(folder: Path) -> Path:
    source, program = folder / "ping_pong.c", folder / "ping_pong"
    source.write_text(_PING_PONG_C)
    subprocess.check_call(["cc", "-O2", "-pthread", "-o", str(program), str(source)])
    return program


def half_second_ms(tracker: EdgeTracker, pace: Pace) -> float:
    """Median `update()`."""
    tracker.init(pace.frame(0), pace.first_box)
    times_ms: list[float] = []
    end_s = time.perf_counter() + 0.5
    while time.perf_counter() < end_s:
        start_s = time.perf_counter()
        tracker.update(pace.frame(1 + len(times_ms)))
        times_ms.append(1e3 * (time.perf_counter() - start_s))
    return statistics.median(times_ms)


if __name__ == "__main__":
    main()
