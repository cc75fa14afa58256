"""Making a network smaller: blocks left out, MLPs narrowed, positions for another image size."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from distillation.networks.mixvit_teacher import MixViT
from edge_tracker.bundle.spec import ModelSpec
from mixformerv2.model import MixFormerV2

POSITIONS = ("backbone.pos_embed_s", "backbone.pos_embed_t")
_BLOCK = re.compile(r"^backbone\.blocks\.(\d+)\.(.*)$")


def kept_blocks(depth: int, removed: tuple[int, ...]) -> dict[int, int]:
    """Old number -> new number of each block that stays."""
    return {old: new for new, old in enumerate(b for b in range(depth) if b not in removed)}


def drop_blocks(state: Mapping[str, Tensor], removed: tuple[int, ...]) -> dict[str, Tensor]:
    """The state dict without those blocks; the others are numbered anew from 0."""
    depth = 1 + max(int(match[1]) for name in state if (match := _BLOCK.match(name)))
    new_number = kept_blocks(depth, removed)
    kept = {}
    for name, tensor in state.items():
        match = _BLOCK.match(name)
        if match is None:
            kept[name] = tensor
        elif int(match[1]) in new_number:
            kept[f"backbone.blocks.{new_number[int(match[1])]}.{match[2]}"] = tensor
    return kept


def narrow_mlps(state: Mapping[str, Tensor], hidden: int) -> dict[str, Tensor]:
    """Keep the `hidden` units of each MLP that weigh most: by the norms of what they read and
    write.
    """
    narrowed = dict(state)
    for name in state:
        if not name.endswith("mlp.fc1.weight"):
            continue
        prefix = name.removesuffix("fc1.weight")
        reads, bias, writes = (
            state[prefix + key] for key in ("fc1.weight", "fc1.bias", "fc2.weight")
        )
        weight = reads.norm(dim=1) * writes.norm(dim=0)
        units = weight.topk(hidden).indices.sort().values
        narrowed[prefix + "fc1.weight"] = reads[units]
        narrowed[prefix + "fc1.bias"] = bias[units]
        narrowed[prefix + "fc2.weight"] = writes[:, units]
    return narrowed


def without_blocks(network: MixFormerV2, removed: tuple[int, ...]) -> MixFormerV2:
    """A shallower network with copies of the weights that stay, in eval mode."""
    spec = replace(network.spec, depth=network.spec.depth - len(removed))
    shallow = MixFormerV2(spec)
    shallow.load_state_dict(drop_blocks(network.state_dict(), removed))
    return shallow.eval()


def fit_spec(found: ModelSpec, wanted: ModelSpec) -> list[str]:
    """Why weights of one geometry cannot start a network of another; empty if they can.

    A wider MLP can be narrowed and fixed positions computed anew; all else must be equal.
    """
    problems = []
    for field in ("width", "depth", "num_heads", "patch_size_px", "bins"):
        if getattr(found, field) != getattr(wanted, field):
            problems.append(
                f"{field} is {getattr(found, field)}, the recipe says {getattr(wanted, field)}"
            )
    if (found.stem is None) != (wanted.stem is None):
        stem, none = "a convolutional stem", "a patch embedding"
        has, wants = (none if spec.stem is None else stem for spec in (found, wanted))
        problems.append(f"it has {has}, the recipe says {wants}")
    if found.mlp_hidden < wanted.mlp_hidden:
        problems.append(f"mlp_hidden is {found.mlp_hidden}, the recipe says {wanted.mlp_hidden}")
    return problems


def start_from(
    network: MixFormerV2 | MixViT,
    state: Mapping[str, Tensor],
    *,
    learned_positions: bool = False,
) -> None:
    """Give a network all weights of a checkpoint that it has; its others stay random.

    MLPs are narrowed where the network's are. Positions are the network's own, of its image sizes;
    with `learned_positions` the checkpoint's, scaled to those sizes.
    """
    fresh = network.state_dict()
    taken = {k: v for k, v in narrow_mlps(state, network.spec.mlp_hidden).items() if k in fresh}
    for name in POSITIONS:
        table = taken.pop(name, None)
        if learned_positions and table is not None:
            taken[name] = scale_positions(table, math.isqrt(fresh[name].shape[1]))
    network.load_state_dict(taken, strict=False)


def scale_positions(table: Tensor, grid: int) -> Tensor:
    """(1, old * old, C) -> (1, grid * grid, C), so that a place in the image keeps its position."""
    old = math.isqrt(table.shape[1])
    image = table.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    scaled = F.interpolate(image, (grid, grid), mode="bilinear", align_corners=False)
    return scaled.permute(0, 2, 3, 1).reshape(1, grid * grid, -1)


def randomise_prediction_tokens(network: MixFormerV2, std: float) -> None:
    with torch.no_grad():
        network.backbone.reg_tokens.normal_(0.0, std)
