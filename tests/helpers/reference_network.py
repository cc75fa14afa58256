"""MixFormerV2 stated literally and slowly, apart from `mixformerv2.model`, to compare that with.

One target at a time, in float64, as one sequence
[template | online template | search | 4 prediction tokens]; attention one head after the other with
a mask over all tokens; nothing cached, nothing cut.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Weights = Mapping[str, Tensor]


def reference_forward(
    state: Mapping[str, Tensor],
    num_heads: int,
    templates: NDArray[np.uint8],
    search: NDArray[np.uint8],
) -> tuple[NDArray[np.float64], float]:
    """templates (2, Ht, Wt, 3), search (Hs, Ws, 3), uint8 BGR -> edge_probs (4, bins), score."""
    weights = {name: tensor.detach().double() for name, tensor in state.items()}
    template_positions = weights["backbone.pos_embed_t"][0]
    first = _patches(weights, templates[0]) + template_positions
    second = _patches(weights, templates[1]) + template_positions
    search_tokens = _patches(weights, search) + weights["backbone.pos_embed_s"][0]
    predictions = weights["backbone.reg_tokens"][0] + weights["backbone.pos_embed_reg"][0]

    tokens = torch.cat([first, second, search_tokens, predictions])
    template_count = len(first) + len(second)
    # A template token sees template tokens only; all others see every token.
    hidden = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
    hidden[:template_count, template_count:] = True

    layer = 0
    while f"backbone.blocks.{layer}.norm1.weight" in weights:
        tokens = _block(weights, f"backbone.blocks.{layer}.", tokens, hidden, num_heads)
        layer += 1

    left, right, top, bottom = tokens[-4:]
    edges = [_edge(weights, token) for token in (left, top, right, bottom)]
    score_logits = [_score_logit(weights, token) for token in tokens[-4:]]
    score = 1 / (1 + math.exp(-sum(score_logits) / 4))
    return torch.stack(edges).numpy(), score


def _patches(weights: Weights, image_bgr: NDArray[np.uint8]) -> Tensor:
    kernel, bias = _layer(weights, "backbone.patch_embed.proj")
    size = kernel.shape[-1]
    blue, green, red = (image_bgr[:, :, i].astype(np.float64) / 255 for i in range(3))
    planes = np.stack([(red - 0.485) / 0.229, (green - 0.456) / 0.224, (blue - 0.406) / 0.225])
    tokens = []
    for y in range(0, planes.shape[1], size):
        for x in range(0, planes.shape[2], size):
            patch = torch.from_numpy(planes[:, y : y + size, x : x + size])
            tokens.append((kernel * patch).sum(dim=(1, 2, 3)) + bias)
    return torch.stack(tokens)


def _block(weights: Weights, name: str, tokens: Tensor, hidden: Tensor, num_heads: int) -> Tensor:
    width = tokens.shape[1]
    head_dim = width // num_heads
    qkv = _linear(weights, f"{name}attn.qkv", _norm(weights, f"{name}norm1", tokens, 1e-6))
    heads = []
    for head in range(num_heads):
        start = head * head_dim
        query = qkv[:, start : start + head_dim]
        key = qkv[:, width + start : width + start + head_dim]
        value = qkv[:, 2 * width + start : 2 * width + start + head_dim]
        similarity = query @ key.T / math.sqrt(head_dim)
        heads.append(_softmax(similarity.masked_fill(hidden, -math.inf)) @ value)
    tokens = tokens + _linear(weights, f"{name}attn.proj", torch.cat(heads, dim=1))
    inner = _linear(weights, f"{name}mlp.fc1", _norm(weights, f"{name}norm2", tokens, 1e-6))
    gelu = 0.5 * inner * (1 + torch.erf(inner / math.sqrt(2)))
    return tokens + _linear(weights, f"{name}mlp.fc2", gelu)


def _edge(weights: Weights, token: Tensor) -> Tensor:
    hidden = _linear(weights, "box_head.layers.0.0", token)
    hidden = _norm(weights, "box_head.layers.0.1", hidden, 1e-5).clamp(min=0)
    logits = _linear(weights, "box_head.layers.1.0", hidden)
    return _softmax(_norm(weights, "box_head.layers.1.1", logits, 1e-5))


def _score_logit(weights: Weights, token: Tensor) -> float:
    hidden = _linear(weights, "score_head.layers.0.0", token).clamp(min=0)
    return float(_linear(weights, "score_head.layers.1", hidden))


def _layer(weights: Weights, name: str) -> tuple[Tensor, Tensor]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    weight, bias = _layer(weights, name)
    return x @ weight.T + bias


def _norm(weights: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    weight, bias = _layer(weights, name)
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = (centred**2).mean(dim=-1, keepdim=True)
    return centred / torch.sqrt(variance + eps) * weight + bias


def _softmax(x: Tensor) -> Tensor:
    powers = torch.exp(x - x.max(dim=-1, keepdim=True).values)
    return powers / powers.sum(dim=-1, keepdim=True)
