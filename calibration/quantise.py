"""Post-training quantisation of the two graphs to int8, with NNCF.

For OpenVINO everything that it runs in int8 is quantised, attention's products included. For
TensorRT only the linear layers are, with explicit quantisers in the ONNX: signed, zero point 0,
weights per channel, no biases; the rest is float16.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import version_converter
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from calibration.samples import CalibrationSamples
from converters.to_onnx import save_sharing_weights
from converters.to_openvino import read_onnx, save_models
from edge_tracker.backends.openvino import openvino_core, without_telemetry
from edge_tracker.bundle.contract import CONTRACT, GRAPHS
from edge_tracker.errors import CalibrationError

with without_telemetry():
    import nncf

#: Scales of quantisers may be float16 from here on.
INT8_OPSET = 19
#: Of weights, for OpenVINO: half. With the whole range, products saturate on a CPU without VNNI.
OPENVINO_RANGE = nncf.OverflowFix.ENABLE
#: Four tokens go through the heads: in int8 they would save nothing, and they cost most.
HEADS = ("box_head", "score_head")
#: How OpenVINO names the product in a layer that ONNX gives a bias.
_OPENVINO_SUFFIX = "/WithoutBiases"
Models = dict[str, onnx.ModelProto]
PROBABILITIES = tuple(tensor.name for tensor in CONTRACT["search"].outputs)


def layer_names(onnx_folder: Path) -> list[str]:
    """The layers with weights of a pair of ONNX graphs, in the order in which they run."""
    names: dict[str, None] = {}
    for graph in GRAPHS:
        names |= dict.fromkeys(
            _layers(onnx.load(onnx_folder / f"{graph}.onnx", load_external_data=False))
        )
    return list(names)


def chosen_layers(layers: Sequence[str], keep_fp: Sequence[str]) -> list[str]:
    """The layers that `keep_fp` means: each entry is a layer's name, or the start of several up to
    a dot, such as blocks.3. Raises CalibrationError for one that means none.
    """
    chosen: list[str] = []
    for wanted in keep_fp:
        found = [name for name in layers if name == wanted or name.startswith(f"{wanted}.")]
        if not found:
            raise CalibrationError(
                f"no layer is named {wanted}: choose from {', '.join(layers)}, or the start of one "
                "up to a dot"
            )
        chosen += found
    return list(dict.fromkeys(chosen))


def quantise_openvino(
    onnx_folder: Path,
    folder: Path,
    samples: CalibrationSamples,
    keep_fp: Sequence[str],
    metadata: Mapping[str, str],
) -> None:
    """Write an int8 IR pair into `folder`, made from the fp32 ONNX pair."""
    feeds = Feeds(onnx_folder, samples)
    kept = chosen_layers(layer_names(onnx_folder), [*HEADS, *keep_fp])
    models = {}
    for graph in GRAPHS:
        model = read_onnx(onnx_folder / f"{graph}.onnx")
        present = {operation.get_friendly_name() for operation in model.get_ops()}
        ignored = [n for name in kept if (n := name + _OPENVINO_SUFFIX) in present]
        models[graph] = quantise_graph(model, feeds, graph, nncf.IgnoredScope(names=ignored))
    save_models(models, folder, "int8", metadata)


def quantise_onnx(onnx_folder: Path, samples: CalibrationSamples, keep_fp: Sequence[str]) -> Models:
    """The ONNX pair with explicit quantisers around its linear layers, all else still float32."""
    feeds = Feeds(onnx_folder, samples)
    kept = chosen_layers(layer_names(onnx_folder), [*HEADS, *keep_fp])
    quantised = {}
    for graph in GRAPHS:
        model = onnx.load(onnx_folder / f"{graph}.onnx")
        present = set(_layers(model))
        # Attention stays whole for TensorRT's fused kernel; pixels are unsigned, which it does not
        # have, so their convolution stays float too.
        scope = nncf.IgnoredScope(
            names=[name for name in kept if name in present], types=["MatMul", "Conv"]
        )
        quantised[graph] = quantise_graph(model, feeds, graph, scope, nncf.OverflowFix.DISABLE)
        _make_signed(quantised[graph])
    return quantised


def quantise_graph(
    model: Any,
    feeds: Feeds,
    graph: str,
    ignored: nncf.IgnoredScope,
    overflow_fix: nncf.OverflowFix = OPENVINO_RANGE,
    **settings: Any,
) -> Any:
    """A quantised copy of an OpenVINO or ONNX model. settings: what else `nncf.quantize` takes, in
    place of what is chosen here.
    """
    count = len(feeds.samples)
    advanced = nncf.AdvancedQuantizationParameters(overflow_fix=overflow_fix)
    chosen: dict[str, Any] = {
        "preset": nncf.QuantizationPreset.PERFORMANCE,
        "model_type": nncf.ModelType.TRANSFORMER,
        "advanced_parameters": advanced,
    }
    with quietly():
        return nncf.quantize(
            model,
            nncf.Dataset(range(count), getattr(feeds, graph)),
            subset_size=count,
            ignored_scope=ignored,
            **{**chosen, **settings},
        )


def save_onnx(models: Models, folder: Path, metadata: Mapping[str, str]) -> None:
    """Write quantised graphs into `folder`, what is float in them as float16."""
    halves = {}
    for graph, model in models.items():
        half = convert_float_to_float16(
            version_converter.convert_version(model, INT8_OPSET),
            keep_io_types=list(PROBABILITIES),
            node_block_list=_output_nodes(model),
            disable_shape_infer=True,
        )
        _keep_probabilities(half)
        # The conversion appends its casts at the end.
        OnnxModel(half).topological_sort()
        onnx.helper.set_model_props(half, dict(metadata))
        half.producer_name = "edge_tracker"
        onnx.checker.check_model(half, full_check=True)
        halves[graph] = half
    save_sharing_weights(halves, folder)


class Feeds:
    """What each graph takes for sample number i; `template_kv` is computed when it is asked for, as
    all of them would not fit into memory.
    """

    def __init__(self, onnx_folder: Path, samples: CalibrationSamples) -> None:
        self.samples = samples
        core = openvino_core()
        self._encode = core.compile_model(
            core.read_model(onnx_folder / "template.onnx"),
            "CPU",
            {"INFERENCE_PRECISION_HINT": "f32"},
        )

    def template(self, index: int) -> dict[str, NDArray[Any]]:
        return {"templates": self.samples.templates[index : index + 1]}

    def search(self, index: int) -> dict[str, NDArray[Any]]:
        template_kv = self._encode(self.template(index))["template_kv"]
        return {
            "search": self.samples.search[index : index + 1],
            "template_kv": np.array(template_kv),
        }


def _layers(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that can be quantised; those of attention's products have a slash."""
    return [
        node.name
        for node in model.graph.node
        if node.op_type in ("Gemm", "Conv") and "/" not in node.name
    ]


def _make_signed(model: onnx.ModelProto) -> None:
    """Turn unsigned quantisers into signed ones of the same range: TensorRT knows no others, and
    NNCF has no way to ask for them.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        scale, zero_point = (tensors[name] for name in node.input[1:3])
        if zero_point.data_type == onnx.TensorProto.UINT8:
            # Quantiser and dequantiser share both tensors.
            wider = onnx.numpy_helper.to_array(scale) * np.float32(255 / 127)
            scale.CopyFrom(onnx.numpy_helper.from_array(np.array(wider, np.float32), scale.name))
            zero_point.CopyFrom(
                onnx.numpy_helper.from_array(np.zeros((), np.int8), zero_point.name)
            )
    # Noted types of what was unsigned; they are inferred anew.
    del model.graph.value_info[:]


def _output_nodes(model: onnx.ModelProto) -> list[str]:
    """The nodes that give the probabilities: they keep float32, as in the fp16 pair."""
    outputs = {value.name for value in model.graph.output} & set(PROBABILITIES)
    return [node.name for node in model.graph.node if outputs & set(node.output)]


def _keep_probabilities(half: onnx.ModelProto) -> None:
    """Undo what the conversion adds after those nodes: a cast to float16, and one back."""
    producers = {output: node for node in half.graph.node for output in node.output}
    for value in half.graph.output:
        widened = producers[value.name]
        if widened.op_type != "Cast":
            continue
        rounded = producers[widened.input[0]]
        producers[rounded.input[0]].output[0] = value.name
        half.graph.node.remove(widened)
        half.graph.node.remove(rounded)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """NNCF draws progress bars of its own and tells each node that it leaves out."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
