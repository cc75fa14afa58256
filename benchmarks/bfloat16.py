"""What OpenVINO's own choice of bfloat16 buys, and what it does to boxes, on a CPU that has it.

A bundle's fp32 IR compiled twice, computing in float32 and in bfloat16: largest differences from
PyTorch over the golden inputs, and the search graph's time, measured in turn.

    python -m benchmarks.bfloat16 BUNDLE [--rounds 500] [--threads 1]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.interleaved import median_ratio, time_in_turn
from edge_tracker import Bundle, open_bundle
from edge_tracker.backends.graph import BackendChoice, Graphs
from edge_tracker.backends.openvino import OpenVinoGraph, openvino_core
from edge_tracker.backends.parity import measure_parity
from edge_tracker.bundle.goldens import load_golden


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    bundle = open_bundle(arguments.bundle)
    golden = load_golden(bundle)
    graphs = {
        precision: compile_in(bundle, precision, arguments.threads) for precision in ("f32", "bf16")
    }
    searches = {}
    for precision, pair in graphs.items():
        parity = measure_parity(pair, golden)
        print(f"{precision:5} edges within {parity.box_px:.1e} px, score within {parity.score:.1e}")
        templates = {"templates": golden.templates[:1]}
        template_kv = pair.template.run(templates)["template_kv"]
        searches[precision] = search_call(pair, golden.search[:1], template_kv)
    times_ms = time_in_turn(searches, arguments.rounds)
    for precision, values in times_ms.items():
        print(f"{precision:5} search graph {statistics.median(values):.2f} ms median")
    print(f"f32 / bf16 {median_ratio(times_ms['f32'], times_ms['bf16']):.2f}")


def search_call(
    pair: Graphs, search: NDArray[np.uint8], template_kv: object
) -> Callable[[], object]:
    return lambda: pair.search.run({"search": search, "template_kv": template_kv})


def compile_in(bundle: Bundle, precision: str, threads: int) -> Graphs:
    artefact = bundle.find("openvino", "fp32")
    if artefact is None:
        raise SystemExit(f"{bundle.path} has no openvino/fp32 models")
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
    }
    core, compiled = openvino_core(), {}
    for name, files in artefact.graphs.items():
        model = core.read_model(bundle.path / files.model)
        model.reshape({port.any_name: [1, *list(port.partial_shape)[1:]] for port in model.inputs})
        compile_it = partial(core.compile_model, model, "CPU", config)
        compiled[name] = OpenVinoGraph(compile_it(), compile_it)
    choice = BackendChoice("openvino", "CPU", "fp32", precision, ())
    return Graphs(compiled["template"], compiled["search"], choice)


if __name__ == "__main__":
    main()
