"""Which layers suffer from int8: each one in float, all others in int8."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx.numpy_helper import from_array, to_array

from calibration.quantise import Models
from calibration.samples import CalibrationSamples
from edge_tracker.backends.parity import edge_kl
from edge_tracker.bundle.contract import GRAPHS
from edge_tracker.options import OnProgress, tell_nobody

#: Crops that the layers are compared on.
NUM_CROPS = 24


@dataclass(frozen=True)
class LayerSensitivity:
    """edge_kl_without: mean divergence of the edges from fp32, in nats, with this layer in float;
    share: how much of the divergence of the whole in int8 that takes away, 1 all of it.
    """

    layer: str
    edge_kl_without: float
    share: float


def layer_sensitivity(
    floating: Models,
    quantised: Models,
    samples: CalibrationSamples,
    on_progress: OnProgress = tell_nobody,
) -> list[LayerSensitivity]:
    """Quantised layers of a pair of ONNX graphs, the most harmful first.

    floating, quantised: the fp32 pair, and the same with explicit quantisers.
    """
    spread = np.linspace(0, len(samples) - 1, min(NUM_CROPS, len(samples))).astype(int)
    crops = CalibrationSamples(samples.templates[spread], samples.search[spread], {})
    reference = _edge_probs(floating, crops)
    whole = float(edge_kl(reference, _edge_probs(quantised, crops)).mean())
    layers = list(
        dict.fromkeys(name for graph in GRAPHS for name in _quantised_layers(quantised[graph]))
    )
    found = []
    for index, layer in enumerate(layers):
        on_progress(index, len(layers), layer)
        freed = {
            graph: _with_float_layer(floating[graph], quantised[graph], layer) for graph in GRAPHS
        }
        divergence = float(edge_kl(reference, _edge_probs(freed, crops)).mean())
        found.append(LayerSensitivity(layer, divergence, 1 - divergence / max(whole, 1e-12)))
    return sorted(found, key=lambda each: each.edge_kl_without)


def _edge_probs(models: Models, crops: CalibrationSamples) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    # Errors alone: it would warn of each tensor that a freed layer no longer reads.
    options.log_severity_level = 3
    sessions = {
        graph: ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        for graph, model in models.items()
    }
    probs = []
    for templates, search in zip(crops.templates, crops.search, strict=True):
        (template_kv,) = sessions["template"].run(None, {"templates": templates[None]})
        feed = {"search": search[None], "template_kv": template_kv}
        probs.append(sessions["search"].run(["edge_probs"], feed)[0][0])
    return np.stack(probs)


def _producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {output: node for node in model.graph.node for output in node.output}


def _quantised_layers(model: onnx.ModelProto) -> list[str]:
    dequantised = {
        output
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
        for output in node.output
    }
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "Gemm" and node.input[1] in dequantised
    ]


def _with_float_layer(
    floating: onnx.ModelProto, quantised: onnx.ModelProto, layer: str
) -> onnx.ModelProto:
    """A copy in which one layer takes its input, its weights and its bias as they were before."""
    model = onnx.ModelProto()
    model.CopyFrom(quantised)
    node = next((node for node in model.graph.node if node.name == layer), None)
    if node is None:
        return model
    producers = _producers(model)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    originals = {tensor.name: tensor for tensor in floating.graph.initializer}
    dequantised = producers[node.input[0]]
    unrounded = producers[dequantised.input[0]].input[0]
    original = next(n for n in floating.graph.node if n.name == layer)
    weights = to_array(originals[original.input[1]])
    # SmoothQuant divides the input by a factor of each channel, and multiplies the weights by it.
    for step in _upstream(producers, unrounded):
        if step.op_type == "Mul" and "smooth_quant" in step.output[0]:
            divisor = next(to_array(tensors[name]) for name in step.input if name in tensors)
            weights = weights / divisor.reshape(-1, 1)
    node.input[0] = unrounded
    node.input[1] = f"{layer}.float_weights"
    model.graph.initializer.append(from_array(weights.astype(np.float32), node.input[1]))
    # NNCF moves a bias to make up for the mean error of rounding, which is no longer there.
    node.input[2] = f"{layer}.float_bias"
    model.graph.initializer.append(
        from_array(to_array(originals[original.input[2]]), node.input[2])
    )
    return model


def _upstream(producers: dict[str, onnx.NodeProto], name: str) -> list[onnx.NodeProto]:
    """What gives this tensor, back through reshapes."""
    found = []
    while (node := producers.get(name)) is not None:
        found.append(node)
        if node.op_type != "Reshape":
            break
        name = node.input[0]
    return found
