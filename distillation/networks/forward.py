"""Running a network for training: what it predicts, and the residual stream after each block."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from distillation.networks.mixvit_teacher import MixViT
from edge_tracker.rules.normalise import MEAN_RGB, STD_RGB
from mixformerv2.model import NUM_PREDICTION_TOKENS, MixFormerV2
from mixformerv2.stem import StemEmbed

#: Per block, the factors of its attention branch and of its MLP branch, each (B, 1, 1).
BranchGains = list[tuple[Tensor, Tensor]]


class Output(NamedTuple):
    """edge_logits: (B, 4, bins), rows left, top, right, bottom, whose softmax are the
    distributions; score_logit: (B,), None for a network without a score head; streams: per block
    (B, tokens, C), both templates first, then search, then the prediction tokens where there are
    any.
    """

    edge_logits: Tensor
    score_logit: Tensor | None
    streams: list[Tensor]


def run_network(
    network: MixFormerV2 | MixViT,
    templates: Tensor,
    search: Tensor,
    branch_gains: BranchGains | None = None,
    *,
    last_stream: bool = True,
) -> Output:
    """The network as `MixFormerV2.forward` runs it, keeping the streams.

    templates: (B, 2, 3, Ht, Wt), search: (B, 3, Hs, Ws), both as `network_inputs` gives them, or
    the stem's features (B, 2, Nt, F), (B, Ns, F).
    last_stream: False leaves the last block's stream out, which saves most of that block: its
    other tokens lead nowhere.
    """
    backbone = network.backbone
    if search.ndim == 3:
        assert isinstance(backbone.patch_embed, StemEmbed)
        embed = backbone.patch_embed.from_features
        template_tokens = backbone.place_templates(*(embed(t) for t in templates.unbind(1)))
        search_tokens = backbone.place_search(embed(search))
    else:
        template_tokens = backbone.embed_templates(templates[:, 0], templates[:, 1])
        search_tokens = backbone.embed_search(search)
    if isinstance(network, MixViT):
        search_tokens = search_tokens[:, :-NUM_PREDICTION_TOKENS]
    x = torch.cat([template_tokens, search_tokens], dim=1)
    count = template_tokens.shape[1]
    streams = []
    blocks = list(backbone.blocks)
    short = not last_stream and branch_gains is None and isinstance(network, MixFormerV2)
    for number, block in enumerate(blocks[:-1] if short else blocks):
        x = block(x, count, None if branch_gains is None else branch_gains[number])
        streams.append(x)
    if short:
        spec = network.spec
        nothing_cached = x.new_empty(x.shape[0], 2, spec.num_heads, 0, spec.head_dim)
        x = blocks[-1].mix_predictions(x, nothing_cached)
    if isinstance(network, MixViT):
        return Output(network.edge_logits(x[:, count:]), None, streams)
    edge_logits, score_logit = network.predict(x[:, -NUM_PREDICTION_TOKENS:])
    return Output(edge_logits, score_logit, streams)


def network_inputs(templates: Tensor, search: Tensor) -> tuple[Tensor, Tensor]:
    """A batch's templates and search, images or a stem's features, as `run_network` takes them."""
    if search.is_floating_point():
        return templates.float(), search.float()
    return normalise_batch(templates), normalise_batch(search)


def normalise_batch(images_bgr: Tensor) -> Tensor:
    """`rules.normalise` of tensors: (..., h, w, 3) uint8 BGR -> (..., 3, h, w) float32."""
    mean = torch.tensor(MEAN_RGB, device=images_bgr.device)
    std = torch.tensor(STD_RGB, device=images_bgr.device)
    return ((images_bgr.flip(-1).float() / 255 - mean) / std).movedim(-1, -3)


def draw_branch_gains(
    depth: int, batch: int, drop_path: float, removed: tuple[int, ...], removed_gain: float
) -> BranchGains:
    """DropPath, rising linearly over depth to `drop_path`, times gamma for the removed blocks."""
    gains = []
    for block in range(depth):
        drop = drop_path * block / max(1, depth - 1)
        gain = removed_gain if block in removed else 1.0
        branches = [
            (torch.rand(batch, 1, 1) >= drop).float() * (gain / (1 - drop)) for _ in range(2)
        ]
        gains.append((branches[0], branches[1]))
    return gains
