"""What networks over a stem cost a frame: their search graphs and OpenCV's NanoTrack, in turn.

One thread each, OpenVINO in float32, random weights. What they are worth when trained alike:
python -m distillation.geometries.

    python -m benchmarks.geometries [--nanotrack FOLDER] [--rounds 60]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from benchmarks.interleaved import median_ratio, time_in_turn
from converters.to_onnx import export_onnx
from distillation.geometries import variants
from edge_tracker.backends.openvino import openvino_core
from edge_tracker.bundle.spec import ModelSpec
from mixformerv2.geometries import NANO
from mixformerv2.model import MixFormerV2

FRAME = (480, 640, 3)
NANOTRACK = "NanoTrack v2, update()"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nanotrack", type=Path, help="folder of its two ONNX files")
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    specs = {name: recipe.student for name, recipe in variants(1, 4).items()}
    subjects = {name: search_call(spec) for name, spec in unlike(specs).items()}
    subjects["no stem: patch embedding"] = search_call(NANO)
    if arguments.nanotrack is not None:
        subjects[NANOTRACK] = nanotrack_call(arguments.nanotrack)
    times_ms = time_in_turn(subjects, arguments.rounds)
    base = times_ms["as shipped"]
    for name, values in times_ms.items():
        median, best = statistics.median(values), min(values)
        print(f"{name:42} {median_ratio(values, base):5.2f} of the shipped   ", end="")
        print(f"median {median:6.2f} ms, least {best:6.2f} ms")


def unlike(specs: dict[str, ModelSpec]) -> dict[str, ModelSpec]:
    """Without those that differ in nothing a device computes, such as the crop's factor."""
    first: dict[ModelSpec, str] = {}
    for name, spec in specs.items():
        first.setdefault(spec, name)
    return {name: spec for spec, name in first.items()}


def search_call(spec: ModelSpec) -> Callable[[], object]:
    config = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    core, random = openvino_core(), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(MixFormerV2(spec).eval(), Path(folder), {})
        model = core.read_model(Path(folder) / "search.onnx")
        model.reshape({port.any_name: [1, *list(port.partial_shape)[1:]] for port in model.inputs})
        request = core.compile_model(model, "CPU", config).create_infer_request()
    size = spec.search_size_px
    inputs = {
        "search": random.integers(0, 256, (1, size, size, 3), np.uint8),
        "template_kv": random.standard_normal(spec.template_kv_shape(), np.float32),
    }
    return lambda: request.infer(inputs)


def nanotrack_call(folder: Path) -> Callable[[], object]:
    cv2.setNumThreads(1)
    parameters = cv2.TrackerNano.Params()
    parameters.backbone = str(folder / "nanotrack_backbone_sim.onnx")
    parameters.neckhead = str(folder / "nanotrack_head_sim.onnx")
    tracker = cv2.TrackerNano.create(parameters)
    frame = np.random.default_rng(0).integers(0, 256, FRAME, np.uint8)
    tracker.init(frame, (200, 150, 80, 80))
    return lambda: tracker.update(frame)


if __name__ == "__main__":
    main()
