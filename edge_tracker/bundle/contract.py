"""The contract of the two graphs: what each takes and gives, and the order of prediction tokens and
of edges. docs/bundle_format.md has it as a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge_tracker.bundle.spec import ModelSpec

#: Order of the network's prediction tokens, which is not that of the edges.
PREDICTION_TOKENS = ("left", "right", "top", "bottom")
#: Order of the edges in every array of edges, from the graphs' outputs on.
EDGES = ("left", "top", "right", "bottom")
#: The first dimension of every tensor, by its name in the files, where it is dynamic.
TARGETS = "targets"


@dataclass(frozen=True)
class Tensor:
    """dtype: None for that of the weights, float32 or float16. row_shape: of one target.
    on_device: handed from one graph to the other, never copied to the host between frames.
    """

    name: str
    dtype: str | None
    row_shape: Callable[[ModelSpec], tuple[int, ...]]
    on_device: bool = False

    def shape(self, spec: ModelSpec, targets: int) -> tuple[int, ...]:
        return (targets, *self.row_shape(spec))


@dataclass(frozen=True)
class Graph:
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def input_names(self) -> frozenset[str]:
        return frozenset(tensor.name for tensor in self.inputs)

    @property
    def output_names(self) -> frozenset[str]:
        return frozenset(tensor.name for tensor in self.outputs)


def _pixels(side_px: int) -> tuple[int, int, int]:
    return (side_px, side_px, 3)


#: Initial template, then online template; BGR.
TEMPLATES = Tensor("templates", "uint8", lambda spec: (2, *_pixels(spec.template_size_px)))
#: Of each layer: keys, then values, of both templates' tokens.
TEMPLATE_KV = Tensor("template_kv", None, lambda spec: spec.template_kv_shape()[1:], on_device=True)
#: BGR.
SEARCH = Tensor("search", "uint8", lambda spec: _pixels(spec.search_size_px))
#: A distribution for each of EDGES.
EDGE_PROBS = Tensor("edge_probs", "float32", lambda spec: (len(EDGES), spec.bins))
#: A probability.
SCORE = Tensor("score", "float32", lambda spec: ())

CONTRACT: Mapping[str, Graph] = {
    "template": Graph(inputs=(TEMPLATES,), outputs=(TEMPLATE_KV,)),
    "search": Graph(inputs=(SEARCH, TEMPLATE_KV), outputs=(EDGE_PROBS, SCORE)),
}
GRAPHS = tuple(CONTRACT)
TENSORS: Mapping[str, Tensor] = {
    tensor.name: tensor for graph in CONTRACT.values() for tensor in (*graph.inputs, *graph.outputs)
}
ON_DEVICE = frozenset(name for name, tensor in TENSORS.items() if tensor.on_device)
