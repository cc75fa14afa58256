"""The two graphs that a device runs, as PyTorch modules ready for export.

Both take raw uint8 BGR pixels: normalisation and the change to RGB are folded into the weights of
the patch embedding or the stem, and the attention's 1/sqrt(head_dim) into those of the queries.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from edge_tracker.rules.normalise import MEAN_RGB, STD_RGB
from mixformerv2.model import Attention, MixFormerV2
from mixformerv2.stem import StemEmbed


class TemplateGraph(nn.Module):
    """templates uint8 (B, 2, Ht, Wt, 3) BGR, initial then online -> template_kv, in the weights'
    type.
    """

    def __init__(self, folded: MixFormerV2) -> None:
        super().__init__()
        self.network = folded

    def forward(self, templates: Tensor) -> Tensor:
        # Cast before anything else: TensorRT takes uint8 tensors as inputs of a cast only.
        images = templates.to(weights_dtype(self.network))
        return self.network.encode_templates(planes(images[:, 0]), planes(images[:, 1]))


class SearchGraph(nn.Module):
    """search uint8 (B, Hs, Ws, 3) BGR, template_kv -> edge_probs (B, 4, bins) in left, top, right,
    bottom
    order, and score (B,), both float32 whatever the type of the weights."""

    def __init__(self, folded: MixFormerV2) -> None:
        super().__init__()
        self.network = folded

    def forward(self, search: Tensor, template_kv: Tensor) -> tuple[Tensor, Tensor]:
        image = planes(search.to(weights_dtype(self.network)))
        return self.network.search(image, template_kv).probabilities()


def fold_for_export(network: MixFormerV2) -> MixFormerV2:
    """A copy that takes pixels 0..255 in BGR order instead of normalised RGB, and needs no query
    scaling.
    """
    folded = copy.deepcopy(network).eval()
    with torch.no_grad():
        embedding = folded.backbone.patch_embed
        if isinstance(embedding, StemEmbed):
            embedding.fold()
        else:
            _fold_normalisation(embedding.proj)
        for block in folded.backbone.blocks:
            _fold_query_scale(block.attn)
    return folded


def _fold_normalisation(conv: nn.Conv2d) -> None:
    """conv((x / 255 - mean) / std) = conv'(x), exact as the convolution has no padding."""
    mean = torch.tensor(MEAN_RGB, dtype=torch.float64).view(1, 3, 1, 1)
    std = torch.tensor(STD_RGB, dtype=torch.float64).view(1, 3, 1, 1)
    assert conv.bias is not None
    weight = conv.weight.double() / std
    bias = conv.bias.double() - (weight * mean).sum(dim=(1, 2, 3))
    conv.weight.copy_((weight / 255).flip(1))
    conv.bias.copy_(bias)


def _fold_query_scale(attention: Attention) -> None:
    width = attention.proj.in_features
    attention.qkv.weight[:width] *= attention.scale
    attention.qkv.bias[:width] *= attention.scale
    attention.scale = 1.0


def planes(images: Tensor) -> Tensor:
    """(B, H, W, 3) -> (B, 3, H, W)."""
    return images.permute(0, 3, 1, 2)


def weights_dtype(network: MixFormerV2) -> torch.dtype:
    """float32 or float16; both hold the pixel values 0..255 exactly."""
    return network.backbone.patch_embed.proj.weight.dtype
