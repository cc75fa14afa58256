"""The network as one graph, as its ONNX exports usually are, to compare the two halves with."""

from __future__ import annotations

import onnx
import onnxsim
import torch
from torch import Tensor, nn

from converters.graphs import fold_for_export, planes
from converters.to_onnx import export_graph
from mixformerv2.model import MixFormerV2


class WholeGraph(nn.Module):
    """The full forward, with the same folded weights, inputs and outputs as the two graphs."""

    def __init__(self, folded: MixFormerV2) -> None:
        super().__init__()
        self.network = folded

    def forward(self, templates: Tensor, search: Tensor) -> tuple[Tensor, Tensor]:
        images, region = templates.float(), search.float()
        prediction = self.network(planes(images[:, 0]), planes(images[:, 1]), planes(region))
        return prediction.probabilities()


def export_whole(network: MixFormerV2) -> onnx.ModelProto:
    """templates uint8 (B, 2, Ht, Wt, 3) BGR, search uint8 (B, Hs, Ws, 3) -> edge_probs, score."""
    spec = network.spec
    inputs = {
        "templates": torch.zeros(
            2, 2, spec.template_size_px, spec.template_size_px, 3, dtype=torch.uint8
        ),
        "search": torch.zeros(2, spec.search_size_px, spec.search_size_px, 3, dtype=torch.uint8),
    }
    graph = WholeGraph(fold_for_export(network)).eval()
    model, _ = onnxsim.simplify(export_graph(graph, inputs, ["edge_probs", "score"]))
    return model
