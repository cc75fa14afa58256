"""Names of the layers in exported graphs, by which some are left out of int8."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from converters.to_onnx import export_onnx
from edge_tracker.bundle.spec import ModelSpec
from mixformerv2.geometries import NANO
from tests.helpers.lively_networks import TINY, lively_network


def named_layers(folder: Path, graph: str) -> list[str]:
    """Of every node that multiplies with constant weights."""
    model = onnx.load(folder / f"{graph}.onnx")
    constants = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) > 1}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in ("Gemm", "Conv", "MatMul") and constants & set(node.input)
    ]


def expected_layers(spec: ModelSpec, graph: str) -> set[str]:
    """The last block gives the template's keys and values alone, and the search region's queries
    apart from them.
    """
    last = f"blocks.{spec.depth - 1}"
    whole = range(spec.depth - 1)
    each = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    names = {f"blocks.{index}.{layer}" for index in whole for layer in each}
    names |= {"patch_embed.proj", f"{last}.attn.kv"}
    if graph == "template":
        return names | {"patch_embed.proj.online"}
    names |= {f"{last}.{layer}" for layer in ("attn.q", "attn.proj", "mlp.fc1", "mlp.fc2")}
    return names | {"box_head.0.0", "box_head.1.0", "score_head.0.0", "score_head.1"}


@pytest.mark.parametrize("spec", [TINY, NANO], ids=["tiny", "nano"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["fp32", "fp16"])
def test_every_layer_has_a_name_of_its_own_in_every_precision(
    spec: ModelSpec, dtype: torch.dtype, tmp_path: Path
) -> None:
    export_onnx(lively_network(spec), tmp_path, {}, dtype)
    for graph in ("template", "search"):
        names = named_layers(tmp_path, graph)
        assert len(names) == len(set(names))
        assert set(names) == expected_layers(spec, graph)
