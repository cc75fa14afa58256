"""Explicit 8-bit quantisers around the linear layers of an ONNX graph, as calibration puts them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

#: Any will do for what is tested with it: types, not accuracy.
ACTIVATION_SCALE = 0.05


def quantise_linears(model: onnx.ModelProto, zero_point: np.ndarray) -> int:
    """Quantise inputs and weights of every product with a weight matrix; how many there are.

    zero_point: of the inputs, int8 0 if it is to be right. Weights are int8, per output.
    """
    graph = model.graph
    weights = {i.name: i for i in graph.initializer if len(i.dims) == 2}
    scale = np.array(ACTIVATION_SCALE, np.float32)
    graph.initializer.append(numpy_helper.from_array(scale, "activation_scale"))
    graph.initializer.append(numpy_helper.from_array(zero_point, "activation_zero"))
    nodes, count = [], 0
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights:
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            nodes += _quantisers_of_input(node, count)
            nodes += _quantisers_of_weights(graph, node, weights, 0 if transposed else 1, count)
            count += 1
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return count


def _quantisers_of_input(node: onnx.NodeProto, index: int) -> list[onnx.NodeProto]:
    parameters = ["activation_scale", "activation_zero"]
    quantised, restored = f"input_{index}_q", f"input_{index}_dq"
    pair = [
        helper.make_node("QuantizeLinear", [node.input[0], *parameters], [quantised]),
        helper.make_node("DequantizeLinear", [quantised, *parameters], [restored]),
    ]
    node.input[0] = restored
    return pair


def _quantisers_of_weights(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    weights: dict[str, onnx.TensorProto],
    outputs_axis: int,
    index: int,
) -> list[onnx.NodeProto]:
    matrix = numpy_helper.to_array(weights[node.input[1]])
    scale = np.abs(matrix).max(axis=1 - outputs_axis, keepdims=True) / 127
    steps = np.round(matrix / scale).astype(np.int8)
    names = [f"weights_{index}", f"weights_{index}_scale", f"weights_{index}_zero"]
    flat = scale.reshape(-1).astype(np.float32)
    for name, value in zip(names, (steps, flat, np.zeros(flat.size, np.int8)), strict=True):
        graph.initializer.append(numpy_helper.from_array(value, name))
    node.input[1] = f"weights_{index}_dq"
    return [helper.make_node("DequantizeLinear", names, [node.input[1]], axis=outputs_axis)]
