"""Several targets: MultiTracker against as many EdgeTrackers, in turn.

Both on one machine, the same frames and boxes; the online template changes at the end of every
interval. Also how far their boxes are apart, and what targets add to the memory of a process.
With --graphs, instead, the search graph alone: what a target costs in runs of 1 to 16, for each
precision in the bundle and each type of arithmetic asked for, in turn.

    python -m benchmarks.several_targets BUNDLE [--targets 8] [--threads 2] [--rounds 100]
    python -m benchmarks.several_targets BUNDLE --graphs [--compute f32,bf16] [--rounds 100]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.interleaved import median_ratio, time_in_turn
from edge_tracker import BackendUnavailable, Bundle, EdgeTracker, Engine, MultiTracker, open_bundle
from edge_tracker.backends.choice import matching_artefacts, open_graphs
from edge_tracker.backends.graph import Graphs
from edge_tracker.backends.record import row_name
from edge_tracker.bundle.contract import CONTRACT
from edge_tracker.measure.bench.latency import Pace
from edge_tracker.measure.bench.several import boxes_of
from edge_tracker.rules.boxes import Box
from edge_tracker.video.rendered_clip import render_clip

#: Targets in one run of the search graph.
COUNTS = (1, 2, 4, 8, 16)
#: Megabytes of the process in memory after some updates of so many targets.
_MEMORY = """
import sys
from edge_tracker import EdgeTracker, Engine, MultiTracker
from edge_tracker.video.rendered_clip import render_clip
from edge_tracker.measure.bench.several import boxes_of
bundle, backend, threads, targets = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
clip = list(render_clip(20, 640, 480))
with Engine(bundle, backend=backend, num_threads=threads, compute=None) as engine:
    if targets == 1:
        tracker = EdgeTracker(engine)
        tracker.init(clip[0].image, clip[0].box)
    else:
        tracker = MultiTracker(engine)
        for box in boxes_of(clip[0].box, targets):
            tracker.add(clip[0].image, box)
    for frame in clip[1:]:
        tracker.update(frame.image)
    lines = open("/proc/self/status").read().splitlines()
    print(next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmRSS")))
"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", default="openvino")
    parser.add_argument("--targets", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--graphs", action="store_true")
    parser.add_argument("--compute", type=lambda text: text.split(","), default=[None])
    arguments = parser.parse_args(argv)

    bundle = open_bundle(arguments.bundle)
    if arguments.graphs:
        print_cost_per_target(bundle, arguments)
    else:
        compare_trackers(bundle, arguments)


def print_cost_per_target(bundle: Bundle, arguments: argparse.Namespace) -> None:
    calls: dict[str, Callable[[], object]] = {}
    names = []
    with ExitStack() as opened:
        artefacts = matching_artefacts(bundle, [arguments.backend], None)
        for artefact, compute in product(artefacts, arguments.compute):
            name = row_name(artefact, compute)
            try:
                graphs = open_graphs(
                    bundle,
                    backend=arguments.backend,
                    precision=artefact.precision,
                    num_threads=arguments.threads,
                    compute=compute,
                )
            except BackendUnavailable as error:
                print(f"{name} is left out: {error}")
                continue
            opened.callback(graphs.close)
            names.append(name)
            for count in COUNTS:
                if graphs.search.most_targets is None or count <= graphs.search.most_targets:
                    calls[f"{name} {count}"] = search_call(bundle, graphs, count)
        times_ms = time_in_turn(calls, arguments.rounds)
    print(f"ms a target, median of {arguments.rounds} in turn, {arguments.threads} threads")
    print(f"{'targets in a run':24}" + "".join(f"{count:8}" for count in COUNTS))
    for name in names:
        cells = [
            f"{statistics.median(times_ms[key]) / count:8.2f}" if key in times_ms else f"{'-':>8}"
            for count in COUNTS
            for key in [f"{name} {count}"]
        ]
        print(f"{name:24}" + "".join(cells))


def search_call(bundle: Bundle, graphs: Graphs, count: int) -> Callable[[], object]:
    """A run of the search graph with so many targets of noise."""
    random = np.random.default_rng(0)
    images = {
        tensor.name: random.integers(0, 256, tensor.shape(bundle.spec, count), np.uint8)
        for graph in CONTRACT.values()
        for tensor in graph.inputs
        if tensor.dtype == "uint8"
    }
    template_kv = graphs.template.run({"templates": images["templates"]})["template_kv"]
    return lambda: graphs.search.run({"search": images["search"], "template_kv": template_kv})


def compare_trackers(bundle: Bundle, arguments: argparse.Namespace) -> None:
    options = replace(bundle.tracker_defaults, update_score=0.0)
    clip = list(render_clip(24, 640, 480))
    pace = Pace([frame.image for frame in clip], clip[0].box)
    boxes = boxes_of(pace.first_box, arguments.targets)
    apart_px: list[float] = []
    with Engine(
        bundle, backend=arguments.backend, num_threads=arguments.threads, compute=None
    ) as engine:
        singles = [EdgeTracker(engine, options=options) for _ in boxes]
        several = MultiTracker(engine, options=options)
        for single, box in zip(singles, boxes, strict=True):
            single.init(pace.frame(0), box)
            several.add(pace.frame(0), box)
        numbers = {"singles": 0, "several": 0}
        found: dict[str, list[Box]] = {}

        def update_singles() -> None:
            numbers["singles"] += 1
            frame = pace.frame(numbers["singles"])
            found["singles"] = [single.update(frame).box for single in singles]

        def update_several() -> None:
            numbers["several"] += 1
            results = several.update(pace.frame(numbers["several"]))
            found["several"] = [result.box for result in results.values()]
            apart = np.subtract(found["singles"], found["several"])
            apart_px.append(float(np.abs(apart).max()))

        calls = {"singles": update_singles, "several": update_several}
        times_ms = time_in_turn(calls, arguments.rounds)
        print(f"{arguments.targets} targets, {engine.choice.backend}, {arguments.threads} threads")
    for name, values in times_ms.items():
        worst = max(values)
        print(f"  {name}: median {statistics.median(values):.2f} ms, worst {worst:.2f} ms")
    ratio = median_ratio(times_ms["several"], times_ms["singles"])
    total = sum(times_ms["several"]) / sum(times_ms["singles"])
    print(f"  several / singles: {ratio:.3f} (median of {arguments.rounds}), of sums {total:.3f}")
    print(f"  boxes at most {max(apart_px):.2g} px apart")
    if Path("/proc/self/status").exists():
        memory = [resident_mb(arguments, targets) for targets in (1, arguments.targets)]
        print(
            f"  memory: 1 target {memory[0]:.0f} MB, {arguments.targets} {memory[1]:.0f} MB, ",
            end="",
        )
        print(f"ratio {memory[1] / memory[0]:.2f}")


def resident_mb(arguments: argparse.Namespace, targets: int) -> float:
    given = [str(arguments.bundle), arguments.backend, str(arguments.threads), str(targets)]
    return float(subprocess.check_output([sys.executable, "-c", _MEMORY, *given]))


if __name__ == "__main__":
    main()
