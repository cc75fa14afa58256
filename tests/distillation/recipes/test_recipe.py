"""Recipes: complete, consistent, and the same after a round trip through JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.geometries import unlike
from distillation.geometries import variants
from distillation.networks.building import build_trained
from distillation.recipes.named import named_recipe, recipe_names
from distillation.recipes.recipe import (
    Jitter,
    LossWeights,
    RecipeError,
    recipe_from_dict,
    recipe_to_dict,
)
from mixformerv2.geometries import NANO, STEM_NANO
from mixformerv2.model import MixFormerV2
from tests.helpers.small_training import DISTIL, RECIPE, SPEC


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_survives_json(name: str) -> None:
    recipe = named_recipe(name)
    assert recipe_from_dict(json.loads(json.dumps(recipe_to_dict(recipe)))) == recipe


@pytest.mark.parametrize("name", recipe_names())
def test_feature_pairs_are_of_blocks_that_stay(name: str) -> None:
    recipe = named_recipe(name)
    for student_block, _ in recipe.feature_pairs:
        assert 0 <= student_block < recipe.training_depth
        assert student_block not in recipe.removed_blocks


def test_the_papers_numbers() -> None:
    prune, finetune = named_recipe("base_prune"), named_recipe("base_finetune")
    assert (prune.training_depth, prune.student.depth) == (12, 8)
    assert prune.removed_blocks == (0, 3, 6, 9)
    assert prune.feature_pairs == ((2, 2), (5, 5), (8, 8), (11, 11))
    assert finetune.feature_pairs == ((1, 2), (3, 5), (5, 8), (7, 11))
    assert finetune.loss == LossWeights(ciou=2, l1=5, teacher=5, features=0.2)
    assert (finetune.batch_size, finetune.gradient_clip, finetune.drop_path) == (256, 0.1, 0.1)
    assert (finetune.learning_rate_head, finetune.learning_rate_backbone) == (4e-4, 4e-5)
    assert finetune.steps == 500 * 60_000 // 256
    assert prune.prune_steps == 40 * 60_000 // 256
    assert named_recipe("base_sparse").loss == LossWeights(ciou=2, l1=5, teacher=5)
    score = named_recipe("small_score")
    assert (score.trained, score.absent_fraction, score.decay) == ("score_head", 0.5, "step:0.5")
    assert (score.learning_rate_head, score.steps) == (1e-4, 40 * 60_000 // 256)
    small = named_recipe("small_mlp").student
    assert (small.depth, small.mlp_hidden, small.search_size_px) == (4, 768, 224)


def test_rendered_crops_are_tracked_as_they_are_rendered_and_the_papers_as_officially() -> None:
    factors = {name: named_recipe(name).tracking_search_factor for name in recipe_names()}
    assert {factors[name] for name in factors if name.startswith("nano")} == {3.5}
    over_stem = ("stem", "tiny")
    assert {factors[name] for name in factors if name.startswith(over_stem)} == {3.0}
    rest = {factors[name] for name in factors if not name.startswith(("nano", *over_stem))}
    assert rest == {4.5}
    assert named_recipe("base_sparse").jitter.search_factor == 5.0


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'bass'; there are base_teacher, .*nano"):
        named_recipe("bass")


CONTRADICTIONS = {
    "no steps": ({"steps": 0}, "steps is 0, at least 1"),
    "samples that are never used": ({"sample_uses": 0}, "sample_uses is 0, at least 1"),
    "crop smaller than its target": (
        {"jitter": Jitter(search_factor=0.5)},
        "jitter.search_factor is 0.5, expected 1 to 20",
    ),
    "crop of no size": ({"jitter": Jitter(search_factor=float("nan"))}, "search_factor is nan"),
    "no batch": ({"batch_size": 0}, "batch_size is 0"),
    "unknown role": ({"trained": "head"}, "trained is 'head', expected one of corner_teacher"),
    "unknown optimizer": ({"optimizer": "sgd"}, "optimizer is 'sgd', expected one of adamw, muon"),
    "no data": ({"data": ()}, "expected some of synthetic"),
    "unknown data": ({"data": ("otb",)}, r"data is \('otb',\)"),
    "unknown decay": ({"decay": "linear"}, 'expected "cosine" or "step:0.8"'),
    "decay after the end": ({"decay": "step:1.5"}, "decay is 'step:1.5'"),
    "block that is not there": ({"removed_blocks": (5,)}, r"removes blocks \(5,\) of 3"),
    "only absent targets": ({"absent_fraction": 1.0}, "absent_fraction is 1.0"),
    "features of nothing": ({"feature_pairs": ((0, 0),)}, "set both or neither"),
}


@pytest.mark.parametrize(("changes", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        replace(RECIPE, **changes)


def test_a_stored_recipe_of_other_words_is_refused() -> None:
    stored = recipe_to_dict(RECIPE)
    with pytest.raises(RecipeError, match="has no epochs"):
        recipe_from_dict({**stored, "epochs": 3})
    with pytest.raises(RecipeError, match="incomplete"):
        recipe_from_dict({"name": "half"})


def test_prediction_tokens_start_as_far_apart_as_the_recipe_says() -> None:
    wide = build_trained(replace(RECIPE, prediction_token_std=1.0), None)
    close = build_trained(replace(RECIPE, prediction_token_std=0.02), None)
    assert isinstance(wide, MixFormerV2)
    assert wide.backbone.reg_tokens.std().item() == pytest.approx(1.0, rel=0.3)
    assert close.backbone.reg_tokens.std().item() == pytest.approx(0.02, rel=0.3)
    again = build_trained(replace(RECIPE, prediction_token_std=1.0), None)
    assert torch.equal(wide.backbone.reg_tokens, again.backbone.reg_tokens)


def test_blocks_that_fade_out_are_in_the_network_while_it_trains() -> None:
    assert DISTIL.training_depth == SPEC.depth
    pruned = replace(DISTIL, removed_blocks=(0, 1), feature_pairs=((2, 2),))
    assert pruned.training_depth == SPEC.depth + 2


def test_compared_geometries_differ_and_see_equally_many_samples() -> None:
    recipes = variants(steps=40, batch_size=8)
    assert {(r.steps, r.batch_size, r.sample_uses) for r in recipes.values()} == {(40, 8, 4)}
    assert recipes["as shipped"].student == STEM_NANO
    assert len({(r.student, r.jitter) for r in recipes.values()}) == len(recipes)
    assert list(unlike({"a": NANO, "b": STEM_NANO, "c": NANO})) == ["a", "b"]
