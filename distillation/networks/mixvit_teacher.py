"""The dense teacher of stage 1: MixViT, a ViT without prediction tokens under a convolutional
corner head.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_tracker.bundle.spec import ModelSpec
from edge_tracker.errors import CheckpointError
from mixformerv2.model import Backbone

CORNER_HEAD_PREFIX = "corner_head."
#: Keeps the logarithm of an impossible edge finite.
LOG_FLOOR = 1e-12


class CornerTower(nn.Module):
    """Search feature map -> one heat-map, twice refined on its way to the finer grid."""

    def __init__(self, width: int, bins: int) -> None:
        super().__init__()
        self.bins = bins
        channels = [width, max(8, width // 2), max(8, width // 4), max(8, width // 8)]
        # GroupNorm where the reference has BatchNorm: the same in training and evaluation, and on
        # any number of GPUs.
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.GroupNorm(math.gcd(b, 8), b), nn.ReLU())
            for a, b in pairwise(channels)
        )
        self.last = nn.Conv2d(channels[-1], 1, 1)

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C, G, G) -> logits (B, F, F)."""
        x = self.stages[0](feature_map)
        middle = (x.shape[-1] + self.bins) // 2
        for stage, size in zip(list(self.stages)[1:], (middle, self.bins), strict=True):
            x = stage(F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False))
        logits: Tensor = self.last(x).squeeze(1)
        return logits


class CornerHead(nn.Module):
    def __init__(self, width: int, bins: int) -> None:
        super().__init__()
        self.top_left = CornerTower(width, bins)
        self.bottom_right = CornerTower(width, bins)

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C, G, G) -> probabilities over all cells, (B, 2, F, F), rows y, columns x."""
        logits = torch.stack([self.top_left(feature_map), self.bottom_right(feature_map)], dim=1)
        return logits.float().flatten(2).softmax(dim=-1).view_as(logits)


def corner_marginals(corner_probs: Tensor) -> Tensor:
    """Two corner heat-maps (B, 2, F, F: top-left, bottom-right; rows y, columns x) -> (B, 4, F).

    The distribution of each edge is its corner's, summed over the other axis: left, top, right,
    bottom.
    """
    over_rows, over_columns = corner_probs.sum(dim=2), corner_probs.sum(dim=3)
    return torch.stack(
        [over_rows[:, 0], over_columns[:, 0], over_rows[:, 1], over_columns[:, 1]], dim=1
    )


class MixViT(nn.Module):
    """The backbone of MixFormerV2 without its prediction tokens, and a corner head on the search
    tokens.

    `spec.bins` is the side of the heat-maps, and so the number of bins of a student.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = Backbone(spec)
        self.corner_head = CornerHead(spec.width, spec.bins)
        for unused in (self.backbone.reg_tokens, self.backbone.pos_embed_reg):
            unused.requires_grad_(False)

    def edge_logits(self, search_tokens: Tensor) -> Tensor:
        """(B, Ns, C) -> (B, 4, F) log of the edges' distributions: left, top, right, bottom."""
        grid = math.isqrt(search_tokens.shape[1])
        feature_map = search_tokens.transpose(1, 2).reshape(-1, self.spec.width, grid, grid)
        return corner_marginals(self.corner_head(feature_map)).clamp_min(LOG_FLOOR).log()


def build_mixvit(state: Mapping[str, Tensor], student: ModelSpec) -> MixViT:
    """The teacher that a checkpoint holds, at the sizes and bins of its student, in eval mode.

    Raises CheckpointError if the two do not fit.
    """
    blocks = {int(m[1]) for name in state if (m := re.match(r"backbone\.blocks\.(\d+)\.", name))}
    fc1 = state.get("backbone.blocks.0.mlp.fc1.weight")
    if fc1 is None or fc1.shape[1] != student.width:
        found = "no transformer blocks" if fc1 is None else f"width {fc1.shape[1]}"
        raise CheckpointError(f"the teacher has {found}, and the student width {student.width}")
    network = MixViT(replace(student, depth=len(blocks), mlp_hidden=fc1.shape[0]))
    positions = {
        k: v for k, v in network.state_dict().items() if k.startswith("backbone.pos_embed_")
    }
    try:
        network.load_state_dict({**state, **positions})
    except RuntimeError as error:
        raise CheckpointError(f"the teacher is not a MixViT with a corner head: {error}") from error
    return network.eval()
