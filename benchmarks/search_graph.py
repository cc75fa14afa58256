"""Where the search graph's time goes in OpenVINO, beside what the cores can do and other forms.

Weights are random. The limit is the graph's multiplications at the rate of one large product of the
same type, on the same threads. Variants are timed in turn with the graph as `convert` leaves it.
The profile is of a run that counts, and so is slower.

    python -m benchmarks.search_graph [--geometry small|base|nano|stem_nano] [--precision fp32|int8]
        [--compute f32|bf16] [--threads 1] [--rounds 60]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino as ov
import torch
from openvino import opset13 as ops

from benchmarks.int8 import make_bundle
from benchmarks.interleaved import median_ratio, time_in_turn
from calibration.quantise import HEADS, Feeds, chosen_layers, layer_names, quantise_graph, quietly
from calibration.samples import CalibrationSamples
from converters.to_openvino import read_onnx
from edge_tracker import Bundle
from edge_tracker.backends.openvino import openvino_core
from edge_tracker.bundle.goldens import load_golden
from mixformerv2.geometries import GEOMETRIES
from mixformerv2.model import MixFormerV2

#: Side of the product that shows what the cores can do; one of 2048 is no faster a multiplication.
LIMIT_SIDE = 1024


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--geometry", choices=GEOMETRIES, default="small")
    parser.add_argument("--precision", choices=("fp32", "int8"), default="int8")
    parser.add_argument("--compute", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args(argv)
    torch.manual_seed(0)
    network = MixFormerV2(GEOMETRIES[options.geometry]).eval()
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": options.compute,
        "INFERENCE_NUM_THREADS": options.threads,
    }
    with tempfile.TemporaryDirectory() as name:
        bundle = make_bundle(network, Path(name))
        models = variants(bundle, options.precision)
        requests = {name: request(model, bundle, config) for name, model in models.items()}
        limit, operations = large_product(options.precision, config)
        times_ms = time_in_turn(
            {**{name: infer.infer for name, infer in requests.items()}, "limit": limit.infer},
            options.rounds,
        )
        counted = request(models[AS_CONVERTED], bundle, {**config, "PERF_COUNT": True})
    print(
        f"{options.geometry}, random weights, {options.precision} in {options.compute}, OpenVINO "
        f"{ov.__version__.split('-')[0]}, threads: {options.threads}, medians of {options.rounds}"
    )
    print_variants(times_ms, 2 * multiplications(models[AS_CONVERTED]) / operations)
    print_profile(counted, options.rounds)


AS_CONVERTED = "as converted"


def variants(bundle: Bundle, precision: str) -> dict[str, ov.Model]:
    """The search graph, and its other forms, one difference each."""
    onnx_folder = bundle.path / "onnx" / "fp32"

    def made(
        change: Callable[[ov.Model], ov.Model] = lambda model: model, in_float: Sequence[str] = ()
    ) -> ov.Model:
        model = change(read_onnx(onnx_folder / "search.onnx"))
        return quantised(model, bundle, in_float) if precision == "int8" else model

    forms = {AS_CONVERTED: made(), "cached keys and values in f16": half_cache(made())}
    if precision == "int8":
        forms["attention's products in float"] = made(in_float=["ScaledDotProductAttention"])
    if patch_embedding(forms[AS_CONVERTED]) is not None:
        forms["patches as rows of a product on uint8"] = made(patches_as_rows)
    return forms


def quantised(model: ov.Model, bundle: Bundle, in_float: Sequence[str]) -> ov.Model:
    """As `convert` quantises, but for operations of these types."""
    onnx_folder = bundle.path / "onnx" / "fp32"
    heads = [f"{name}/WithoutBiases" for name in chosen_layers(layer_names(onnx_folder), HEADS)]
    ignored = nncf.IgnoredScope(names=heads, types=list(in_float), validate=False)
    return quantise_graph(model, feeds(bundle), "search", ignored)


def feeds(bundle: Bundle) -> Feeds:
    golden = load_golden(bundle)
    samples = CalibrationSamples(golden.templates, golden.search, {})
    return Feeds(bundle.path / "onnx" / "fp32", samples)


def half_cache(model: ov.Model) -> ov.Model:
    """Half the bytes are read of the cache in a frame, and widened."""
    steps = ov.preprocess.PrePostProcessor(model)
    steps.input("template_kv").tensor().set_element_type(ov.Type.f16)
    return steps.build()


def patch_embedding(model: ov.Model) -> ov.Node | None:
    """The one convolution of a network without a convolutional stem."""
    found = [op for op in model.get_ops() if op.get_type_name() == "Convolution"]
    return found[0] if len(found) == 1 else None


def patches_as_rows(model: ov.Model) -> ov.Model:
    """Cut patches out of the pixels as they come, and multiply: no transposition in float32."""
    convolution = patch_embedding(model)
    assert convolution is not None
    width, channels, patch, _ = convolution.input(1).get_shape()
    grid = convolution.output(0).get_partial_shape()[2].get_length()
    (add,) = (port.get_node() for port in convolution.output(0).get_target_inputs())
    (flat,) = (port.get_node() for port in add.output(0).get_target_inputs())
    (tokens,) = (port.get_node() for port in flat.output(0).get_target_inputs())
    cut = ops.reshape(
        model.input("search").get_node(), [-1, grid, patch, grid, patch * channels], False
    )
    rows = ops.reshape(
        ops.transpose(cut, [0, 1, 3, 2, 4]), [-1, grid * grid, patch * patch * channels], False
    )
    weight = convolution.input_value(1).get_node().data.transpose(0, 2, 3, 1).reshape(width, -1)
    product = ops.matmul(ops.convert(rows, "f32"), ops.constant(weight), False, True)
    product.set_friendly_name(convolution.get_friendly_name())
    biased = ops.add(product, ops.reshape(add.input_value(1), [1, 1, width], False))
    for port in tokens.output(0).get_target_inputs():
        port.replace_source_output(biased.output(0))
    model.validate_nodes_and_infer_types()
    return model


def request(model: ov.Model, bundle: Bundle, config: Mapping[str, Any]) -> ov.InferRequest:
    """For one target, on the bundle's goldens."""
    model = model.clone()
    model.reshape({port.any_name: [1, *list(port.partial_shape)[1:]] for port in model.inputs})
    infer = openvino_core().compile_model(model, "CPU", config).create_infer_request()
    sample = feeds(bundle).search(0)
    for name in ("search", "template_kv"):
        infer.get_tensor(name).data[...] = sample[name]
    return infer


def large_product(precision: str, config: Mapping[str, Any]) -> tuple[ov.InferRequest, float]:
    """One product of activations and weights, and its operations."""
    side = LIMIT_SIDE
    random = np.random.default_rng(0)
    rows = ops.parameter([side, side], np.float32, name="rows")
    weight = ops.constant(random.standard_normal((side, side), np.float32))
    product = ops.matmul(rows, weight, False, True)
    model = ov.Model([ops.relu(product)], [rows])
    rows.output(0).set_names({"rows"})
    samples = [random.standard_normal((side, side), np.float32)]
    if precision == "int8":
        with quietly():
            model = nncf.quantize(model, nncf.Dataset(samples), subset_size=1)
    infer = openvino_core().compile_model(model, "CPU", dict(config)).create_infer_request()
    infer.get_tensor("rows").data[...] = samples[0]
    return infer, 2.0 * side**3


def multiplications(model: ov.Model) -> float:
    """Of one target: convolutions, products and attention."""
    model = model.clone()
    model.reshape({port.any_name: [1, *list(port.partial_shape)[1:]] for port in model.inputs})
    count = 0.0
    for op in model.get_ops():
        kind = op.get_type_name()
        if kind not in ("Convolution", "GroupConvolution", "MatMul", "ScaledDotProductAttention"):
            continue
        outputs = float(np.prod(op.get_output_shape(0)))
        if kind == "ScaledDotProductAttention":
            keys = op.get_input_shape(1)[-2]
            count += 2 * outputs * keys
        elif kind == "MatMul":
            count += outputs * op.get_input_shape(0)[-1]
        else:
            weight = op.get_input_shape(1)
            count += outputs * float(np.prod(weight[2 if kind == "GroupConvolution" else 1 :]))
    return count


def print_variants(times_ms: Mapping[str, list[float]], parts_of_limit: float) -> None:
    """parts_of_limit: the graph's operations, in large products."""
    limit_ms = [parts_of_limit * each for each in times_ms["limit"]]
    print(f"  {'':40}{'ms':>8}{'of as converted':>18}{'of the limit':>15}")
    for name, each in {**times_ms, "limit": limit_ms}.items():
        of_converted = median_ratio(each, times_ms[AS_CONVERTED])
        of_limit = median_ratio(each, limit_ms)
        print(f"  {name:40}{statistics.median(each):8.2f}{of_converted:18.2f}{of_limit:15.2f}")


def print_profile(infer: ov.InferRequest, rounds: int) -> None:
    """What each kind of operation takes, the mean of the rounds."""
    spent_us: dict[str, float] = defaultdict(float)
    for _ in range(rounds):
        infer.infer()
        for node in infer.profiling_info:
            if node.status == ov.ProfilingInfo.Status.EXECUTED:
                spent_us[f"{node.node_type} ({node.exec_type})"] += (
                    node.real_time.microseconds / rounds
                )
    total = sum(spent_us.values())
    print(f"  {total:.0f} microseconds, by kind of operation and kernel:")
    for kind, each in sorted(spent_us.items(), key=lambda item: -item[1]):
        if each > total / 200:
            print(f"    {kind:50}{each:8.0f}{each / total:8.1%}")


if __name__ == "__main__":
    main()
