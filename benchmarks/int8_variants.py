"""Other ways to quantise, against the one that `convert` takes: what they do to edges and to time.

Each variant calibrates both graphs for OpenVINO on the same samples, then runs on crops that are
not among them. Errors are against fp32; times of the search graph are in turn with fp32's.

    edge-tracker calibrate BUNDLE HALF -o samples.npz
    edge-tracker calibrate BUNDLE OTHER_HALF -o held_back.npz
    python -m benchmarks.int8_variants BUNDLE samples.npz held_back.npz [--frames HALF]
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import nncf
import numpy as np
import openvino as ov
from nncf import AdvancedQuantizationParameters, AdvancedSmoothQuantParameters, IgnoredScope

from benchmarks.interleaved import median_ratio, time_in_turn
from calibration.footage import find_sources
from calibration.quantise import (
    HEADS,
    OPENVINO_RANGE,
    Feeds,
    chosen_layers,
    layer_names,
    quantise_graph,
)
from calibration.samples import CalibrationSamples, load_samples
from converters.to_openvino import read_onnx
from edge_tracker import open_bundle
from edge_tracker.backends.openvino import openvino_core
from edge_tracker.backends.parity import Outputs, differences
from edge_tracker.bundle.contract import GRAPHS

ROUNDS = 60
FLOAT_TYPE = (
    "bf16" if "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("held_back", type=Path)
    parser.add_argument("--frames", type=Path, help="sequences, for whole frames as samples")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.getLogger("nncf").setLevel(logging.ERROR)
    onnx_folder = open_bundle(arguments.bundle).path / "onnx" / "fp32"
    samples, crops = load_samples(arguments.samples), load_samples(arguments.held_back)
    float_heads = chosen_layers(layer_names(onnx_folder), HEADS)
    heads = {"ignored": scope(float_heads)}
    no_smoothing = AdvancedQuantizationParameters(
        overflow_fix=OPENVINO_RANGE,
        smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=-1, convolution=-1),
    )
    variants: dict[str, tuple[CalibrationSamples, Mapping[str, Any]]] = {
        "as convert does it": (samples, heads),
        "weights of the whole range": (
            samples,
            {**heads, "overflow_fix": nncf.OverflowFix.DISABLE},
        ),
        "heads in int8 too": (samples, {"ignored": IgnoredScope()}),
        "attention's products in float": (
            samples,
            {"ignored": scope(float_heads, types=["ScaledDotProductAttention"])},
        ),
        "zero points for activations (MIXED)": (
            samples,
            {**heads, "preset": nncf.QuantizationPreset.MIXED},
        ),
        "no SmoothQuant": (samples, {**heads, "advanced_parameters": no_smoothing}),
        "full bias correction": (samples, {**heads, "fast_bias_correction": False}),
        "32 samples": (part(samples, 32), heads),
    }
    if arguments.frames is not None:
        variants["whole frames, squashed"] = (squashed_frames(arguments.frames, samples), heads)

    fp32 = compiled(
        {graph: read_onnx(onnx_folder / f"{graph}.onnx") for graph in GRAPHS},
        "f32",
        arguments.threads,
    )
    reference = outputs(fp32, crops)
    print(f"{'':38}edge px: mean    p95  score   edge KL  fp32 / int8")
    for name, (calibrating, settings) in variants.items():
        models = quantised(onnx_folder, calibrating, settings)
        graphs = compiled(models, FLOAT_TYPE, arguments.threads)
        found = differences(reference, outputs(graphs, crops), crops.search.shape[1])
        ratio = latency_ratio(fp32["search"], graphs["search"])
        print(
            f"{name:38}{found.box_px.mean():13.3f}{np.percentile(found.box_px, 95):7.2f}"
            f"{found.score.mean():7.4f}{found.edge_kl.mean():10.5f}{ratio:13.2f}",
            flush=True,
        )


def scope(layers: list[str], types: list[str] | None = None) -> IgnoredScope:
    names = [f"{layer}/WithoutBiases" for layer in layers]
    return IgnoredScope(names=names, types=types or [], validate=False)


def part(samples: CalibrationSamples, count: int) -> CalibrationSamples:
    chosen = np.linspace(0, len(samples) - 1, count).astype(int)
    return CalibrationSamples(samples.templates[chosen], samples.search[chosen], {})


def squashed_frames(folder: Path, like: CalibrationSamples) -> CalibrationSamples:
    """As others calibrate trackers: each frame, as a whole, for every input."""
    frames = [
        frame
        for source in find_sources(folder)
        for index, (frame, _) in enumerate(source.frames())
        if index % 10 == 0
    ]
    frames = [frames[i] for i in np.linspace(0, len(frames) - 1, len(like)).astype(int)]
    template_px, search_px = like.templates.shape[2], like.search.shape[1]
    templates, search = (
        np.asarray([cv2.resize(frame, (side_px, side_px)) for frame in frames], np.uint8)
        for side_px in (template_px, search_px)
    )
    return CalibrationSamples(np.stack([templates, templates], axis=1), search, {})


def quantised(
    onnx_folder: Path, samples: CalibrationSamples, settings: Mapping[str, Any]
) -> dict[str, ov.Model]:
    feeds = Feeds(onnx_folder, samples)
    return {
        graph: quantise_graph(read_onnx(onnx_folder / f"{graph}.onnx"), feeds, graph, **settings)
        for graph in GRAPHS
    }


def compiled(
    models: Mapping[str, ov.Model], float_type: str, threads: int
) -> dict[str, ov.CompiledModel]:
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": float_type,
        "INFERENCE_NUM_THREADS": threads,
    }
    core, graphs = openvino_core(), {}
    for name, model in models.items():
        model.reshape({port.any_name: [1, *list(port.partial_shape)[1:]] for port in model.inputs})
        graphs[name] = core.compile_model(model, "CPU", config)
    return graphs


def outputs(graphs: Mapping[str, ov.CompiledModel], crops: CalibrationSamples) -> Outputs:
    probs, scores = [], []
    for templates, search in zip(crops.templates, crops.search, strict=True):
        template_kv = graphs["template"]({"templates": templates[None]})["template_kv"]
        found = graphs["search"]({"search": search[None], "template_kv": template_kv})
        probs.append(np.array(found["edge_probs"][0]))
        scores.append(float(found["score"][0]))
    return Outputs(np.stack(probs), np.array(scores, np.float32))


def latency_ratio(fp32: ov.CompiledModel, int8: ov.CompiledModel) -> float:
    calls = {}
    for name, model in (("fp32", fp32), ("int8", int8)):
        request = model.create_infer_request()
        for port in model.inputs:
            request.get_tensor(port.any_name).data[...] = 1
        calls[name] = request.infer
    times_ms = time_in_turn(calls, ROUNDS)
    return median_ratio(times_ms["fp32"], times_ms["int8"])


if __name__ == "__main__":
    main()
