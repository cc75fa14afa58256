"""Which parameters learn how fast."""

from __future__ import annotations

import torch
from torch.optim import Optimizer

from distillation.recipes.recipe import Recipe
from distillation.training.objective import Objective, pretrained_stem

#: Key in a parameter group for the rate that the schedule multiplies.
BASE_RATE = "base_rate"


def build_optimizers(recipe: Recipe, objective: Objective) -> list[Optimizer]:
    """AdamW on backbone and heads at their rates; with "muon", Muon on the matrices in the blocks.

    Parameters that the recipe freezes are left out, so weight decay does not touch them.
    """
    matrices, backbone, heads, stem = [], [], [], []
    pretrained = {f"network.{name}" for name in pretrained_stem(objective.network)}
    for name, parameter in objective.named_parameters():
        if not parameter.requires_grad:
            continue
        if not name.startswith("network.backbone."):
            heads.append(parameter)
        elif name in pretrained:
            stem.append(parameter)
        elif recipe.optimizer == "muon" and ".backbone.blocks." in name and parameter.ndim == 2:
            matrices.append(parameter)
        else:
            backbone.append(parameter)
    rates = (
        (backbone, recipe.learning_rate_backbone),
        (heads, recipe.learning_rate_head),
        (stem, recipe.learning_rate_stem),
    )
    groups = [{"params": params, "lr": rate, BASE_RATE: rate} for params, rate in rates if params]
    optimizers: list[Optimizer] = [
        torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=recipe.weight_decay)
    ]
    if matrices:
        rate = recipe.learning_rate_muon
        group = {"params": matrices, "lr": rate, BASE_RATE: rate}
        optimizers.append(
            torch.optim.Muon(
                [group], weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    return optimizers


def scale_learning_rates(optimizers: list[Optimizer], factor: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group[BASE_RATE] * factor
