"""int8: what is quantised and what is not, what it costs, and when it is refused."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import openvino as ov
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.numpy_helper import to_array
from onnx.reference import ReferenceEvaluator

from calibration.footage import find_sources
from calibration.recording import record_sources
from calibration.samples import CalibrationSamples
from converters.draft import Draft
from converters.progress import Progress
from converters.tensorrt.quantisers import refuse_unsigned_quantisers
from edge_tracker.backends.openvino import openvino_core
from edge_tracker.backends.parity import edge_kl
from edge_tracker.bundle.contract import GRAPHS
from edge_tracker.bundle.goldens import Golden, load_golden
from edge_tracker.bundle.manifest import parse_manifest
from edge_tracker.bundle.opening import Bundle, open_bundle
from edge_tracker.cli.main import main
from edge_tracker.errors import CalibrationError
from edge_tracker.hardware import read_cpu
from edge_tracker.options import tell_nobody
from edge_tracker.rules.decode import decode_edges
from edge_tracker.tracker import EdgeTracker
from tests.helpers.annotated_clips import write_still, write_video
from tests.helpers.exported_networks import HALF_DTYPES, tensor_dtypes
from tests.helpers.lively_networks import TINY

pytest.importorskip("nncf", reason="needs edge-tracker[calibrate]")

from calibration import quantise, sensitivity
from calibration.int8 import Int8Options
from calibration.quantise import (
    HEADS,
    INT8_OPSET,
    Models,
    chosen_layers,
    layer_names,
    quantise_onnx,
    quantise_openvino,
    save_onnx,
)
from calibration.sensitivity import layer_sensitivity

FLOAT, FLOAT16, INT8 = (getattr(onnx.TensorProto, name) for name in ("FLOAT", "FLOAT16", "INT8"))
#: In pixels of the search crop: what rounding to int8 moves an edge, and what two runtimes that
#: round at other places differ by.
NEAR_FP32_PX = 3.0
BETWEEN_RUNTIMES_PX = 1.0
KEPT = ("blocks.0.mlp", "blocks.1.attn.q")

Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]


@pytest.fixture(autouse=True)
def _own_home(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(cache_dir))


@pytest.fixture(scope="module")
def floating(int8_bundle: Bundle) -> Path:
    return int8_bundle.path / "onnx" / "fp32"


@pytest.fixture(scope="module")
def samples(int8_bundle: Bundle, annotated_clips: Path, cache_dir: Path) -> CalibrationSamples:
    """Those that the bundle was calibrated on, recorded anew."""
    sources = [s for s in find_sources(annotated_clips) if s.name in ("clip0", "clip2")]
    with EdgeTracker(int8_bundle, precision="fp32", cache_dir=cache_dir, compute="f32") as tracker:
        return record_sources(tracker, sources, "clips", num_samples=32)


@pytest.fixture(scope="module")
def quantised(floating: Path, samples: CalibrationSamples) -> Models:
    return quantise_onnx(floating, samples, ())


@pytest.fixture(scope="module")
def golden(int8_bundle: Bundle) -> Golden:
    return load_golden(int8_bundle)


@dataclass(frozen=True)
class Wiring:
    """Which node gives a tensor, and which tensors are constant."""

    model: onnx.ModelProto
    producers: dict[str, onnx.NodeProto]
    constants: dict[str, onnx.TensorProto]

    def products(self) -> Iterator[onnx.NodeProto]:
        return (n for n in self.model.graph.node if n.op_type in ("Gemm", "Conv", "MatMul"))

    def dequantised(self, node: onnx.NodeProto) -> list[bool]:
        """Of each input, whether it was int8."""
        sources = [self.producers.get(name) for name in node.input]
        return [each is not None and each.op_type == "DequantizeLinear" for each in sources]


def wiring_of(model: onnx.ModelProto) -> Wiring:
    producers = {output: node for node in model.graph.node for output in node.output}
    return Wiring(model, producers, {tensor.name: tensor for tensor in model.graph.initializer})


@pytest.fixture(params=GRAPHS)
def explicit(request: pytest.FixtureRequest, int8_bundle: Bundle) -> Wiring:
    """A graph of the bundle's onnx/int8, weights inside."""
    return wiring_of(onnx.load(int8_bundle.path / f"onnx/int8/{request.param}.onnx"))


# ONNX with explicit quantisers.


def test_quantisers_are_signed_around_zero_and_those_of_weights_have_a_scale_per_output(
    explicit: Wiring,
) -> None:
    weights = 0
    for node in explicit.model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale, zero = (explicit.constants[name] for name in node.input[1:3])
        assert scale.data_type == FLOAT16
        assert (to_array(scale) > 0).all()
        assert zero.data_type == INT8
        assert not to_array(zero).any()
        if (matrix := explicit.constants.get(node.input[0])) is None:
            assert to_array(scale).shape == ()
            continue
        assert matrix.data_type == INT8
        (axis,) = (attribute.i for attribute in node.attribute if attribute.name == "axis")
        (reader,) = (n for n in explicit.model.graph.node if node.output[0] in n.input)
        transposed = any(a.name == "transB" and a.i for a in reader.attribute)
        assert axis % 2 == (0 if transposed else 1)
        assert tuple(scale.dims) == (matrix.dims[axis],)
        weights += 1
    assert weights > 0


def test_linear_layers_of_the_blocks_are_int8_and_nothing_else(explicit: Wiring) -> None:
    """No bias, no product of the attention, not the patches' convolution, not the heads."""
    int8_layers = []
    for node in explicit.products():
        dequantised = explicit.dequantised(node)
        if any(dequantised):
            assert node.op_type == "Gemm"
            assert node.name.startswith("blocks.")
            assert dequantised == [True, True, False]
            assert explicit.constants[node.input[2]].data_type == FLOAT16
            int8_layers.append(node.name)
    gemms = [n.name for n in explicit.products() if n.op_type == "Gemm"]
    assert int8_layers == [name for name in gemms if not name.startswith(HEADS)]


def test_the_rest_is_float16_but_for_the_probabilities(explicit: Wiring) -> None:
    types = {tensor.data_type for tensor in explicit.constants.values()}
    assert types <= {FLOAT16, INT8, onnx.TensorProto.INT64}
    outputs = {value.name for value in explicit.model.graph.output} & {"edge_probs", "score"}
    last = {explicit.producers[name].op_type: explicit.producers[name] for name in outputs}
    assert set(last) == ({"Softmax", "Sigmoid"} if outputs else set())
    floats = [
        node.output[0]
        for node in explicit.model.graph.node
        if node.op_type == "Cast" and node.attribute[0].i == FLOAT
    ]
    assert set(floats) == {node.input[0] for node in last.values()}


def test_files_pass_the_checkers_and_state_what_the_host_sees(int8_bundle: Bundle) -> None:
    for graph in GRAPHS:
        path = int8_bundle.path / f"onnx/int8/{graph}.onnx"
        onnx.checker.check_model(path, full_check=True)
        refuse_unsigned_quantisers(path)
        model = onnx.load(path)
        assert {o.domain: o.version for o in model.opset_import} == {"": INT8_OPSET}
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        assert metadata["calibration_seed"] == "0"
        assert metadata["source_sha256"] == int8_bundle.manifest["source"]["sha256"]
    artefact = int8_bundle.find("onnx", "int8")
    assert artefact is not None
    assert tensor_dtypes(artefact) == HALF_DTYPES
    (entry,) = (e for e in int8_bundle.manifest["artefacts"] if is_int8(e, "onnx"))
    assert entry["opset"] == INT8_OPSET


def is_int8(entry: dict[str, Any], kind: str) -> bool:
    return (entry["format"], entry["precision"]) == (kind, "int8")


def run_onnxruntime(folder: Path, golden: Golden) -> Outputs:
    template, search = (ort.InferenceSession(folder / f"{graph}.onnx") for graph in GRAPHS)
    (template_kv,) = template.run(None, {"templates": golden.templates})
    feed = {"search": golden.search, "template_kv": template_kv}
    edge_probs, score = search.run(["edge_probs", "score"], feed)
    return edge_probs, score


class OpenVinoPair:
    """Both graphs of a folder, with a dynamic number of targets."""

    def __init__(self, folder: Path, suffix: str) -> None:
        core = ov.Core()
        self.models = {g: core.read_model(folder / f"{g}.{suffix}") for g in GRAPHS}
        self._compiled = {
            graph: core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            for graph, model in self.models.items()
        }

    def run(self, templates: NDArray[np.uint8], search: NDArray[np.uint8]) -> Outputs:
        template_kv = self._compiled["template"]({"templates": templates})["template_kv"]
        feed = {"search": search, "template_kv": np.array(template_kv)}
        outputs = self._compiled["search"](feed)
        return np.array(outputs["edge_probs"]), np.array(outputs["score"])


def difference_px(first: Outputs, second: Outputs) -> float:
    edges = (decode_edges(outputs[0]).mean for outputs in (first, second))
    return float(np.abs(next(edges) - next(edges)).max() * TINY.search_size_px)


def evaluated_as_written(folder: Path, golden: Golden) -> Outputs:
    """By onnx's own definitions of the operators, in NumPy."""
    template, search = (ReferenceEvaluator(onnx.load(folder / f"{graph}.onnx")) for graph in GRAPHS)
    (template_kv,) = template.run(["template_kv"], {"templates": golden.templates})
    feed = {"search": golden.search, "template_kv": template_kv}
    edge_probs, score = search.run(["edge_probs", "score"], feed)
    return edge_probs, score


def test_onnx_runs_as_it_is_written_and_near_fp32(
    int8_bundle: Bundle, floating: Path, golden: Golden
) -> None:
    folder = int8_bundle.path / "onnx" / "int8"
    fp32, int8 = run_onnxruntime(floating, golden), run_onnxruntime(folder, golden)
    written = evaluated_as_written(folder, golden)
    assert difference_px(int8, written) < BETWEEN_RUNTIMES_PX
    assert np.abs(int8[1] - written[1]).max() < 0.02
    assert 0 < difference_px(fp32, int8) < NEAR_FP32_PX
    assert 0 < np.abs(fp32[1] - int8[1]).max() < 0.05
    assert 0 < edge_kl(fp32[0], int8[0]).mean() < 0.02


def saturates_int8() -> bool:
    """Whether this CPU adds products of 8-bit numbers in 16 bits, as AVX2 does without VNNI."""
    present = {feature.flag for feature in read_cpu(Path("/")).features if feature.present}
    return "avx2" in present and present.isdisjoint({"avx_vnni", "avx512_vnni"})


@pytest.mark.skipif(
    saturates_int8(),
    reason="OpenVINO's int8 products saturate on a CPU with AVX2 and without VNNI",
)
def test_onnx_runs_in_openvino_as_it_is_written(int8_bundle: Bundle, golden: Golden) -> None:
    folder = int8_bundle.path / "onnx" / "int8"
    written = evaluated_as_written(folder, golden)
    openvino = OpenVinoPair(folder, "onnx").run(golden.templates, golden.search)
    assert difference_px(openvino, written) < BETWEEN_RUNTIMES_PX
    assert np.abs(openvino[1] - written[1]).max() < 0.02


def test_unsigned_quantisers_become_signed_ones_of_the_same_range() -> None:
    scale = np.array(0.1, np.float32)
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
                helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
            ],
            "one quantiser",
            [helper.make_tensor_value_info("x", FLOAT, ["n"])],
            [helper.make_tensor_value_info("y", FLOAT, ["n"])],
            [
                numpy_helper.from_array(scale, "scale"),
                numpy_helper.from_array(np.array(0, np.uint8), "zero"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    quantise._make_signed(model)
    x = np.linspace(0, 25.5, 200, dtype=np.float32)
    session = ort.InferenceSession(model.SerializeToString())
    (y,) = session.run(None, {"x": x})
    step = 0.1 * 255 / 127
    assert np.abs(y - x).max() == pytest.approx(step / 2, rel=0.05)
    constants = wiring_of(model).constants
    assert constants["zero"].data_type == INT8
    before = model.SerializeToString()
    quantise._make_signed(model)
    assert model.SerializeToString() == before


# OpenVINO.


def products(model: ov.Model) -> dict[str, tuple[str, str]]:
    """Layer -> the operation before it, and the type in which its weights lie on the disk."""
    found = {}
    for operation in model.get_ops():
        name = operation.get_friendly_name()
        if not name.endswith("/WithoutBiases"):
            continue
        source = operation.input_value(1).get_node()
        while source.get_type_name() != "Constant":
            source = source.input_value(0).get_node()
        before = operation.input_value(0).get_node().get_type_name()
        stored = source.get_output_element_type(0).get_type_name()
        found[name.removesuffix("/WithoutBiases")] = (before, stored)
    return found


def test_openvino_holds_int8_weights_and_quantises_what_meets_them(
    int8_bundle: Bundle, floating: Path
) -> None:
    pair = OpenVinoPair(int8_bundle.path / "openvino" / "int8", "xml")
    for graph, model in pair.models.items():
        layers = products(model)
        assert list(layers) != []
        assert set(layers) == {
            n.name
            for n in onnx.load(floating / f"{graph}.onnx").graph.node
            if n.op_type in ("Gemm", "Conv")
        }
        for name, (before, stored) in layers.items():
            if name.startswith("blocks."):
                assert (before, stored) == ("FakeQuantize", "i8")
            elif name.startswith(HEADS):
                assert stored == "f32"
                assert before != "FakeQuantize"


def test_openvino_int8_is_smaller_and_near_fp32(
    int8_bundle: Bundle, floating: Path, golden: Golden
) -> None:
    int8, fp32 = (int8_bundle.find("openvino", precision) for precision in ("int8", "fp32"))
    assert int8 is not None
    assert fp32 is not None
    sizes = [
        (int8_bundle.path / f"openvino/{p}/search.bin").stat().st_size for p in ("int8", "fp32")
    ]
    assert sizes[0] < 0.6 * sizes[1]
    pair = OpenVinoPair(int8_bundle.path / "openvino" / "int8", "xml")
    outputs = pair.run(golden.templates, golden.search)
    assert 0 < difference_px(run_onnxruntime(floating, golden), outputs) < NEAR_FP32_PX


def test_openvino_int8_takes_several_targets_at_once(int8_bundle: Bundle, golden: Golden) -> None:
    pair = OpenVinoPair(int8_bundle.path / "openvino" / "int8", "xml")
    together = pair.run(golden.templates[:3], golden.search[:3])
    for index in range(3):
        one = slice(index, index + 1)
        alone = pair.run(golden.templates[one], golden.search[one])
        for of_three, of_one in zip(together, alone, strict=True):
            np.testing.assert_allclose(of_three[one], of_one, atol=1e-5)


def test_the_same_samples_give_the_same_files(
    int8_bundle: Bundle,
    floating: Path,
    samples: CalibrationSamples,
    quantised: Models,
    tmp_path: Path,
) -> None:
    """As they were when the bundle was made, by other calls."""
    assert samples.provenance == int8_bundle.manifest["calibration"]
    stated = onnx.load(floating / "search.onnx", load_external_data=False).metadata_props
    metadata = {entry.key: entry.value for entry in stated} | {"calibration_seed": "0"}
    save_onnx(quantised, tmp_path / "onnx" / "int8", metadata)
    quantise_openvino(floating, tmp_path / "openvino" / "int8", samples, (), metadata)
    files = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert len(files) == 7  # OpenVINO's weights have a name for each graph
    for file in files:
        assert (tmp_path / file).read_bytes() == (int8_bundle.path / file).read_bytes(), file


def test_weights_for_openvino_keep_to_half_the_range(int8_bundle: Bundle) -> None:
    """Two products are added in 16 bits on a CPU without VNNI: with the whole range they do not
    fit.
    """
    for graph in ("template", "search"):
        model = openvino_core().read_model(int8_bundle.path / f"openvino/int8/{graph}.xml")
        weights = [
            operation.data
            for operation in model.get_ops()
            if operation.get_type_name() == "Constant"
            and operation.get_element_type().get_type_name() == "i8"
        ]
        assert len(weights) > 4
        assert 60 <= max(int(np.abs(w.astype(int)).max()) for w in weights) <= 64


# Layers that stay in floating point.


def test_kept_layers_stay_float_in_onnx(floating: Path, samples: CalibrationSamples) -> None:
    kept = chosen_layers(layer_names(floating), KEPT)
    assert kept == ["blocks.0.mlp.fc1", "blocks.0.mlp.fc2", "blocks.1.attn.q"]
    models = quantise_onnx(floating, samples, KEPT)
    for model in models.values():
        wiring = wiring_of(model)
        for node in wiring.products():
            if node.name.startswith("blocks."):
                assert any(wiring.dequantised(node)) == (node.name not in kept)


def test_kept_layers_stay_float_in_openvino(
    floating: Path, samples: CalibrationSamples, tmp_path: Path
) -> None:
    kept = chosen_layers(layer_names(floating), KEPT)
    quantise_openvino(floating, tmp_path, samples, KEPT, {})
    for model in OpenVinoPair(tmp_path, "xml").models.values():
        stored = {name: kind for name, (_, kind) in products(model).items() if "blocks." in name}
        assert {"f32", "i8"} == set(stored.values())
        for name, kind in stored.items():
            assert kind == ("f32" if name in kept else "i8")


LAYERS = ["blocks.1.attn.q", "blocks.1.attn.kv", "blocks.1.mlp.fc1", "blocks.10.mlp.fc1"]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("blocks.1.attn.q", LAYERS[:1]),
        ("blocks.1.attn", LAYERS[:2]),
        ("blocks.1", LAYERS[:3]),
        ("blocks", LAYERS),
    ],
)
def test_a_layer_is_meant_by_its_name_or_its_start_up_to_a_dot(
    wanted: str, chosen: list[str]
) -> None:
    assert chosen_layers(LAYERS, [wanted]) == chosen
    assert chosen_layers(LAYERS, [wanted, wanted]) == chosen


@pytest.mark.parametrize("wanted", ["blocks.2", "blocks.1.at", "blocks.1.attn.", "", "mlp.fc1"])
def test_an_unknown_layer_is_refused_with_the_choices(wanted: str) -> None:
    with pytest.raises(CalibrationError, match=f"no layer is named {wanted}: ") as error:
        chosen_layers(LAYERS, [wanted])
    assert ", ".join(LAYERS) in str(error.value)


# Accuracy, and what is refused.


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_accuracy_is_in_the_manifest(int8_bundle: Bundle, kind: str) -> None:
    artefact = int8_bundle.find(kind, "int8")
    assert artefact is not None
    accuracy = artefact.accuracy
    assert accuracy is not None
    assert accuracy.kept_fp == ()
    assert accuracy.backend == {"onnx": "onnxruntime", "openvino": "openvino"}[kind]
    for fraction in ("auc_fp32", "auc_int8", "ao_fp32", "ao_int8", "trajectory_iou_mean"):
        assert 0 <= getattr(accuracy, fraction) <= 1
    assert 0.5 < accuracy.trajectory_iou_worst <= accuracy.trajectory_iou_mean
    assert 0 < accuracy.box_px_mean < accuracy.box_px_max < TINY.search_size_px
    assert 0 < accuracy.score_mean < accuracy.score_max < 0.2
    assert 0 < accuracy.edge_kl_mean < accuracy.edge_kl_max
    assert accuracy.latency_ratio > 0
    assert accuracy.auc_fp32 is not None
    assert accuracy.auc_int8 is not None
    assert accuracy.auc_drop == accuracy.auc_fp32 - accuracy.auc_int8
    assert artefact.parity is not None
    assert artefact.parity.box_px > 0


def test_what_judges_has_not_calibrated(int8_bundle: Bundle) -> None:
    assert int8_bundle.calibration is not None
    calibrated_on = set(int8_bundle.calibration.sources)
    judges = [set(a.accuracy.sequences) for a in int8_bundle.artefacts if a.accuracy is not None]
    assert len(judges) == 2
    for judged_on in judges:
        assert judged_on | calibrated_on == {"clip0", "clip1", "clip2", "clip3"}
        assert judged_on & calibrated_on == set()


def test_edge_kl_is_the_divergence_in_nats() -> None:
    half, skewed = np.array([[[0.5, 0.5]] * 4]), np.array([[[0.25, 0.75]] * 4])
    expected = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    np.testing.assert_allclose(edge_kl(half, skewed), np.full((1, 4), expected))
    np.testing.assert_allclose(edge_kl(half, half), np.zeros((1, 4)), atol=1e-12)
    assert np.isfinite(edge_kl(half, np.array([[[0.0, 1.0]] * 4]))).all()


def test_int8_that_loses_too_much_is_left_out_and_what_to_keep_is_named(
    tiny_checkpoint: Path,
    samples: CalibrationSamples,
    annotated_clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From a file of samples, judged on a data set that is named. What was accepted is shown."""
    samples.save(tmp_path / "samples.npz")
    for name in ("clip1", "clip3"):
        shutil.copytree(annotated_clips / name, tmp_path / "judges" / name)
    output = tmp_path / "refused"
    status = main(
        ["convert", str(tiny_checkpoint), "-o", str(output), "--to", "onnx",
         "--precision", "int8", "--calibration", str(tmp_path / "samples.npz"),
         "--judge-on", str(tmp_path / "judges"), "--max-auc-drop", "-1"]
    )  # fmt: skip
    printed, error = capsys.readouterr()
    assert status == 1
    assert "onnx" in printed
    assert "fp32" in printed
    assert re.search(r"onnx/int8 is refused: .* mean over 2 held-back sequences", error)
    assert "a loss of up to -1 is allowed (--max-auc-drop)" in error
    layers = layer_names(output / "onnx" / "fp32")
    suggested = error.split("--keep-fp ")[1].split(")")[0]
    assert suggested in layers
    assert sum(f"{layer} (" in error for layer in layers) == 5
    assert f"{output} was written without what is refused" in error
    bundle = open_bundle(output)
    assert [artefact.name for artefact in bundle.artefacts] == ["onnx/fp32"]
    bundle.check_files(list(bundle.manifest["files"]))
    assert not (output / "onnx" / "int8").exists()
    assert not any("int8" in path for path in bundle.manifest["files"])


@pytest.fixture
def folder(int8_bundle: Bundle, tmp_path: Path) -> Path:
    return shutil.copytree(int8_bundle.path, tmp_path / "bundle")


def add(folder: Path, golden: Golden, options: Int8Options) -> list[str]:
    """What convert does once the fp32 artefacts are there."""
    bundle = open_bundle(folder)
    floating = [artefact for artefact in bundle.artefacts if artefact.precision == "fp32"]
    draft = Draft(
        folder, bundle.spec, bundle.tracker_defaults, bundle.source, bundle.tools, floating
    )
    draft.write()
    quantisation = options.prepare(("onnx",))
    return quantisation.add(draft, golden, {}, Progress(quantisation.steps, tell_nobody))


def test_what_cannot_calibrate_or_judge_is_refused(
    folder: Path,
    golden: Golden,
    samples: CalibrationSamples,
    annotated_clips: Path,
    tmp_path: Path,
) -> None:
    npz = tmp_path / "samples.npz"
    samples.save(npz)
    with pytest.raises(CalibrationError, match=r"without ground truth: .*--judge-on"):
        add(folder, golden, Int8Options(npz))
    with pytest.raises(CalibrationError, match=r"no layer is named head: choose from .*box_head"):
        add(folder, golden, Int8Options(npz, annotated_clips, keep_fp=("head",)))
    dataclasses.replace(samples, search=samples.search[:, :48, :48]).save(npz)
    with pytest.raises(CalibrationError, match=r"samples\.npz have templates of 32 px .* of 48 px"):
        add(folder, golden, Int8Options(npz, annotated_clips))

    lonely = tmp_path / "lonely"
    shutil.copytree(annotated_clips / "clip0", lonely / "clip0")
    write_still(lonely / "ball.png")
    with pytest.raises(
        CalibrationError,
        match=r"too few sequences and videos \(1 of 2 sources\).*at least 2.*--judge-on",
    ):
        add(folder, golden, Int8Options(lonely))


@pytest.fixture(scope="module")
def own_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own")
    for seed in range(3):
        write_video(root / f"own{seed}.mp4", frames=40, seed=seed)
    return root


def test_videos_without_annotations_judge_how_near_int8_stays_to_fp32(
    folder: Path,
    golden: Golden,
    own_videos: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("calibration.accuracy.JUDGED_FRAMES", 12)
    assert add(folder, golden, Int8Options(own_videos, num_samples=32, min_iou=0.2)) == []
    bundle = open_bundle(folder)
    artefact = bundle.find("onnx", "int8")
    assert artefact is not None
    assert artefact.accuracy is not None
    assert bundle.calibration is not None
    assert set(bundle.calibration.sources) == {"own0.mp4", "own2.mp4"}
    assert artefact.accuracy.sequences == ("own1.mp4",)
    assert artefact.accuracy.auc_drop is None
    assert 0.2 < artefact.accuracy.trajectory_iou_mean < 1
    assert main(["inspect", str(folder)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "on 1 videos without annotations" in printed
    assert "whether either follows the target is not" in printed
    assert "not judged" in printed


def test_int8_that_parts_from_fp32_on_own_videos_is_refused(
    folder: Path,
    golden: Golden,
    samples: CalibrationSamples,
    own_videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Samples from elsewhere, the folder of videos named as the judge."""
    monkeypatch.setattr("calibration.accuracy.JUDGED_FRAMES", 12)
    monkeypatch.setattr("calibration.int8.layer_sensitivity", lambda *rest, **choices: [])
    samples.save(tmp_path / "samples.npz")
    options = Int8Options(tmp_path / "samples.npz", own_videos, min_iou=1.0)
    refused, _ = add(folder, golden, options)
    assert re.search(
        r"overlap fp32's by 0\.\d+, mean over 3 videos .* at least 1 .*--min-iou", refused
    )
    assert open_bundle(folder).find("onnx", "int8") is None


def test_ground_truth_is_all_there_or_not_at_all(int8_bundle: Bundle) -> None:
    manifest = json.loads(json.dumps(int8_bundle.manifest))
    manifest["artefacts"][-1]["accuracy"]["auc_int8"] = None
    with pytest.raises(ValueError, match=r"accuracy\.auc_int8 is missing$"):
        parse_manifest(manifest)


@pytest.mark.parametrize("factor", ["template_factor", "search_factor"])
def test_samples_of_another_scale_are_refused(
    folder: Path,
    golden: Golden,
    samples: CalibrationSamples,
    annotated_clips: Path,
    tmp_path: Path,
    factor: str,
) -> None:
    tracker = {**samples.provenance["tracker"], factor: 9.0}
    npz = tmp_path / "samples.npz"
    dataclasses.replace(samples, provenance={**samples.provenance, "tracker": tracker}).save(npz)
    with pytest.raises(CalibrationError, match=f"recorded with a {factor} of 9, .* tracked with"):
        add(folder, golden, Int8Options(npz, annotated_clips))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"max_auc_drop": float("nan")}, "max_auc_drop is nan"),
        ({"num_samples": 31}, "num_samples is 31: expected at least 32"),
        ({"seed": -1}, "seed is -1"),
        ({"min_iou": 1.5}, "min_iou is 1.5: expected a number from 0 to 1"),
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Int8Options(Path("clips"), **wrong)


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"box_px_mean": 0.8}, None),
        ({"box_px_mean": 99.0}, "edges are 99.00 px from fp32's .* one bin of the distributions"),
        ({"box_px_mean": float("nan")}, "edges are nan px"),
        ({"auc_int8": float("nan")}, "its success AUC is nan"),
        ({"auc_int8": 0.1, "auc_fp32": 0.2}, "its success AUC is 0.100 where fp32 has 0.200"),
    ],
)
def test_a_network_that_points_elsewhere_is_refused_however_well_it_happens_to_track(
    folder: Path,
    golden: Golden,
    annotated_clips: Path,
    monkeypatch: pytest.MonkeyPatch,
    figures: dict[str, Any],
    words: str | None,
) -> None:
    artefact = open_bundle(folder).find("onnx", "int8")
    assert artefact is not None
    assert artefact.accuracy is not None
    auc = artefact.accuracy.auc_fp32
    accuracy = dataclasses.replace(artefact.accuracy, **{"auc_int8": auc, **figures})
    monkeypatch.setattr("calibration.int8.measure_accuracy", lambda *rest, **choices: accuracy)
    monkeypatch.setattr("calibration.int8.layer_sensitivity", lambda *rest, **choices: [])
    refusals = add(folder, golden, Int8Options(annotated_clips, num_samples=32))
    kept = [e for e in open_bundle(folder).manifest["artefacts"] if is_int8(e, "onnx")]
    assert (len(refusals), len(kept)) == ((0, 1) if words is None else (2, 0))
    if words is not None:
        assert re.search(words, refusals[0])


def test_sequences_that_calibrated_do_not_judge(
    folder: Path,
    golden: Golden,
    samples: CalibrationSamples,
    annotated_clips: Path,
    tmp_path: Path,
) -> None:
    npz = tmp_path / "samples.npz"
    samples.save(npz)
    seen = tmp_path / "seen"
    shutil.copytree(annotated_clips / "clip0", seen / "clip0")
    with pytest.raises(
        CalibrationError, match=r"samples were recorded from every sequence of .*seen \(1\)"
    ):
        add(folder, golden, Int8Options(npz, seen))
    options = Int8Options(npz, annotated_clips, max_auc_drop=1.0)
    with pytest.warns(RuntimeWarning, match="2 of 4 sequences of .* do not judge int8"):
        assert add(folder, golden, options) == []
    entry = open_bundle(folder).manifest["artefacts"][-1]
    assert is_int8(entry, "onnx")
    assert entry["accuracy"]["sequences"] == ["clip1", "clip3"]


def test_convert_prints_what_int8_costs(
    int8_bundle: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def convert(checkpoint: Path, output: Path, **choices: Any) -> Bundle:
        asked.update(choices)
        return int8_bundle

    monkeypatch.setattr("converters.convert.convert_checkpoint", convert)
    monkeypatch.setenv("COLUMNS", "240")
    arguments = ["convert", "a.pth", "-o", "b", "--precision", "fp32,int8", "--calibration", "c"]
    options = ["--keep-fp", "blocks.0,blocks.1.mlp", "--samples", "64", "--seed", "7"]
    assert main([*arguments, *options, "--judge-on", "d", "--max-auc-drop", "0.02"]) == 0
    assert asked["int8"] == Int8Options(
        calibration=Path("c"),
        judged_on=Path("d"),
        max_auc_drop=0.02,
        keep_fp=("blocks.0", "blocks.1.mlp"),
        num_samples=64,
        seed=7,
    )
    converted = " ".join(capsys.readouterr().out.split())
    assert main(["inspect", str(int8_bundle.path)]) == 0
    inspected = " ".join(capsys.readouterr().out.split())
    assert "int8 calibrated on" in inspected
    for source in int8_bundle.manifest["calibration"]["sources"]:
        assert source in inspected
    manifest = json.loads(json.dumps(int8_bundle.manifest))
    del manifest["artefacts"][-1]["accuracy"]["box_px_mean"]
    with pytest.raises(ValueError, match=r"^artefacts\[\d\]\.accuracy\.box_px_mean is missing$"):
        parse_manifest(manifest)
    for printed in (converted, inspected):
        assert "int8 against fp32 on 2 sequences held back" in printed
        for entry in int8_bundle.manifest["artefacts"]:
            if entry["precision"] == "int8":
                accuracy = entry["accuracy"]
                assert f"{accuracy['auc_int8']:.3f} ({accuracy['auc_fp32']:.3f})" in printed
                assert f"{accuracy['latency_ratio']:.2f} ({accuracy['backend']})" in printed


# Which layers suffer.


def loaded(floating: Path) -> Models:
    return {graph: onnx.load(floating / f"{graph}.onnx") for graph in GRAPHS}


def test_with_every_layer_freed_the_fp32_network_is_back(
    floating: Path, quantised: Models, samples: CalibrationSamples
) -> None:
    """Input, weights and bias: what smoothing scaled and bias correction moved is undone."""
    fp32, freed = loaded(floating), dict(quantised)
    for layer in layer_names(floating):
        for graph in GRAPHS:
            wiring = wiring_of(freed[graph])
            if any(n.name == layer and any(wiring.dequantised(n)) for n in wiring.products()):
                freed[graph] = sensitivity._with_float_layer(fp32[graph], freed[graph], layer)
    crops = dataclasses.replace(samples, templates=samples.templates[:8], search=samples.search[:8])
    reference, int8, back = (
        sensitivity._edge_probs(models, crops) for models in (fp32, quantised, freed)
    )
    assert np.abs(reference - back).max() < 1e-5
    assert np.abs(reference - int8).max() > 1e-3


@pytest.mark.parametrize("layer", ["blocks.0.mlp.fc1", "blocks.1.attn.q", "blocks.1.attn.kv"])
def test_a_layer_with_coarse_weights_comes_first(
    layer: str, floating: Path, quantised: Models, samples: CalibrationSamples
) -> None:
    coarse: Models = {}
    for graph, model in quantised.items():
        coarse[graph] = onnx.ModelProto()
        coarse[graph].CopyFrom(model)
        wiring = wiring_of(coarse[graph])
        for node in wiring.products():
            if node.name == layer:
                weights = wiring.constants[wiring.producers[node.input[1]].input[0]]
                steps = np.clip(np.round(to_array(weights) / 64.0) * 64, -64, 64)
                weights.CopyFrom(numpy_helper.from_array(steps.astype(np.int8), weights.name))
    announced: list[tuple[int, int, str]] = []
    found = layer_sensitivity(
        loaded(floating), coarse, samples, on_progress=lambda *words: announced.append(words)
    )
    assert found[0].layer == layer
    assert found[0].share > 0.5 > found[1].share
    assert found == sorted(found, key=lambda each: each.edge_kl_without)
    assert [index for index, _, _ in announced] == list(range(len(found)))
    assert {name for _, _, name in announced} == {each.layer for each in found}
    assert {each.layer for each in found} == {
        name for name in layer_names(floating) if name.startswith("blocks.")
    }
