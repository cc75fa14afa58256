"""The contract of the two graphs: the same in the code, in the docs, and in what is exported."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import onnx
import pytest

from edge_tracker.bundle.contract import CONTRACT, EDGES, PREDICTION_TOKENS, TARGETS, Tensor
from edge_tracker.bundle.opening import Bundle
from mixformerv2.geometries import NANO
from tests.helpers.places import REPOSITORY

TARGET_COUNT = 7
#: What the docs call the numbers of a network.
SYMBOLS = {
    "targets": TARGET_COUNT,
    "Ht": NANO.template_size_px,
    "Wt": NANO.template_size_px,
    "Hs": NANO.search_size_px,
    "Ws": NANO.search_size_px,
    "depth": NANO.depth,
    "heads": NANO.num_heads,
    "2·Nt": 2 * NANO.template_tokens,
    "head_dim": NANO.head_dim,
    "bins": NANO.bins,
}


def rows_of_the_docs() -> Iterator[tuple[str, str, str, tuple[int, ...], str, str]]:
    """Graph, direction, tensor, shape, dtype, meaning."""
    text = (REPOSITORY / "docs" / "bundle_format.md").read_text(encoding="utf-8")
    table = text[text.index("| graph | tensor | shape") :].split("\n\n")[0]
    graph = ""
    seen: dict[str, list[str]] = {}
    for line in table.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        graph = cells[0] or graph
        named = re.fullmatch(r"(in|out) `(\w+)`", cells[1])
        assert named, line
        direction, tensor = named[1], named[2]
        shape, dtype = seen[tensor] if cells[2] == "as above" else cells[2:4]
        seen[tensor] = [shape, dtype]
        sizes = [size.strip(",") for size in shape.strip("()").split(", ")]
        numbers = tuple(SYMBOLS.get(size) or int(size) for size in sizes)
        yield graph, direction, tensor, numbers, dtype, cells[4]


def rows_of_the_code() -> Iterator[tuple[str, str, Tensor]]:
    for name, graph in CONTRACT.items():
        yield from ((name, "in", tensor) for tensor in graph.inputs)
        yield from ((name, "out", tensor) for tensor in graph.outputs)


def test_the_docs_table_is_the_contract() -> None:
    in_docs = list(rows_of_the_docs())
    in_code = list(rows_of_the_code())
    assert len(in_docs) == len(in_code)
    for (graph, direction, name, shape, dtype, _), (code_graph, code_direction, tensor) in zip(
        in_docs, in_code, strict=True
    ):
        assert (graph, direction, name) == (code_graph, code_direction, tensor.name)
        assert shape == tensor.shape(NANO, TARGET_COUNT)
        if tensor.dtype is None:
            assert dtype.startswith("float32; float16 in")
        else:
            assert dtype == tensor.dtype


def test_the_docs_name_the_edges_in_their_order() -> None:
    (meaning,) = (row[5] for row in rows_of_the_docs() if row[2] == "edge_probs")
    assert ", ".join(EDGES) in meaning
    assert sorted(PREDICTION_TOKENS) == sorted(EDGES)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_exported_graphs_keep_the_contract(nano_bundle: Bundle, precision: str) -> None:
    weights = {"fp32": "float32", "fp16": "float16"}[precision]
    for name, graph in CONTRACT.items():
        path = nano_bundle.path / "onnx" / precision / f"{name}.onnx"
        exported = onnx.load(path, load_external_data=False).graph
        for values, tensors in (
            (exported.input, graph.inputs), (exported.output, graph.outputs)
        ):  # fmt: skip
            assert [value.name for value in values] == [tensor.name for tensor in tensors]
            for value, tensor in zip(values, tensors, strict=True):
                kind = value.type.tensor_type
                first, *rest = kind.shape.dim
                assert first.dim_param == TARGETS
                assert tuple(d.dim_value for d in rest) == tensor.row_shape(NANO)
                dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
                assert dtype == np.dtype(tensor.dtype or weights)
