"""The pictures of runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from distillation.ablation import CHAINS, START, Chain, at_scale
from distillation.recipes.named import named_recipe
from distillation.recipes.recipe import RecipeError
from distillation.training.curves import draw_comparison, draw_curves
from edge_tracker.video.frames import read_image


def write_log(path: Path, values: list[float]) -> Path:
    lines = [
        {"step": 20 * number, "loss": 1 / value, "validation_iou": value}
        for number, value in enumerate(values, 1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def ink(path: Path) -> np.ndarray:
    """Pixels that are neither white nor grey: the lines of the curves."""
    picture = read_image(path).astype(int)
    return picture.max(axis=2) - picture.min(axis=2) > 60


def test_a_run_is_drawn_with_its_losses_and_its_validation(tmp_path: Path) -> None:
    draw_curves(write_log(tmp_path / "log.jsonl", [0.2, 0.3, 0.5]), tmp_path / "curves.png")
    drawn = ink(tmp_path / "curves.png")
    middle = drawn.shape[1] // 2
    assert drawn[:, :middle].any()
    assert drawn[:, middle:].any()


def test_nothing_is_drawn_of_an_empty_log(tmp_path: Path) -> None:
    draw_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_runs_are_drawn_side_by_side(tmp_path: Path) -> None:
    one = write_log(tmp_path / "one.jsonl", [0.2, 0.3])
    two = write_log(tmp_path / "two.jsonl", [0.2, 0.4])
    groups = {"both": {"one": one, "two": two}, "second": {"two": two}}
    draw_comparison(groups, "validation_iou", tmp_path / "both.png")
    draw_comparison({"alone": {"one": one}}, "validation_iou", tmp_path / "alone.png")
    assert ink(tmp_path / "both.png").sum() > ink(tmp_path / "alone.png").sum() > 0


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_stages_follow_those_that_they_start_from(chain: Chain) -> None:
    done: set[str | None] = {None, START}
    for stage in chain.stages:
        assert stage.initial in done
        assert stage.teacher in done
        loss = named_recipe(stage.recipe).loss
        assert bool(loss.teacher) == (stage.teacher is not None)
        done.add(stage.recipe)
    assert done.issuperset(recipe for group in chain.comparisons.values() for recipe in group)


def test_a_network_alone_is_trained_for_as_much_as_its_chain_costs() -> None:
    """In layers that are run forwards and backwards; forwards alone is a third of that."""
    cost = 0.0
    for stage in CHAINS["stem"].stages[:-1]:
        recipe = named_recipe(stage.recipe)
        teaching = named_recipe(stage.teacher).student.depth if stage.teacher else 0
        cost += recipe.steps * (recipe.training_depth + teaching / 3)
    alone = named_recipe("stem_alone")
    assert alone.steps * alone.student.depth == pytest.approx(cost, rel=0.01)


@pytest.mark.parametrize(
    ("one", "other"), [("tiny_alone", "tiny_sparse"), ("tiny_at_once", "tiny_prune")]
)
def test_compared_stages_have_the_same_budget(one: str, other: str) -> None:
    budgets = {
        (recipe.steps, recipe.batch_size, recipe.seed) for recipe in map(named_recipe, (one, other))
    }
    assert len(budgets) == 1


def test_two_stages_have_the_budget_of_the_one_they_are_compared_with() -> None:
    direct, to_3, to_2 = map(named_recipe, ("tiny_direct", "tiny_to_3", "tiny_3_to_2"))
    assert direct.steps == to_3.steps + to_2.steps


def test_without_a_teacher_a_stage_has_what_the_teacher_would_cost() -> None:
    with_teacher, without = map(named_recipe, ("tiny_at_once", "tiny_no_teacher"))
    teaching = named_recipe("stem").student.depth / 3
    cost = with_teacher.steps * (with_teacher.training_depth + teaching)
    assert without.steps * without.training_depth == pytest.approx(cost, rel=0.01)


@pytest.mark.parametrize("share", [0.3, 0.05])
def test_shares_of_a_chain_cost_alike(share: float) -> None:
    shares = {name: at_scale(named_recipe(name), share, 64) for name in ("stem_8", "stem_alone")}
    whole = named_recipe("stem_alone").steps / named_recipe("stem_8").steps
    assert shares["stem_alone"].steps / shares["stem_8"].steps == pytest.approx(whole, rel=0.01)
    pruned = at_scale(named_recipe("stem_8_to_4"), share)
    assert pruned.prune_steps * 2 == pruned.steps
    assert pruned.batch_size == named_recipe("stem_8_to_4").batch_size != 64


@pytest.mark.parametrize(
    ("share", "batch_size", "message"),
    [
        (float("nan"), None, "a share of nan of the steps: give a number above 0"),
        (0.0, None, "a share of 0.0"),
        (1.0, 0, "batch_size is 0"),
        (1.0, -2, "batch_size is -2"),
    ],
)
def test_a_scale_of_nothing_is_refused(share: float, batch_size: int | None, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        at_scale(named_recipe("tiny_prune"), share, batch_size)
