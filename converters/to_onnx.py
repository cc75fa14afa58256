"""Network -> a pair of simplified, checked ONNX graphs that share one file of weights."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import onnxsim
import torch
from numpy.typing import NDArray
from onnx.external_data_helper import set_external_data

from converters.graphs import SearchGraph, TemplateGraph, fold_for_export
from edge_tracker.bundle import contract
from edge_tracker.bundle.spec import ModelSpec
from edge_tracker.errors import EdgeTrackerError
from mixformerv2.model import MixFormerV2

#: Common ground of TensorRT, OpenVINO and ONNX Runtime.
OPSET = 17
WEIGHTS = "weights.bin"
#: Tensors smaller than this stay inside the graph's own file.
EXTERNAL_BYTES = 1024
#: Offsets in the weights file are multiples of this, so that it can be memory-mapped.
ALIGNMENT = 64
#: Simplification reorders sums: that much the outputs may move, relative to their largest.
SIMPLIFY_TOLERANCE: Mapping[torch.dtype, float] = {torch.float32: 1e-4, torch.float16: 2e-2}


def export_onnx(
    network: MixFormerV2,
    folder: Path,
    metadata: Mapping[str, str],
    dtype: torch.dtype = torch.float32,
) -> dict[str, onnx.ModelProto]:
    """Write template.onnx, search.onnx and their common weights into `folder`; return both, weights
    inside.

    The first dimension of every input and output is dynamic: the number of targets. dtype: of the
    weights, of everything computed from them, and of `template_kv`; the other inputs and outputs
    are the same for float32 and float16.
    Raises EdgeTrackerError if a graph computes something else after simplification than before.
    """
    folded = fold_for_export(network).to(dtype)
    modules = {"template": TemplateGraph(folded), "search": SearchGraph(folded)}
    simplified = {}
    for name, graph in contract.CONTRACT.items():
        inputs = _example_inputs(graph, network.spec, dtype)
        model = export_graph(modules[name], inputs, [tensor.name for tensor in graph.outputs])
        simplified[name] = _simplify(name, model, inputs, SIMPLIFY_TOLERANCE[dtype])
    names = _layer_names(folded)
    for model in simplified.values():
        _name_layers(model, names)
        onnx.helper.set_model_props(model, dict(metadata))
        model.producer_name = "edge_tracker"
        onnx.checker.check_model(model, full_check=True)
    save_sharing_weights(simplified, folder)
    return simplified


def _layer_names(folded: MixFormerV2) -> dict[bytes, str]:
    """Names of the layers that have weights, such as blocks.0.attn.qkv, by the weights' digest.

    The last block projects fewer queries than keys: its two parts are layers of their own.
    """
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in folded.state_dict().items():
        if name.endswith(".weight") and tensor.ndim > 1:
            short = name.removesuffix(".weight").removeprefix("backbone.").replace(".layers.", ".")
            weights[short] = tensor
    width, last = folded.spec.width, f"blocks.{folded.spec.depth - 1}.attn"
    queries_keys_values = weights.pop(f"{last}.qkv")
    weights[f"{last}.q"] = queries_keys_values[:width]
    weights[f"{last}.kv"] = queries_keys_values[width:]
    # A linear layer's matrix stands transposed in ONNX.
    return {_digest((w.T if w.ndim == 2 else w).numpy()): name for name, w in weights.items()}


def _digest(array: NDArray[np.generic]) -> bytes:
    return hashlib.sha256(array.tobytes()).digest()


def _name_layers(model: onnx.ModelProto, names: Mapping[bytes, str]) -> None:
    """Give each node with weights its layer's name: for reports, and to leave it out of int8."""
    weights = {
        tensor.name: _digest(onnx.numpy_helper.to_array(tensor))
        for tensor in model.graph.initializer
        if len(tensor.dims) > 1
    }
    taken: set[str] = set()
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        found = [names[weights[i]] for i in node.input if weights.get(i) in names]
        for name in found:
            # Both templates go through one patch embedding.
            node.name = name if name not in taken else f"{name}.online"
            taken.add(node.name)


def save_sharing_weights(models: Mapping[str, onnx.ModelProto], folder: Path) -> None:
    """Save each model as NAME.onnx; tensors go to one weights file, equal ones once."""
    folder.mkdir(parents=True, exist_ok=True)
    places: dict[bytes, tuple[int, int]] = {}
    with (folder / WEIGHTS).open("wb") as weights:
        for name, model in models.items():
            stripped = onnx.ModelProto()
            stripped.CopyFrom(model)
            for tensor in stripped.graph.initializer:
                content = onnx.numpy_helper.to_array(tensor).tobytes()
                if len(content) < EXTERNAL_BYTES:
                    continue
                digest = hashlib.sha256(content).digest()
                if digest not in places:
                    weights.write(b"\0" * (-weights.tell() % ALIGNMENT))
                    places[digest] = weights.tell(), len(content)
                    weights.write(content)
                offset, length = places[digest]
                tensor.raw_data = content
                set_external_data(tensor, WEIGHTS, offset=offset, length=length)
                tensor.ClearField("raw_data")
            onnx.save(stripped, folder / f"{name}.onnx")


def _example_inputs(
    graph: contract.Graph, spec: ModelSpec, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Two targets, as a dimension of 1 would be taken for a constant."""
    random = torch.Generator().manual_seed(0)
    examples = {}
    for tensor in graph.inputs:
        shape = tensor.shape(spec, 2)
        if tensor.dtype == "uint8":
            pixels = torch.randint(0, 256, shape, generator=random, dtype=torch.uint8)
            examples[tensor.name] = pixels
        else:
            examples[tensor.name] = torch.randn(shape, generator=random).to(dtype)
    return examples


def export_graph(
    graph: torch.nn.Module, inputs: Mapping[str, torch.Tensor], output_names: list[str]
) -> onnx.ModelProto:
    """Trace a module; the first dimension of every input and output becomes dynamic."""
    stream = io.BytesIO()
    names = [*inputs, *output_names]
    with warnings.catch_warnings(), torch.no_grad():
        # The TorchScript exporter announces its retirement; the new one writes no opset 17.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="torch.onnx")
        torch.onnx.export(
            graph.eval(),
            tuple(inputs.values()),
            stream,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=output_names,
            dynamic_axes={name: {0: contract.TARGETS} for name in names},
        )
    return onnx.load_from_string(stream.getvalue())


def _simplify(
    name: str, model: onnx.ModelProto, inputs: Mapping[str, torch.Tensor], tolerance: float
) -> onnx.ModelProto:
    simplified, _ = onnxsim.simplify(model)
    arrays = {key: value.numpy() for key, value in inputs.items()}
    for before, after in zip(_run(model, arrays), _run(simplified, arrays), strict=True):
        difference = float(np.abs(before - after).max() / max(np.abs(before).max(), 1e-6))
        if not difference <= tolerance:
            raise EdgeTrackerError(
                f"the {name} graph computes something else after simplification: outputs differ by "
                f"{difference:.2g} of their largest value, more than {tolerance:g}; "
                f"onnxsim {onnxsim.__version__} may be at fault, try another version"
            )
    return simplified


def _run(
    model: onnx.ModelProto, inputs: Mapping[str, NDArray[np.generic]]
) -> list[NDArray[np.float32]]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs: list[NDArray[np.float32]] = session.run(None, dict(inputs))
    return outputs
