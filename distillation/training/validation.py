"""Measuring a network while it trains, on samples that it never trains on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from sklearn.metrics import roc_auc_score

from distillation.data.batches import Batch, Batches
from distillation.data.opening import open_kind
from distillation.networks.forward import draw_branch_gains, normalise_batch, run_network
from distillation.networks.mixvit_teacher import MixViT
from distillation.recipes.recipe import OWN_SOURCES, Recipe, RecipeError, SourceKind
from distillation.training import losses
from distillation.training.curves import VALIDATION_PREFIX
from mixformerv2.model import MixFormerV2

SAMPLES = 512
CHUNK = 128


def open_validation(
    recipe: Recipe, data: Mapping[SourceKind, Path], samples: int = SAMPLES
) -> dict[SourceKind, Batch]:
    """The same held-out samples of each source each time.

    Raises RecipeError for data that has none.
    """
    if without := [kind for kind in recipe.data if kind not in OWN_SOURCES]:
        raise RecipeError(
            f"recipe {recipe.name}: {', '.join(without)} has no validation split; leave "
            "--validate-every out, and measure with evaluate"
        )
    return {
        kind: Batches(partial(open_kind, recipe, kind, data[kind], "validation"), samples, None)[0]
        for kind in recipe.data
    }


def validate_all(
    network: MixFormerV2 | MixViT,
    batches: Mapping[SourceKind, Batch],
    device: torch.device,
    removed_blocks: tuple[int, ...] = (),
) -> dict[str, float]:
    """`validate` for each source; where there are several, with the source's name behind."""
    found: dict[str, float] = {}
    for kind, batch in batches.items():
        suffix = f"_{kind}" if len(batches) > 1 else ""
        measured = validate(network, batch, device, removed_blocks)
        found |= {name + suffix: value for name, value in measured.items()}
    return found


@torch.no_grad()
def validate(
    network: MixFormerV2 | MixViT,
    batch: Batch,
    device: torch.device,
    removed_blocks: tuple[int, ...] = (),
) -> dict[str, float]:
    """-> mean IoU over the samples with a target, and how well the score tells them from the
    others. Of the network that is left without those blocks, however far they have faded.
    """
    was_training = network.training
    network.eval()
    ious, scores = [], []
    for start in range(0, len(batch.present), CHUNK):
        part = slice(start, start + CHUNK)
        search = batch.search[part].to(device)
        gains = None
        if removed_blocks:
            drawn = draw_branch_gains(network.spec.depth, len(search), 0.0, removed_blocks, 0.0)
            gains = [(attention.to(device), mlp.to(device)) for attention, mlp in drawn]
        output = run_network(
            network,
            normalise_batch(batch.templates[part].to(device)),
            normalise_batch(search),
            gains,
        )
        edges = losses.expected_edges(output.edge_logits).cpu()
        ious.append(losses.iou(edges, batch.edges[part]))
        if output.score_logit is not None:
            scores.append(output.score_logit.float().cpu())
    network.train(was_training)
    measured = {"iou": torch.cat(ious)[batch.present].mean().item()}
    if scores and 0 < int(batch.present.sum()) < len(batch.present):
        measured["score_auc"] = float(
            roc_auc_score(batch.present.numpy(), torch.cat(scores).numpy())
        )
    return {VALIDATION_PREFIX + name: value for name, value in measured.items()}
