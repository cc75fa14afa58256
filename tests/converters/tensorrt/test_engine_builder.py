"""Engines by NVIDIA's own builder: TensorRT for RTX compiles without a GPU.

What it shows: NVIDIA's parser takes the graphs, types are as they were meant, the graphs optimise.
What it cannot: kernels run, and how fast or exactly, only on a device.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from converters.tensorrt.build import build
from converters.tensorrt.engine_builder import BuildOptions, build_engine, parse
from converters.tensorrt.quantisers import refuse_unsigned_quantisers
from converters.to_onnx import export_onnx
from edge_tracker import open_bundle
from edge_tracker.backends.choice import open_graphs
from edge_tracker.backends.tensorrt.module import make_log
from edge_tracker.bundle.opening import Bundle
from edge_tracker.bundle.spec import ModelSpec
from edge_tracker.errors import EdgeTrackerError
from edge_tracker.hardware import CudaDevice
from mixformerv2.geometries import NANO
from tests.helpers.exported_networks import ExportedNetwork
from tests.helpers.fake_tensorrt import ORIN
from tests.helpers.lively_networks import BASE_SHORT, TINY, TRIED, lively_network
from tests.helpers.quantised_linears import quantise_linears

trt: Any = pytest.importorskip(
    "tensorrt_rtx", reason="needs tensorrt_rtx (pip install tensorrt_rtx)"
)

GRAPHS = ("template", "search")
TARGET = "8.6"
#: In fp16 Base is cut to two blocks, which have every kind of layer, to save exporting all eight.
BUILT_GEOMETRIES = ("nano", "small", BASE_SHORT)
Export = Callable[[str], ExportedNetwork]


@pytest.fixture(scope="module")
def builder() -> tuple[Any, Any]:
    log = make_log(trt)
    return trt.Builder(log), log


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    def write(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{text}")

    return write


def described(network: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> type and shape of each tensor at the network's edges."""
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    tensors += [network.get_output(index) for index in range(network.num_outputs)]
    return {tensor.name: (tensor.dtype.name, tuple(tensor.shape)) for tensor in tensors}


def layer_types(network: Any, kind: str) -> Counter[str]:
    """Types of what the layers of a kind give."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    return Counter(layer.get_output(0).dtype.name for layer in layers if layer.type.name == kind)


def expected_edges(spec: ModelSpec, graph: str, kv_type: str) -> dict[str, Any]:
    template, search = spec.template_size_px, spec.search_size_px
    kv = {"template_kv": (kv_type, (-1, *spec.template_kv_shape()[1:]))}
    if graph == "template":
        return {"templates": ("UINT8", (-1, 2, template, template, 3)), **kv}
    return {
        "search": ("UINT8", (-1, search, search, 3)),
        **kv,
        "edge_probs": ("FLOAT", (-1, 4, spec.bins)),
        "score": ("FLOAT", (-1,)),
    }


def matrix_products(spec: ModelSpec, graph: str) -> int:
    """Linear layers, and two products of each attention. In the last block the template graph has
    keys and values alone, and the search graph queries apart from them.
    """
    whole_blocks = spec.depth - 1
    if graph == "template":
        return whole_blocks * (4 + 2) + 1
    heads = 4
    return whole_blocks * (4 + 2) + (5 + 2) + heads


def check_and_build(
    builder: tuple[Any, Any], folder: Path, spec: ModelSpec, precision: str, title: str
) -> str:
    """Assert edges and types of both graphs, build them; a line with sizes and times."""
    line = f"tensorrt_rtx {trt.__version__}, SM {TARGET}: {title} {precision}:"
    compute = {"fp32": "FLOAT", "fp16": "HALF"}[precision]
    for graph in GRAPHS:
        path = folder / f"{graph}.onnx"
        network = parse(trt, *builder, path)
        assert described(network) == expected_edges(spec, graph, compute)
        products = layer_types(network, "MATRIX_MULTIPLY")
        assert products == {compute: matrix_products(spec, graph)}
        assert set(layer_types(network, "CONVOLUTION")) == {compute}
        if precision == "fp16":
            # The two that the host reads: softmax of the edges, sigmoid of the score.
            floats = layer_types(network, "SOFTMAX")["FLOAT"]
            assert floats == (1 if graph == "search" else 0)
            assert layer_types(network, "NORMALIZATION").keys() == {"HALF"}
        start = time.perf_counter()
        options = BuildOptions(precision, compute_capability=TARGET)
        engine, timing_cache = build_engine(trt, *builder, path, options)
        line += f" {graph} {len(engine) / 1e6:.1f} MB in {time.perf_counter() - start:.1f} s"
        assert timing_cache == b""
        weights_bytes = (folder / "weights.bin").stat().st_size
        assert 0.4 * weights_bytes < len(engine) < 3 * weights_bytes + 10e6
    return line


@pytest.mark.parametrize("geometry", BUILT_GEOMETRIES)
def test_fp32_pairs_parse_with_the_right_types_and_build(
    exported: Export, geometry: str, builder: tuple[Any, Any], report: Callable[[str], None]
) -> None:
    pair = exported(geometry)
    report(check_and_build(builder, pair.folder, pair.network.spec, "fp32", geometry))


@pytest.mark.parametrize("geometry", BUILT_GEOMETRIES)
def test_fp16_pairs_parse_with_the_right_types_and_build(
    geometry: str, builder: tuple[Any, Any], report: Callable[[str], None], tmp_path: Path
) -> None:
    spec = TRIED[geometry]
    export_onnx(lively_network(spec), tmp_path, {}, torch.float16)
    report(check_and_build(builder, tmp_path, spec, "fp16", geometry))
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("graph", GRAPHS)
def test_int8_pairs_with_explicit_quantisers_build(
    exported: Export,
    graph: str,
    builder: tuple[Any, Any],
    report: Callable[[str], None],
    tmp_path: Path,
) -> None:
    pair = exported("nano")
    model = onnx.load(pair.folder / f"{graph}.onnx")
    linears = quantise_linears(model, np.array(0, np.int8))
    path = tmp_path / f"{graph}.onnx"
    onnx.save(model, path)
    refuse_unsigned_quantisers(path)
    network = parse(trt, *builder, path)
    assert described(network) == expected_edges(NANO, graph, "FLOAT")
    assert layer_types(network, "QUANTIZE") == {"INT8": linears}
    assert layer_types(network, "DEQUANTIZE") == {"FLOAT": 2 * linears}
    attention_products = 2 * (NANO.depth - (graph == "template"))
    assert linears + attention_products == matrix_products(NANO, graph)
    start = time.perf_counter()
    engine, _ = build_engine(trt, *builder, path, BuildOptions("int8", compute_capability=TARGET))
    seconds = time.perf_counter() - start
    report(f"nano int8: {graph} {len(engine) / 1e6:.1f} MB in {seconds:.1f} s")


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_int8_pair_of_a_bundle_builds_with_all_else_in_half_precision(
    int8_bundle: Bundle, graph: str, builder: tuple[Any, Any], report: Callable[[str], None]
) -> None:
    path = int8_bundle.path / f"onnx/int8/{graph}.onnx"
    refuse_unsigned_quantisers(path)
    nodes = Counter(node.op_type for node in onnx.load(path).graph.node)
    network = parse(trt, *builder, path)
    assert described(network) == expected_edges(TINY, graph, "HALF")
    assert layer_types(network, "QUANTIZE") == {"INT8": nodes["QuantizeLinear"]}
    assert layer_types(network, "DEQUANTIZE") == {"HALF": nodes["DequantizeLinear"]}
    assert layer_types(network, "MATRIX_MULTIPLY") == {"HALF": matrix_products(TINY, graph)}
    assert set(layer_types(network, "CONVOLUTION")) == {"HALF"}
    assert layer_types(network, "SOFTMAX")["FLOAT"] == (1 if graph == "search" else 0)
    start = time.perf_counter()
    engine, _ = build_engine(trt, *builder, path, BuildOptions("int8", compute_capability=TARGET))
    seconds = time.perf_counter() - start
    report(f"tiny int8 of a bundle: {graph} {len(engine) / 1e6:.1f} MB in {seconds:.1f} s")


def test_an_unsigned_quantiser_is_taken_by_tensorrt_and_refused_by_us(
    exported: Export, builder: tuple[Any, Any], tmp_path: Path
) -> None:
    model = onnx.load(exported("nano").folder / "search.onnx")
    quantise_linears(model, np.array(0, np.uint8))
    path = tmp_path / "search.onnx"
    onnx.save(model, path)
    parse(trt, *builder, path)
    with pytest.raises(EdgeTrackerError, match="is not int8") as error:
        refuse_unsigned_quantisers(path)
    first = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    assert repr(first.input[0]) in str(error.value)


def test_a_zero_point_other_than_0_is_refused_by_both(
    exported: Export, builder: tuple[Any, Any], tmp_path: Path
) -> None:
    model = onnx.load(exported("nano").folder / "search.onnx")
    quantise_linears(model, np.array(3, np.int8))
    path = tmp_path / "search.onnx"
    onnx.save(model, path)
    with pytest.raises(EdgeTrackerError, match="does not take"):
        parse(trt, *builder, path)
    with pytest.raises(EdgeTrackerError, match="other than 0"):
        refuse_unsigned_quantisers(path)


@pytest.fixture
def bundle(nano_bundle: Bundle, tmp_path: Path) -> Path:
    return shutil.copytree(nano_bundle.path, tmp_path / "nano")


def test_build_ahead_of_time_fills_the_bundle_and_reports_progress(bundle: Path) -> None:
    steps: list[str] = []
    built = build(
        bundle,
        BuildOptions("fp16", max_targets=2, workspace_mb=256, compute_capability=TARGET),
        on_progress=lambda done, total, words: steps.append(words),
    )
    built.check_files(list(built.manifest["files"]))
    (engine,) = (a for a in built.artefacts if a.format == "tensorrt")
    assert engine.precision == "fp16"
    assert engine.graphs["search"].model.startswith(f"tensorrt/sm86-tensorrt_rtx{trt.__version__}-")
    assert {step.split(":")[0] for step in steps} == {"template engine", "search engine"}


def test_ctrl_c_passes_through_tensorrt(bundle: Path) -> None:
    def interrupt(done: int, total: int | None, words: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(bundle, BuildOptions("fp16", compute_capability=TARGET), on_progress=interrupt)
    assert not (bundle / "tensorrt").exists()


def test_a_jetson_cannot_be_built_for_ahead_and_the_choices_are_named(bundle: Path) -> None:
    with pytest.raises(ValueError, match=r"capability '8\.7': choose from 7\.5, 8\.0, 8\.6, 8\.9"):
        build(bundle, BuildOptions(compute_capability="8.7"))


def test_without_a_driver_an_engine_is_passed_over(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(bundle, BuildOptions("fp16", compute_capability=TARGET))
    other = replace(ORIN, devices=(CudaDevice("RTX 4090", "8.9"),))
    nothing = replace(ORIN, driver=None, cuda=None, devices=())
    for nvidia, reason in (
        (nothing, "the NVIDIA driver is missing"),
        (other, "capability 8.6 when it was built, 8.9 here"),
    ):
        for module in ("edge_tracker.hardware", "edge_tracker.backends.tensorrt.opening"):
            monkeypatch.setattr(f"{module}.read_nvidia", lambda root, found=nvidia: found)
        monkeypatch.setattr(
            "edge_tracker.backends.tensorrt.opening.runtime_obstacle",
            lambda found: None if found.devices else "the NVIDIA driver is missing",
        )
        with pytest.warns(RuntimeWarning, match=reason):
            graphs = open_graphs(open_bundle(bundle), num_threads=2, cache_dir=bundle)
        assert graphs.choice.backend == "openvino"
        graphs.close()
