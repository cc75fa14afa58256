"""What int8 and bfloat16 buy in OpenVINO, against fp32 and against the network as it was, whole.

Same weights (random), same threads, in turn: search graph and `update()` in each precision and each
type of arithmetic that the CPU has, and the whole network in ONNX Runtime and in PyTorch, both in
float32. Accuracy is another question: see docs/quantization.md.

    python -m benchmarks.int8 [--geometry small|base|nano|stem_nano] [--rounds 60] [--threads 2]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
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
from edge_tracker.backends import openvino
from edge_tracker.backends.record import COMPUTES
from edge_tracker.bundle.goldens import Golden, load_golden
from edge_tracker.options import TrackerOptions
from edge_tracker.video.rendered_clip import render_clip
from mixformerv2.geometries import GEOMETRIES
from mixformerv2.model import MixFormerV2
from mixformerv2.pytorch_tracker import PyTorchTracker

ONNX_RUNTIME = "whole graph, ONNX Runtime"
PYTORCH = "update() in PyTorch, whole network"


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
        "options": TrackerOptions(update_interval=0),
    }
    subjects: dict[str, Callable[[], object]] = {
        PYTORCH: lambda: pytorch.update(frames[1].image),
        ONNX_RUNTIME: lambda: whole.run(None, whole_feed),
    }
    with ExitStack() as opened:
        for precision, compute in types(bundle):
            tracker = opened.enter_context(
                EdgeTracker(bundle, precision=precision, compute=compute, **placement)
            )
            tracker.init(frames[0].image, frames[0].box)
            subjects |= {
                f"search graph, {precision} in {compute}": search_alone(tracker, golden),
                f"update(), {precision} in {compute}": partial(tracker.update, frames[1].image),
            }
        return time_in_turn(subjects, rounds, untimed_first=True)


def types(bundle: Bundle) -> list[tuple[str, str]]:
    """The precision of each OpenVINO artefact, in each type that this CPU has."""
    return [
        (artefact.precision, compute)
        for artefact in bundle.artefacts
        if artefact.format == "openvino"
        for compute in sorted(openvino.BACKEND.computes(artefact, None), key=COMPUTES.index)
    ]


def search_alone(tracker: EdgeTracker, golden: Golden) -> Callable[[], object]:
    row = tracker.engine.reserve(1)
    templates = golden.templates[0]
    tracker.engine.encode(templates[0], templates[1], row)()
    return lambda: tracker.engine.search(golden.search[:1], row)


def print_report(geometry: str, threads: int, times_ms: dict[str, list[float]]) -> None:
    version = ov.__version__.split("-")[0]
    print(f"{geometry}, random weights, OpenVINO {version}, threads: {threads}, medians")
    print(f"  {'':44}{'ms':>8}{'f32 / this':>12}{'ONNX Runtime / this':>21}{'PyTorch / this':>16}")
    for name, each_ms in times_ms.items():
        of_float32 = times_ms.get(f"{name.split(',')[0]}, fp32 in f32")
        whole = (times_ms[ONNX_RUNTIME], times_ms[PYTORCH])
        ratios = [of_float32, *(whole if name.startswith("update()") else (None, None))]
        cells = [median_ratio(slow, each_ms) if slow else None for slow in ratios]
        words = ["" if cell is None else f"{cell:.2f}" for cell in cells]
        print(
            f"  {name:44}{statistics.median(each_ms):8.2f}"
            f"{words[0]:>12}{words[1]:>21}{words[2]:>16}"
        )


if __name__ == "__main__":
    main()
