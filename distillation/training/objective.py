"""What a batch costs: the student, its teachers and every weighted loss, as one module to train."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distillation.data.batches import Batch
from distillation.networks.forward import BranchGains, Output, network_inputs, run_network
from distillation.networks.mixvit_teacher import MixViT
from distillation.recipes.recipe import Recipe
from distillation.training import losses
from mixformerv2.model import MixFormerV2
from mixformerv2.stem import OWN_PARTS, StemEmbed

#: Width of the Gaussian target, in bins.
GAUSSIAN_SIGMA_BINS = 1.0


class Probes(nn.Module):
    """Linear readings of the search tokens that only training needs."""

    def __init__(self, width: int, convolutional_channels: int) -> None:
        super().__init__()
        self.inside = nn.ModuleList(nn.Linear(width, 1) for _ in range(2))
        self.convolutional = nn.Linear(width, max(1, convolutional_channels))


class Objective(nn.Module):
    """forward: a batch -> its losses by name, already weighted; their sum is what is minimised.

    The teacher is frozen and in eval mode. Parameters that the recipe does not train are frozen
    too.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: MixFormerV2 | MixViT,
        teacher: MixFormerV2 | MixViT | None,
        convolutional_channels: int = 0,
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.network = network
        self.probes = Probes(recipe.student.width, convolutional_channels)
        self.teacher = teacher
        if teacher is not None:
            teacher.requires_grad_(False)
        freeze(self, recipe)
        self.train()

    def train(self, mode: bool = True) -> Objective:
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def forward(self, batch: Batch, branch_gains: BranchGains | None = None) -> dict[str, Tensor]:
        templates, search = network_inputs(batch.templates, batch.search)
        output = run_network(
            self.network,
            templates,
            search,
            branch_gains,
            last_stream=bool(self.recipe.loss.features),
        )
        taught = None
        if self.teacher is not None:
            with torch.no_grad():
                taught = run_network(self.teacher, templates, search)
        return weighted_losses(self.recipe, self.probes, output, taught, batch)


def pretrained_stem(network: MixFormerV2 | MixViT) -> dict[str, nn.Parameter]:
    """Parameters of a convolutional stem, by name; without the projection that is ours."""
    embedding = network.backbone.patch_embed
    if not isinstance(embedding, StemEmbed):
        return {}
    return {
        f"backbone.patch_embed.{name}": parameter
        for name, parameter in embedding.named_parameters()
        if not name.startswith(OWN_PARTS)
    }


def freeze(objective: Objective, recipe: Recipe) -> None:
    """Leave gradients on exactly what the recipe trains."""
    network = objective.network
    network.backbone.pos_embed_s.requires_grad_(recipe.learned_positions)
    network.backbone.pos_embed_t.requires_grad_(recipe.learned_positions)
    if recipe.frozen_stem:
        for parameter in pretrained_stem(network).values():
            parameter.requires_grad_(False)
    if recipe.trained == "score_head":
        network.requires_grad_(False)
        network.score_head.requires_grad_(True)
    elif recipe.trained == "student" and not recipe.loss.score:
        network.score_head.requires_grad_(False)
    for number in recipe.removed_blocks:
        network.backbone.blocks[number].requires_grad_(False)
    objective.probes.inside.requires_grad_(bool(recipe.loss.inside))
    objective.probes.convolutional.requires_grad_(bool(recipe.loss.convolutional))


def weighted_losses(
    recipe: Recipe, probes: Probes, output: Output, taught: Output | None, batch: Batch
) -> dict[str, Tensor]:
    weight, spec = recipe.loss, recipe.student
    present = batch.present
    # A batch without any target has no box to learn from; a mean over nothing would be NaN.
    count = present.sum().clamp_min(1)
    logits = output.edge_logits.float()
    edges = losses.expected_edges(logits)

    def mean_present(per_sample: Tensor) -> Tensor:
        return torch.where(present, per_sample, 0.0).sum() / count

    found: dict[str, Tensor] = {}
    if weight.ciou:
        found["ciou"] = weight.ciou * mean_present(1 - losses.complete_iou(edges, batch.edges))
    if weight.l1:
        found["l1"] = weight.l1 * mean_present((edges - batch.edges).abs().mean(dim=1))
    if weight.gaussian:
        target = losses.soft_edge_targets(batch.edges, spec.bins, GAUSSIAN_SIGMA_BINS)
        found["gaussian"] = weight.gaussian * mean_present(losses.edge_kl(logits, target))
    if weight.teacher and taught is not None:
        teacher_probs = taught.edge_logits.float().softmax(dim=-1)
        found["teacher"] = weight.teacher * mean_present(losses.edge_kl(logits, teacher_probs))
    if weight.features and taught is not None:
        pairs = [(output.streams[s], taught.streams[t]) for s, t in recipe.feature_pairs]
        found["features"] = weight.features * losses.feature_error(pairs)
    search_streams = _search_streams(output, spec.template_tokens, spec.search_tokens)
    if weight.inside:
        grid = math.isqrt(spec.search_tokens)
        truth = losses.token_is_inside(batch.edges, grid)
        # The last two blocks but one: the last one's search tokens lead nowhere.
        depth = recipe.training_depth
        read = [search_streams[max(0, depth - 3)], search_streams[max(0, depth - 2)]]
        found["inside"] = (
            weight.inside
            * torch.stack(
                [
                    F.binary_cross_entropy_with_logits(probe(stream).float().squeeze(-1), truth)
                    for probe, stream in zip(probes.inside, read, strict=True)
                ]
            ).sum()
        )
    if weight.convolutional and batch.features is not None:
        read_features = probes.convolutional(search_streams[0][: len(batch.features)]).float()
        error = F.mse_loss(read_features, batch.features)
        found["convolutional"] = weight.convolutional * error
    if weight.score and output.score_logit is not None:
        found["score"] = weight.score * F.binary_cross_entropy_with_logits(
            output.score_logit.float(), present.float()
        )
    return found


def _search_streams(output: Output, template_tokens: int, search_tokens: int) -> list[Tensor]:
    start = 2 * template_tokens
    return [stream[:, start : start + search_tokens] for stream in output.streams]
