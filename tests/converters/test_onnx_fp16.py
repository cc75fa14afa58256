"""The ONNX pair in fp16: half precision inside, the same types at the edges the host touches."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

from converters.graphs import SearchGraph, TemplateGraph, fold_for_export
from converters.to_onnx import export_onnx
from edge_tracker.backends.choice import open_graphs
from edge_tracker.backends.parity import LIMITS
from edge_tracker.bundle.opening import Bundle
from edge_tracker.bundle.spec import ModelSpec
from edge_tracker.rules.crop import crop_square
from edge_tracker.rules.decode import decode_edges
from edge_tracker.video.frames import read_image
from mixformerv2.checkpoint import load_network
from mixformerv2.geometries import NANO
from tests.helpers.exported_networks import HALF_DTYPES, tensor_dtypes
from tests.helpers.lively_networks import TINY, lively_network
from tests.helpers.places import SHARED, trained_checkpoint
from tests.helpers.random_images import random_images

LIMIT_PX = 0.5
SEQUENCES = SHARED / "data" / "sequences"


def edges(folder: Path, images: dict[str, NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Of a pair of ONNX files, as fractions of the search crop."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    template, search = (
        ort.InferenceSession(folder / f"{name}.onnx", options) for name in ("template", "search")
    )
    (template_kv,) = template.run(None, {"templates": images["templates"]})
    feed = {"search": images["search"], "template_kv": template_kv}
    (edge_probs,) = search.run(["edge_probs"], feed)
    return decode_edges(edge_probs).mean


def test_host_sees_uint8_and_float32_and_template_kv_is_half(nano_bundle: Bundle) -> None:
    fp16, fp32 = nano_bundle.find("onnx", "fp16"), nano_bundle.find("onnx", "fp32")
    assert fp16 is not None
    assert fp32 is not None
    assert tensor_dtypes(fp16) == HALF_DTYPES
    assert fp16.size_bytes < 0.55 * fp32.size_bytes
    assert fp16.parity is not None
    assert 0 < fp16.parity.box_px < LIMIT_PX
    assert fp16.parity.box_px < LIMITS["fp16"].box_px


def test_all_weights_are_half_and_only_the_probabilities_are_computed_in_float32(
    nano_bundle: Bundle,
) -> None:
    for name in ("template", "search"):
        model = onnx.load(nano_bundle.path / f"onnx/fp16/{name}.onnx")
        assert {o.domain: o.version for o in model.opset_import} == {"": 17}
        floats = Counter(
            tensor.data_type
            for tensor in model.graph.initializer
            if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
        )
        assert set(floats) == {onnx.TensorProto.FLOAT16}
        to_float = [
            node
            for node in model.graph.node
            if node.op_type == "Cast" and node.attribute[0].i == onnx.TensorProto.FLOAT
        ]
        assert len(to_float) == (2 if name == "search" else 0)


def test_pixels_are_cast_before_anything_else(nano_bundle: Bundle) -> None:
    """TensorRT takes uint8 tensors as inputs of a cast only."""
    for precision in ("fp32", "fp16"):
        for graph, pixels in (("template", "templates"), ("search", "search")):
            path = nano_bundle.path / f"onnx/{precision}/{graph}.onnx"
            nodes = onnx.load(path, load_external_data=False).graph.node
            readers = {node.op_type for node in nodes if pixels in node.input}
            assert readers <= {"Cast", "Shape"}
            assert "Cast" in readers


def test_fp32_is_the_default_of_the_onnx_runtime(nano_bundle: Bundle) -> None:
    for precision, expected in ((None, "fp32"), ("fp16", "fp16")):
        graphs = open_graphs(nano_bundle, backend="onnxruntime", precision=precision, num_threads=2)
        assert graphs.choice.precision == expected
        images = random_images(NANO, batch=1)
        kv = graphs.template.run({"templates": images["templates"]})["template_kv"]
        assert kv.dtype == {"fp32": np.float32, "fp16": np.float16}[expected]
        graphs.close()


def test_pytorch_in_half_precision_agrees(tmp_path: Path) -> None:
    """The second emulation: PyTorch sums in another order than ONNX Runtime does."""
    network = lively_network(TINY)
    export_onnx(network, tmp_path, {}, torch.float16)
    images = random_images(TINY, batch=2)
    folded = fold_for_export(network).half()
    with torch.no_grad():
        kv = TemplateGraph(folded)(torch.from_numpy(images["templates"]))
        probs, _ = SearchGraph(folded)(torch.from_numpy(images["search"]), kv)
    assert (kv.dtype, probs.dtype) == (torch.float16, torch.float32)
    difference = decode_edges(probs.numpy()).mean - edges(tmp_path, images)
    assert np.abs(difference).max() * TINY.search_size_px < LIMIT_PX


def test_boxes_on_rendered_crops_are_within_half_a_pixel(nano_bundle: Bundle) -> None:
    with np.load(nano_bundle.path / "golden.npz") as golden:
        images = {name: golden[name] for name in ("templates", "search")}
    fp32, fp16 = (edges(nano_bundle.path / "onnx" / p, images) for p in ("fp32", "fp16"))
    assert 0 < np.abs(fp32 - fp16).max() * NANO.search_size_px < LIMIT_PX


def test_boxes_on_real_crops_are_within_half_a_pixel(
    nano_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = load_network(trained_checkpoint() or nano_checkpoint)
    images = real_crops(network.spec)
    for precision, dtype in (("fp32", torch.float32), ("fp16", torch.float16)):
        export_onnx(network, tmp_path / precision, {}, dtype)
    fp32, fp16 = (edges(tmp_path / precision, images) for precision in ("fp32", "fp16"))
    error_px = float(np.abs(fp32 - fp16).max() * network.spec.search_size_px)
    with capsys.disabled():
        sys.stdout.write(f"\nfp16, {len(fp32)} real crops: largest box error {error_px:.3f} px\n")
    assert 0 < error_px < LIMIT_PX


def real_crops(spec: ModelSpec) -> dict[str, NDArray[np.uint8]]:
    """Two frames of each annotated sequence, cut as the tracker would."""
    templates, searches = [], []
    for sequence in sorted(SEQUENCES.glob("*/groundtruth.txt")):
        boxes = np.loadtxt(sequence, delimiter=",")
        frames = sorted((sequence.parent / "img").iterdir())
        first = read_image(frames[0])
        template = crop_square(first, tuple(boxes[0]), 2.0, spec.template_size_px)[0]
        for index in (5, 30):
            if index < len(frames) and np.isfinite(boxes[index - 1]).all():
                frame = read_image(frames[index])
                box = tuple(boxes[index - 1])
                online = crop_square(frame, box, 2.0, spec.template_size_px)[0]
                templates.append(np.stack([template, online]))
                searches.append(crop_square(frame, box, 4.5, spec.search_size_px)[0])
    if not searches:
        pytest.skip("needs the annotated sequences of ../shared/data/sequences")
    return {"templates": np.stack(templates), "search": np.stack(searches)}
