"""The ONNX pair and the OpenVINO IR: equal to PyTorch's full forward, cut where they should be."""

from __future__ import annotations

import errno
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import onnxsim
import openvino as ov
import pytest

from converters.to_onnx import export_onnx
from converters.to_openvino import convert_to_openvino
from edge_tracker.bundle.spec import ModelSpec
from edge_tracker.errors import EdgeTrackerError
from edge_tracker.rules.decode import decode_edges
from mixformerv2.geometries import GEOMETRIES
from tests.helpers.exported_networks import ExportedNetwork, Outputs, first_targets
from tests.helpers.lively_networks import BASE_SHORT, TINY, lively_network
from tests.helpers.random_images import random_images

Export = Callable[[str], ExportedNetwork]
ONNX_TOLERANCE = 1e-4
OPENVINO_TOLERANCE_PX = 0.05
FP16_WEIGHTS_TOLERANCE_PX = 0.5
OPENVINO_SCORE_TOLERANCE = 1e-3
GRAPHS = ("template", "search")
geometries = pytest.mark.parametrize("geometry", GEOMETRIES)


def largest_edge_error_px(a: Outputs, b: Outputs, size_px: int) -> float:
    difference = decode_edges(a.edge_probs).mean - decode_edges(b.edge_probs).mean
    return float(np.abs(difference).max() * size_px)


@geometries
@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_pair_is_the_full_forward(exported: Export, geometry: str, batch: int) -> None:
    pair = exported(geometry)
    expected = pair.expected_of_three.first(batch)
    got = pair.run_onnx(first_targets(pair.three_targets, batch))
    np.testing.assert_allclose(got.edge_probs, expected.edge_probs, rtol=0, atol=ONNX_TOLERANCE)
    np.testing.assert_allclose(got.score, expected.score, rtol=0, atol=ONNX_TOLERANCE)


@pytest.mark.parametrize(
    ("geometry", "precision", "tolerance_px"),
    [
        ("small", "fp32", OPENVINO_TOLERANCE_PX),
        (BASE_SHORT, "fp32", OPENVINO_TOLERANCE_PX),
        ("stem_nano", "fp32", OPENVINO_TOLERANCE_PX),
        ("nano", "fp16", FP16_WEIGHTS_TOLERANCE_PX),
    ],
)
def test_openvino_is_the_full_forward(
    exported: Export, geometry: str, precision: str, tolerance_px: float, tmp_path: Path
) -> None:
    pair = exported(geometry)
    convert_to_openvino(pair.folder, tmp_path, precision, {})
    core = ov.Core()
    compiled = {}
    for name in GRAPHS:
        model = core.read_model(tmp_path / f"{name}.xml")
        exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2}
        compiled[name] = core.compile_model(model, "CPU", exact)
    for batch in (1, 3):
        images = first_targets(pair.three_targets, batch)
        template_kv = compiled["template"]({"templates": images["templates"]})["template_kv"]
        outputs = compiled["search"]({"search": images["search"], "template_kv": template_kv})
        got = Outputs(outputs["edge_probs"], outputs["score"])
        expected = pair.expected_of_three.first(batch)
        size_px = pair.network.spec.search_size_px
        assert largest_edge_error_px(got, expected, size_px) < tolerance_px
        np.testing.assert_allclose(got.score, expected.score, atol=OPENVINO_SCORE_TOLERANCE)
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("geometry", ["nano", "small"])
def test_random_weights_are_lively_enough_to_show_a_mistake(
    exported: Export, geometry: str
) -> None:
    """Flat distributions and saturated scores would agree with anything."""
    pair = exported(geometry)
    spec, right = pair.network.spec, pair.expected_of_three
    assert right.edge_probs.max(axis=-1).min() > 4 / spec.bins
    assert 0.02 < right.score.min() <= right.score.max() < 0.98
    rgb = {name: image[..., ::-1] for name, image in pair.three_targets.items()}
    wrong = pair.run_pytorch(rgb)
    assert largest_edge_error_px(right, wrong, spec.search_size_px) > 10 * OPENVINO_TOLERANCE_PX
    assert np.abs(right.score - wrong.score).max() > 10 * ONNX_TOLERANCE


@geometries
def test_last_block_runs_on_the_four_prediction_tokens_only(
    exported: Export, geometry: str
) -> None:
    pair = exported(geometry)
    spec = pair.network.spec
    c, hidden, tokens = spec.width, spec.mlp_hidden, spec.search_tokens + 4
    whole_block = {(tokens, c, 3 * c): 1, (tokens, c, c): 1}
    expected: Counter[tuple[int, int, int]] = Counter()
    for _ in range(spec.depth - 1):
        expected.update(whole_block)
        expected.update([(tokens, c, hidden), (tokens, hidden, c)])
    last_block = [(tokens, c, 2 * c), (4, c, c), (4, c, c), (4, c, hidden), (4, hidden, c)]
    heads = [
        (4, c, spec.box_head_hidden),
        (4, spec.box_head_hidden, spec.bins),
        (4, c, spec.score_head_hidden),
        (4, spec.score_head_hidden, 1),
    ]
    expected.update(last_block)
    expected.update(heads)
    assert linear_layers(pair.models["search"], spec) == expected


@pytest.mark.parametrize("geometry", ["nano", "small"])
def test_template_graph_ends_at_the_last_keys_and_values(exported: Export, geometry: str) -> None:
    pair = exported(geometry)
    spec = pair.network.spec
    c, hidden, tokens = spec.width, spec.mlp_hidden, 2 * spec.template_tokens
    expected: Counter[tuple[int, int, int]] = Counter()
    for _ in range(spec.depth - 1):
        expected.update([(tokens, c, 3 * c), (tokens, c, c)])
        expected.update([(tokens, c, hidden), (tokens, hidden, c)])
    expected.update([(tokens, c, 2 * c)])
    assert linear_layers(pair.models["template"], spec) == expected


def linear_layers(model: onnx.ModelProto, spec: ModelSpec) -> Counter[tuple[int, int, int]]:
    """(tokens, inputs, outputs) of each product with a weight matrix when run for one target."""
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    matrices = {i.name: i.dims for i in probed.graph.initializer if len(i.dims) == 2}
    products = [n for n in probed.graph.node if n.op_type in ("Gemm", "MatMul")]
    products = [node for node in products if node.input[1] in matrices]
    del probed.graph.output[:]
    for node in products:
        probed.graph.output.append(onnx.ValueInfoProto(name=node.output[0]))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(probed.SerializeToString(), options)
    images = random_images(spec, batch=1)
    feed = {"template_kv": np.zeros(spec.template_kv_shape(), np.float32), **images}
    outputs = session.run(None, {i.name: feed[i.name] for i in session.get_inputs()})
    layers: Counter[tuple[int, int, int]] = Counter()
    for node, output in zip(products, outputs, strict=True):
        # The weight of a transposed Gemm is (outputs, inputs).
        inputs = int(np.prod(matrices[node.input[1]])) // output.shape[-1]
        layers[output.size // output.shape[-1], inputs, output.shape[-1]] += 1
    return layers


def test_graphs_take_raw_pixels_and_any_number_of_targets(exported: Export) -> None:
    pair = exported("nano")
    spec = pair.network.spec
    described = {}
    for model in pair.models.values():
        for value in (*model.graph.input, *model.graph.output):
            tensor = value.type.tensor_type
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
            sizes = [d.dim_param or d.dim_value for d in tensor.shape.dim]
            described[value.name] = (dtype, sizes)
    template, search = spec.template_size_px, spec.search_size_px
    assert described == {
        "templates": ("uint8", ["targets", 2, template, template, 3]),
        "template_kv": ("float32", ["targets", *spec.template_kv_shape()[1:]]),
        "search": ("uint8", ["targets", search, search, 3]),
        "edge_probs": ("float32", ["targets", 4, spec.bins]),
        "score": ("float32", ["targets"]),
    }


@pytest.mark.parametrize("name", GRAPHS)
def test_onnx_files_are_opset_17_pass_the_checker_and_say_where_they_come_from(
    exported: Export, name: str
) -> None:
    path = exported("nano").folder / f"{name}.onnx"
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path)
    assert {o.domain: o.version for o in model.opset_import}[""] == 17
    assert all(node.domain == "" for node in model.graph.node)
    assert {p.key: p.value for p in model.metadata_props} == {"source_sha256": "5eed"}
    assert model.producer_name == "edge_tracker"


@geometries
def test_weights_are_stored_once_for_both_graphs(exported: Export, geometry: str) -> None:
    pair = exported(geometry)
    state_bytes = sum(t.numel() * 4 for t in pair.network.state_dict().values())
    stored_bytes = sum(file.stat().st_size for file in pair.folder.iterdir())
    # Beyond the state dict: each block's queries apart from its keys, and the graphs themselves.
    assert stored_bytes < 1.1 * state_bytes + 300_000


def test_weights_come_from_the_file_beside_the_graphs(exported: Export, tmp_path: Path) -> None:
    pair = exported("nano")
    shutil.copytree(pair.folder, tmp_path, dirs_exist_ok=True)
    weights = np.fromfile(tmp_path / "weights.bin", np.float32)
    (weights * 0).tofile(tmp_path / "weights.bin")
    emptied = ExportedNetwork(pair.network, tmp_path, pair.models)
    images = random_images(pair.network.spec, batch=1)
    difference = emptied.run_onnx(images).edge_probs - pair.run_onnx(images).edge_probs
    assert np.abs(difference).max() > 0.01


def test_openvino_stores_weights_once_and_in_half_the_size_as_fp16(
    exported: Export, tmp_path: Path
) -> None:
    pair = exported("tiny")
    state_bytes = sum(t.numel() * 4 for t in pair.network.state_dict().values())
    for precision, expected_bytes in (("fp32", state_bytes), ("fp16", state_bytes / 2)):
        convert_to_openvino(pair.folder, tmp_path / precision, precision, {"width": "192"})
        names = {file.name for file in (tmp_path / precision).iterdir()}
        assert names == {"template.xml", "search.xml", "template.bin", "search.bin"}
        template, search = (tmp_path / precision / f"{name}.bin" for name in GRAPHS)
        assert template.samefile(search)
        assert expected_bytes * 0.9 < search.stat().st_size < expected_bytes * 1.1
        model = ov.Core().read_model(tmp_path / precision / "search.xml")
        assert model.get_rt_info(["edge_tracker", "width"]).value == "192"
        assert model.get_rt_info(["edge_tracker", "precision"]).value == precision


def test_weights_are_copied_where_a_file_has_one_name_only(
    exported: Export, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    convert_to_openvino(exported("tiny").folder, tmp_path, "fp32", {})
    template, search = (tmp_path / f"{name}.bin" for name in GRAPHS)
    assert not template.samefile(search)
    assert template.read_bytes() == search.read_bytes()
    ov.Core().compile_model(ov.Core().read_model(tmp_path / "search.xml"), "CPU")


def test_simplification_that_changes_the_outputs_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    simplify = onnxsim.simplify

    def break_a_weight(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
        simplified, _ = simplify(model)
        largest = max(simplified.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        values = onnx.numpy_helper.to_array(largest) * np.float32(1.01)
        largest.CopyFrom(onnx.numpy_helper.from_array(values, largest.name))
        return simplified, True

    monkeypatch.setattr(onnxsim, "simplify", break_a_weight)
    with pytest.raises(EdgeTrackerError, match="template graph computes something else after"):
        export_onnx(lively_network(TINY), tmp_path / "onnx", {})
    assert not (tmp_path / "onnx").exists()


def test_network_with_72_bins_and_heads_of_other_sizes_exports(tmp_path: Path) -> None:
    network = lively_network(TINY)
    pair = ExportedNetwork(network, tmp_path, export_onnx(network, tmp_path, {}))
    images = random_images(TINY, batch=2)
    expected, got = pair.run_pytorch(images), pair.run_onnx(images)
    assert got.edge_probs.shape == (2, 4, 72)
    np.testing.assert_allclose(got.edge_probs, expected.edge_probs, rtol=0, atol=ONNX_TOLERANCE)
