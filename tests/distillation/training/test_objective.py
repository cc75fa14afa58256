"""What a training step does: which weights move, and that each loss can be lowered."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from distillation.data.batches import Batch
from distillation.networks.forward import draw_branch_gains, normalise_batch, run_network
from distillation.networks.mixvit_teacher import MixViT
from distillation.recipes.recipe import LossWeights, Recipe
from distillation.training.objective import Objective
from distillation.training.optimizers import build_optimizers, scale_learning_rates
from mixformerv2.model import MixFormerV2
from tests.helpers.lively_networks import lively_network
from tests.helpers.small_training import DISTIL, RECIPE, SPEC

DEEP = replace(SPEC, depth=4)
PRUNE = replace(
    DISTIL, name="prune", removed_blocks=(0, 2), prune_steps=4, feature_pairs=((1, 1), (3, 3))
)


def step(objective: Objective, batch: Batch, recipe: Recipe, gamma: float = 0.5) -> None:
    optimizers = build_optimizers(recipe, objective)
    gains = None
    if recipe.removed_blocks:
        depth, samples = recipe.training_depth, len(batch.present)
        gains = draw_branch_gains(depth, samples, 0.0, recipe.removed_blocks, gamma)
    torch.stack(list(objective(batch, gains).values())).sum().backward()
    for optimizer in optimizers:
        optimizer.step()


def changed(objective: Objective, batch: Batch, recipe: Recipe) -> set[str]:
    before = {k: v.clone() for k, v in objective.network.state_dict().items()}
    step(objective, batch, recipe)
    after = objective.network.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_blocks_that_fade_out_are_bit_identical_after_a_step(batch: Batch) -> None:
    objective = Objective(PRUNE, lively_network(DEEP), lively_network(DEEP, seed=1))
    moved = changed(objective, batch, PRUNE)
    assert not [name for name in moved if ".blocks.0." in name or ".blocks.2." in name]
    for block in ("1", "3"):
        own = [n for n in objective.network.state_dict() if f".blocks.{block}." in n]
        assert moved.issuperset(own)


def test_the_teacher_does_not_move_and_stays_in_eval_mode(batch: Batch) -> None:
    teacher = lively_network(DEEP, seed=1)
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    objective = Objective(DISTIL, lively_network(SPEC), teacher)
    step(objective, batch, DISTIL)
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher.training
    assert objective.network.training


def test_only_the_score_head_learns_in_its_stage(batch: Batch) -> None:
    recipe = replace(
        RECIPE, trained="score_head", loss=LossWeights(ciou=0, l1=0, score=1), weight_decay=0.1
    )
    objective = Objective(recipe, lively_network(SPEC), None)
    moved = changed(objective, batch, recipe)
    assert moved == {n for n in objective.network.state_dict() if n.startswith("score_head.")}


def test_the_score_head_rests_while_boxes_are_distilled(batch: Batch) -> None:
    objective = Objective(DISTIL, lively_network(SPEC), lively_network(DEEP, seed=1))
    assert not [n for n in changed(objective, batch, DISTIL) if n.startswith("score_head.")]


def test_fixed_positions_never_move(batch: Batch) -> None:
    moved = changed(Objective(RECIPE, lively_network(SPEC), None), batch, RECIPE)
    assert "backbone.pos_embed_s" not in moved
    assert "backbone.pos_embed_t" not in moved
    assert "backbone.pos_embed_reg" in moved


@pytest.mark.parametrize("network", [MixFormerV2, MixViT])
def test_learned_positions_move(network: type[MixFormerV2 | MixViT], batch: Batch) -> None:
    recipe = replace(RECIPE, learned_positions=True)
    if network is MixViT:
        recipe = replace(recipe, trained="corner_teacher", loss=replace(RECIPE.loss, score=0.0))
    moved = changed(Objective(recipe, network(SPEC), None), batch, recipe)
    assert {"backbone.pos_embed_s", "backbone.pos_embed_t"} <= moved


def test_learned_positions_rest_while_the_score_head_alone_learns(batch: Batch) -> None:
    recipe = replace(
        RECIPE,
        learned_positions=True,
        trained="score_head",
        loss=LossWeights(ciou=0, l1=0, score=1),
    )
    moved = changed(Objective(recipe, lively_network(SPEC), None), batch, recipe)
    assert moved == {n for n in moved if n.startswith("score_head.")} != set()


def test_a_student_that_equals_its_teacher_has_nothing_to_learn_from_it(batch: Batch) -> None:
    recipe = replace(DISTIL, feature_pairs=((0, 0), (1, 1)))
    objective = Objective(recipe, lively_network(SPEC), lively_network(SPEC))
    found = objective(batch)
    assert found["teacher"].item() == pytest.approx(0, abs=1e-5)
    assert found["features"].item() == pytest.approx(0, abs=1e-9)
    assert found["l1"].item() > 0.01


def test_drop_path_makes_a_student_differ_from_its_teacher(batch: Batch) -> None:
    torch.manual_seed(0)
    recipe = replace(DISTIL, feature_pairs=((1, 1),))
    objective = Objective(recipe, lively_network(SPEC), lively_network(SPEC))
    found = objective(batch, draw_branch_gains(SPEC.depth, len(batch.present), 0.5, (), 1.0))
    assert found["teacher"].item() > 1e-3
    assert found["features"].item() > 1e-3


def test_features_are_compared_as_the_pairs_say(batch: Batch) -> None:
    student, teacher = lively_network(SPEC), lively_network(DEEP, seed=1)
    recipe = replace(DISTIL, loss=LossWeights(ciou=0, l1=0, features=2.0))
    found = Objective(recipe, student, teacher)(batch)["features"]
    with torch.no_grad():
        views = normalise_batch(batch.templates), normalise_batch(batch.search)
        own, taught = run_network(student, *views).streams, run_network(teacher, *views).streams
    errors = [(own[0] - taught[1]).square().mean(), (own[1] - taught[3]).square().mean()]
    assert found.item() == pytest.approx(2 * torch.stack(errors).mean().item(), rel=1e-4)


def test_samples_without_a_target_teach_no_box(batch: Batch) -> None:
    objective = Objective(RECIPE, lively_network(SPEC), None)
    assert not batch.present.all()
    moved = batch._replace(edges=torch.where(batch.present[:, None], batch.edges, 0.7))
    for name in ("ciou", "l1", "gaussian"):
        assert objective(moved)[name].item() == objective(batch)[name].item()


def test_a_batch_without_any_target_costs_no_nan(batch: Batch) -> None:
    nowhere = batch._replace(
        present=torch.zeros_like(batch.present), edges=torch.zeros_like(batch.edges)
    )
    losses = Objective(RECIPE, lively_network(SPEC), None)(nowhere)
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["ciou"].item() == 0


def test_weights_scale_the_losses(batch: Batch) -> None:
    once = Objective(RECIPE, lively_network(SPEC), None)
    doubled = replace(RECIPE, loss=replace(RECIPE.loss, ciou=4.0, l1=10.0, gaussian=2.0, score=2.0))
    twice = Objective(doubled, lively_network(SPEC), None)
    before, after = once(batch), twice(batch)
    for name in ("ciou", "l1", "gaussian", "score"):
        assert after[name].item() == pytest.approx(2 * before[name].item(), rel=1e-5)


ALL_LOSSES = replace(
    DISTIL,
    loss=LossWeights(
        teacher=5.0, features=0.2, gaussian=1.0, inside=1.0, convolutional=1.0, score=1.0
    ),
)


def test_a_short_run_lowers_each_loss(batch: Batch) -> None:
    torch.manual_seed(0)
    channels = 6
    teacher = lively_network(DEEP, seed=1)
    objective = Objective(ALL_LOSSES, lively_network(SPEC), teacher, channels)
    taught = batch._replace(features=torch.randn(8, SPEC.search_tokens, channels))
    first, last = descend(objective, taught, ALL_LOSSES, 30)
    assert set(first) == {
        "ciou",
        "l1",
        "gaussian",
        "teacher",
        "features",
        "inside",
        "convolutional",
        "score",
    }
    for name in first:
        assert last[name] < 0.95 * first[name], name


def test_a_short_run_lowers_each_loss_of_the_corner_teacher(batch: Batch) -> None:
    torch.manual_seed(0)
    recipe = replace(RECIPE, trained="corner_teacher", loss=replace(RECIPE.loss, score=0.0))
    first, last = descend(Objective(recipe, MixViT(SPEC), None), batch, recipe, 30)
    assert set(first) == {"ciou", "l1", "gaussian", "inside"}
    for name in first:
        assert last[name] < 0.95 * first[name], name


def descend(
    objective: Objective, batch: Batch, recipe: Recipe, steps: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Losses before, and after so many steps on the same batch."""
    recipe = replace(recipe, learning_rate_backbone=5e-3, learning_rate_head=5e-3)
    optimizers = build_optimizers(recipe, objective)
    history = []
    for _ in range(steps):
        losses = objective(batch)
        history.append({name: loss.item() for name, loss in losses.items()})
        for optimizer in optimizers:
            optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
    return history[0], history[-1]


def test_backbone_and_heads_learn_at_their_own_rates() -> None:
    recipe = replace(RECIPE, learning_rate_backbone=1e-5, learning_rate_head=1e-4)
    objective = Objective(recipe, MixFormerV2(SPEC), None)
    (adamw,) = build_optimizers(recipe, objective)
    scale_learning_rates([adamw], 0.5)
    scale_learning_rates([adamw], 0.1)
    backbone, heads = adamw.param_groups
    assert (backbone["lr"], heads["lr"]) == (pytest.approx(1e-6), pytest.approx(1e-5))
    tokens = objective.network.backbone.reg_tokens
    assert any(parameter is tokens for parameter in backbone["params"])
    assert len(backbone["params"]) + len(heads["params"]) == sum(
        parameter.requires_grad for parameter in objective.parameters()
    )


def test_muon_takes_the_matrices_in_the_blocks_alone() -> None:
    recipe = replace(RECIPE, optimizer="muon", learning_rate_muon=3e-3)
    objective = Objective(recipe, MixFormerV2(SPEC), None)
    _, muon = build_optimizers(recipe, objective)
    matrices = [
        parameter
        for name, parameter in objective.network.named_parameters()
        if ".blocks." in name and parameter.ndim == 2
    ]
    assert {id(p) for p in muon.param_groups[0]["params"]} == {id(p) for p in matrices}
    assert muon.param_groups[0]["lr"] == 3e-3
