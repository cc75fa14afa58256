"""What int8 buys in OpenVINO, against fp32 and against the network as it was, whole.

Same weights (random), same threads, in turn: the search graph in int8 and fp32, `update()` in int8,
and the whole network in ONNX Runtime and in PyTorch, both fp32. Accuracy is another question:
see docs/quantization.md.

    python -m benchmarks.int8 [--geometry small|base|nano] [--rounds 60] [--threads 2]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort
import openvino as ov
import torch

from benchmarks.interleaved import median_ratio, time_in_turn
from benchmarks.whole_network import export_whole
from calibration.quantise import quantise_openvino
from calibration.samples import CalibrationSamples
from converters.convert import convert_checkpoint
from converters.draft import Draft, describe_artefact
from edge_tracker import Bundle, EdgeTracker, open_bundle
from edge_tracker.backends.choice import open_graphs
from edge_tracker.bundle.goldens import load_golden
from edge_tracker.options import TrackerOptions
from edge_tracker.video.rendered_clip import render_clip
from mixformerv2.geometries import GEOMETRIES
from mixformerv2.model import MixFormerV2
from mixformerv2.pytorch_tracker import PyTorchTracker


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--geometry", choices=GEOMETRIES, default="small")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args(argv)
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    network = MixFormerV2(GEOMETRIES[arguments.geometry]).eval()
    with tempfile.TemporaryDirectory() as name:
        bundle = make_bundle(network, Path(name))
        times_ms = measure(network, bundle, Path(name), arguments.rounds, arguments.threads)
    print_report(arguments.geometry, arguments.threads, times_ms)


def make_bundle(network: MixFormerV2, folder: Path) -> Bundle:
    """A bundle with openvino/fp32 and openvino/int8, which nobody judges: weights are random."""
    torch.save({"net": network.state_dict()}, folder / "random.pth.tar")
    bundle = convert_checkpoint(folder / "random.pth.tar", folder / "bundle", precisions=("fp32",))
    golden = load_golden(bundle)
    samples = CalibrationSamples(golden.templates, golden.search, {})
    onnx_folder = bundle.path / "onnx" / "fp32"
    quantise_openvino(onnx_folder, bundle.path / "openvino" / "int8", samples, (), {})
    int8 = describe_artefact(bundle.path, "openvino", "int8")
    Draft(
        bundle.path,
        bundle.spec,
        bundle.tracker_defaults,
        bundle.source,
        bundle.tools,
        [*bundle.artefacts, int8],
    ).write()
    return open_bundle(bundle.path)


def measure(
    network: MixFormerV2, bundle: Bundle, folder: Path, rounds: int, threads: int
) -> dict[str, list[float]]:
    golden = load_golden(bundle)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    whole = ort.InferenceSession(
        export_whole(network).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    whole_feed = {"templates": golden.templates[:1], "search": golden.search[:1]}
    frames = list(render_clip(8))
    pytorch = PyTorchTracker(network, TrackerOptions(update_interval=0))
    pytorch.init(frames[0].image, frames[0].box)
    placement: dict[str, Any] = {
        "backend": "openvino",
        "num_threads": threads,
        "cache_dir": folder / "cache",
    }
    pairs = {
        precision: open_graphs(bundle, precision=precision, **placement)
        for precision in ("fp32", "int8")
    }
    feeds = {
        precision: {
            "search": golden.search[:1],
            "template_kv": pair.template.run({"templates": golden.templates[:1]})["template_kv"],
        }
        for precision, pair in pairs.items()
    }
    still = TrackerOptions(update_interval=0)
    with EdgeTracker(bundle, precision="int8", options=still, **placement) as tracker:
        tracker.init(frames[0].image, frames[0].box)
        times_ms = time_in_turn(
            {
                "pytorch": lambda: pytorch.update(frames[1].image),
                "onnxruntime": lambda: whole.run(None, whole_feed),
                "fp32": lambda: pairs["fp32"].search.run(feeds["fp32"]),
                "int8": lambda: pairs["int8"].search.run(feeds["int8"]),
                "update": lambda: tracker.update(frames[1].image),
            },
            rounds,
        )
    for pair in pairs.values():
        pair.close()
    return times_ms


def print_report(geometry: str, threads: int, times_ms: dict[str, list[float]]) -> None:
    rows = [
        ("update(), PyTorch, whole network, fp32", "pytorch"),
        ("whole graph, ONNX Runtime fp32", "onnxruntime"),
        ("search graph, OpenVINO fp32", "fp32"),
        ("search graph, OpenVINO int8", "int8"),
        ("update(), OpenVINO int8", "update"),
    ]
    version = ov.__version__.split("-")[0]
    print(f"{geometry}, random weights, OpenVINO {version}, {threads} threads, medians")
    for text, name in rows:
        print(f"  {text:39}{statistics.median(times_ms[name]):8.2f} ms")
    for slow, fast, text in (
        ("fp32", "int8", "search graph, fp32 / int8"),
        ("onnxruntime", "update", "ONNX Runtime, whole network / update()"),
        ("pytorch", "update", "PyTorch, whole network / update()"),
    ):
        print(f"  {text:39}{median_ratio(times_ms[slow], times_ms[fast]):8.2f}")


if __name__ == "__main__":
    main()
