"""What cutting the network buys: the search graph with cached template tokens against one whole
graph.

The whole graph takes both templates on every frame, as ONNX exports of this network usually do.
Same weights (random), same backend, same threads, in turn. Also what `update()` costs beyond its
search graph.

    python -m benchmarks.cached_search [--geometry small|base|nano] [--rounds 100]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import openvino as ov
import torch

from benchmarks.interleaved import median_difference, median_ratio, time_in_turn
from benchmarks.whole_network import export_whole
from converters.convert import convert_checkpoint
from edge_tracker import EdgeTracker
from edge_tracker.backends.choice import open_graphs
from edge_tracker.backends.openvino import openvino_core
from mixformerv2.geometries import GEOMETRIES
from mixformerv2.model import MixFormerV2

FRAME_WIDTH, FRAME_HEIGHT = 640, 480


def compile_whole(network: MixFormerV2, folder: Path) -> ov.InferRequest:
    onnx.save(export_whole(network), folder / "whole.onnx")
    core = openvino_core()
    ir = core.read_model(folder / "whole.onnx")
    ir.reshape({port.any_name: [1, *list(port.partial_shape)[1:]] for port in ir.inputs})
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    return core.compile_model(ir, "CPU", config).create_infer_request()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--geometry", choices=GEOMETRIES, default="small")
    parser.add_argument("--rounds", type=int, default=100)
    arguments = parser.parse_args(argv)

    torch.manual_seed(0)
    network = MixFormerV2(GEOMETRIES[arguments.geometry]).eval()
    spec = network.spec
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    frame = np.asarray(cv2.resize(coarse, (FRAME_WIDTH, FRAME_HEIGHT)), np.uint8)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save({"net": network.state_dict()}, folder / "random.pth.tar")
        bundle = convert_checkpoint(
            folder / "random.pth.tar", folder / "bundle", precisions=("fp32",)
        )
        whole = compile_whole(network, folder)
        whole.get_tensor("templates").data[...] = 128
        whole.get_tensor("search").data[...] = 128
        options: dict[str, Any] = {"backend": "openvino", "cache_dir": folder / "cache"}
        graphs = open_graphs(bundle, **options)
        templates = np.full((1, 2, spec.template_size_px, spec.template_size_px, 3), 128, np.uint8)
        inputs = {
            "search": np.full((1, spec.search_size_px, spec.search_size_px, 3), 128, np.uint8),
            "template_kv": graphs.template.run({"templates": templates})["template_kv"],
        }
        with EdgeTracker(bundle, compute="f32", **options) as tracker:
            tracker.init(frame, (280, 200, 80, 80))
            times_ms = time_in_turn(
                {
                    "whole": whole.infer,
                    "search": lambda: graphs.search.run(inputs),
                    "update": lambda: tracker.update(frame),
                },
                arguments.rounds,
            )
        graphs.close()

    print_report(arguments.geometry, times_ms)


def print_report(geometry: str, times_ms: dict[str, list[float]]) -> None:
    median_ms = {name: statistics.median(values) for name, values in times_ms.items()}
    ratio = median_ratio(times_ms["whole"], times_ms["search"])
    beyond_ms = median_difference(times_ms["update"], times_ms["search"])
    rows = [
        ("whole graph, both templates every frame", f"{median_ms['whole']:.2f} ms median"),
        ("search graph, cached template tokens", f"{median_ms['search']:.2f} ms median"),
        (f"update() on {FRAME_WIDTH}x{FRAME_HEIGHT}", f"{median_ms['update']:.2f} ms median"),
        ("whole / search", f"{ratio:.2f}"),
        ("update() - search", f"{beyond_ms:.2f} ms"),
    ]
    print(f"{geometry}, random weights, OpenVINO {ov.__version__.split('-')[0]} on CPU")
    for name, value in rows:
        print(f"  {name:42}{value}")


if __name__ == "__main__":
    main()
