"""The recipes: the paper's Base and Small, the shipped nano model, and a tiny chain for a small
machine.

A name is FAMILY_STAGE, in the order in which the stages follow each other:

    base_teacher -> base_sparse -> base_prune -> base_finetune -> base_score
    base_finetune -> small_prune -> small_finetune -> small_mlp -> small_score
    nano -> nano_score
    stem -> stem_tune
    stem_12 -> stem_12_to_8 -> stem_8 -> stem_8_to_4 -> stem_4
    tiny_teacher -> tiny_sparse, and stem -> tiny_prune -> tiny_mlp -> tiny_score
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from distillation.recipes.recipe import (
    Jitter,
    LossWeights,
    Recipe,
    RecipeError,
    SourceKind,
    recipe_from_dict,
)
from edge_tracker.files.untrusted import read_json, reading
from mixformerv2.geometries import BASE, NANO, SMALL, STEM_NANO

#: An epoch of the paper is 60,000 samples; a batch 256 of them.
PAPER_BATCH = 256
PAPER_SETS: tuple[SourceKind, ...] = ("got10k", "lasot", "trackingnet", "coco")


def epochs(count: int) -> int:
    """Steps of so many epochs of the paper."""
    return count * 60_000 // PAPER_BATCH


#: Whose streams should agree: (student's block, teacher's), while blocks fade out and after.
PRUNED_TO_8 = ((2, 2), (5, 5), (8, 8), (11, 11))
RENUMBERED_8 = ((1, 2), (3, 5), (5, 8), (7, 11))
PRUNED_TO_4 = ((1, 1), (3, 3), (5, 5), (7, 7))
RENUMBERED_4 = ((0, 1), (1, 3), (2, 5), (3, 7))

#: Steps of a tiny stage, half an hour on two CPU cores; those whose heads start anew, and the one
#: compared with two stages, have twice.
TINY_STEPS = 120

DISTIL_EDGES = LossWeights(teacher=5.0)
DISTIL_EDGES_AND_FEATURES = LossWeights(teacher=5.0, features=0.2)

_PAPER = Recipe(
    name="paper",
    student=BASE,
    trained="student",
    loss=LossWeights(),
    data=PAPER_SETS,
    steps=epochs(500),
    batch_size=PAPER_BATCH,
    learning_rate_backbone=4e-5,
    learning_rate_head=4e-4,
    drop_path=0.1,
)
_PAPER_SCORE = replace(
    _PAPER,
    trained="score_head",
    loss=LossWeights(ciou=0.0, l1=0.0, score=1.0),
    absent_fraction=0.5,
    steps=epochs(40),
    learning_rate_head=1e-4,
    decay="step:0.5",
    drop_path=0.0,
)
#: What a network of a million parameters needs to learn matching from rendered pairs: see the docs.
_DENSE_HELP = LossWeights(gaussian=1.0, inside=2.0)
_NANO = Recipe(
    name="nano",
    student=NANO,
    trained="student",
    loss=replace(_DENSE_HELP, convolutional=1.0, score=1.0),
    data=("synthetic",),
    steps=3000,
    batch_size=128,
    learning_rate_backbone=4e-4,
    learning_rate_head=4e-4,
    learning_rate_muon=1e-3,
    optimizer="muon",
    warmup_steps=100,
    decay="cosine",
    weight_decay=0.02,
    gradient_clip=1.0,
    absent_fraction=0.3,
    # The crop of a small network is small: what is around the target must not fill it.
    jitter=Jitter(search_factor=3.5),
    sample_uses=4,
    learned_positions=True,
    prediction_token_std=1.0,
)
#: A pre-trained stem in place of the patch embedding. Real tracks are worth most, and few.
_STEM = replace(
    _NANO,
    name="stem",
    student=STEM_NANO,
    loss=replace(_DENSE_HELP, score=1.0),
    data=("synthetic", "tracks"),
    data_weights=(1.0, 1.0),
    sample_uses=2,
    steps=4000,
    batch_size=1024,
    learning_rate_backbone=8e-4,
    learning_rate_head=8e-4,
    learning_rate_muon=2e-3,
    warmup_steps=200,
    absent_fraction=0.25,
    jitter=Jitter(search_factor=3.0, size_sigma=0.3, centre=2.2),
)
_SCORE_ONLY = LossWeights(ciou=0.0, l1=0.0, score=1.0)
#: Goes on from the shipped network. Like all short runs that are only compared with each other, it
#: sees each sample four times: rendering is what a GPU waits for.
_TINY = replace(
    _STEM,
    name="tiny",
    loss=_DENSE_HELP,
    absent_fraction=0.0,
    sample_uses=4,
    steps=TINY_STEPS,
    batch_size=64,
    learning_rate_backbone=2e-4,
    learning_rate_head=2e-4,
    learning_rate_muon=5e-4,
    warmup_steps=20,
)


def _recipes() -> list[Recipe]:
    base12 = replace(BASE, depth=12)
    small8 = replace(SMALL, depth=8, mlp_hidden=BASE.mlp_hidden)
    small4 = replace(small8, depth=4)
    prune = replace(_PAPER, prune_steps=epochs(40), steps=epochs(40))
    return [
        replace(_PAPER, name="base_teacher", student=base12, trained="corner_teacher"),
        replace(_PAPER, name="base_sparse", student=base12, loss=DISTIL_EDGES),
        replace(
            prune,
            name="base_prune",
            loss=DISTIL_EDGES_AND_FEATURES,
            removed_blocks=(0, 3, 6, 9),
            feature_pairs=PRUNED_TO_8,
        ),
        replace(
            _PAPER,
            name="base_finetune",
            loss=DISTIL_EDGES_AND_FEATURES,
            feature_pairs=RENUMBERED_8,
        ),
        replace(_PAPER_SCORE, name="base_score"),
        replace(
            prune,
            name="small_prune",
            student=small4,
            loss=DISTIL_EDGES_AND_FEATURES,
            removed_blocks=(0, 2, 4, 6),
            feature_pairs=PRUNED_TO_4,
        ),
        replace(
            _PAPER,
            name="small_finetune",
            student=small4,
            loss=DISTIL_EDGES_AND_FEATURES,
            feature_pairs=RENUMBERED_4,
        ),
        replace(
            _PAPER,
            name="small_mlp",
            student=SMALL,
            loss=DISTIL_EDGES_AND_FEATURES,
            feature_pairs=RENUMBERED_4,
        ),
        replace(_PAPER_SCORE, name="small_score", student=SMALL),
        _NANO,
        replace(
            _NANO,
            name="nano_score",
            trained="score_head",
            loss=_SCORE_ONLY,
            absent_fraction=0.5,
            steps=400,
        ),
        _STEM,
        replace(
            _STEM,
            name="stem_tune",
            frozen_stem=False,
            steps=1200,
            warmup_steps=50,
            learning_rate_backbone=2e-4,
            learning_rate_head=2e-4,
            learning_rate_muon=5e-4,
            learning_rate_stem=2e-5,
        ),
        *_stem_chain(),
        *_tiny_recipes(),
    ]


def _stem_chain() -> list[Recipe]:
    """The paper's chain over a stem, a twentieth of `stem` a stage, and what it is compared with.

    A step counts the layers that it trains, and a third of those that only teach. The network
    trained alone is given as much as the chain costs.
    """
    stage = replace(_STEM, sample_uses=4, steps=_STEM.steps // 20, warmup_steps=10)
    loss = replace(_STEM.loss, teacher=2.0, features=0.2)
    spec8, spec12 = (replace(STEM_NANO, depth=depth) for depth in (8, 12))
    cost = (12 + (12 + 4) + (8 + 4) + (8 + 8 / 3) + (4 + 8 / 3)) / 4
    return [
        replace(stage, name="stem_12", student=spec12),
        replace(
            stage,
            loss=loss,
            name="stem_12_to_8",
            student=spec8,
            removed_blocks=(0, 3, 6, 9),
            prune_steps=stage.steps // 2,
            feature_pairs=PRUNED_TO_8,
        ),
        replace(stage, loss=loss, name="stem_8", student=spec8, feature_pairs=RENUMBERED_8),
        replace(
            stage,
            loss=loss,
            name="stem_8_to_4",
            removed_blocks=(0, 2, 4, 6),
            prune_steps=stage.steps // 2,
            feature_pairs=PRUNED_TO_4,
        ),
        replace(stage, loss=loss, name="stem_4", feature_pairs=RENUMBERED_4),
        replace(stage, name="stem_alone", steps=round(cost * stage.steps)),
    ]


def _tiny_recipes() -> list[Recipe]:
    """The chain, and what its links are compared with: the ablation in the docs."""
    spec2, spec3 = (replace(STEM_NANO, depth=depth) for depth in (2, 3))
    narrow2 = replace(spec2, mlp_hidden=STEM_NANO.mlp_hidden // 2)
    # New heads and tokens take longer than surgery.
    afresh = replace(_TINY, steps=2 * TINY_STEPS, learning_rate_head=1e-3)
    kl = replace(_DENSE_HELP, teacher=5.0)
    kl_and_features = replace(kl, features=0.2)
    two_of_four = replace(
        _TINY,
        student=spec2,
        loss=kl_and_features,
        removed_blocks=(1, 2),
        feature_pairs=((0, 0), (3, 3)),
    )
    fading = TINY_STEPS // 2
    return [
        replace(afresh, name="tiny_teacher", trained="corner_teacher"),
        replace(afresh, name="tiny_alone"),
        replace(afresh, name="tiny_sparse", loss=kl),
        # As costly as the next, a step of which also runs a teacher, forwards: a third more.
        replace(
            two_of_four,
            name="tiny_no_teacher",
            loss=_DENSE_HELP,
            feature_pairs=(),
            steps=TINY_STEPS * 4 // 3,
        ),
        replace(two_of_four, name="tiny_at_once", prune_steps=0),
        replace(two_of_four, name="tiny_prune", prune_steps=fading),
        replace(two_of_four, name="tiny_direct", prune_steps=2 * fading, steps=2 * TINY_STEPS),
        replace(
            _TINY,
            name="tiny_to_3",
            student=spec3,
            loss=kl_and_features,
            removed_blocks=(1,),
            prune_steps=fading,
            feature_pairs=((0, 0), (2, 2), (3, 3)),
        ),
        replace(
            _TINY,
            name="tiny_3_to_2",
            student=spec2,
            loss=kl_and_features,
            removed_blocks=(1,),
            prune_steps=fading,
            feature_pairs=((0, 0), (2, 2)),
        ),
        replace(
            _TINY,
            name="tiny_mlp",
            student=narrow2,
            loss=kl_and_features,
            feature_pairs=((0, 0), (1, 3)),
        ),
        replace(
            _TINY,
            name="tiny_score",
            student=narrow2,
            trained="score_head",
            loss=_SCORE_ONLY,
            absent_fraction=0.5,
        ),
    ]


def named_recipe(name: str) -> Recipe:
    """Raises RecipeError, with the names there are."""
    recipes = {recipe.name: recipe for recipe in _recipes()}
    if name not in recipes:
        raise RecipeError(f"there is no recipe {name!r}; there are {', '.join(recipes)}")
    return recipes[name]


def recipe_names() -> list[str]:
    return [recipe.name for recipe in _recipes()]


def read_recipe(name: str) -> Recipe:
    """A recipe by its name, or from a JSON file of its fields. Raises RecipeError."""
    if not name.endswith(".json"):
        return named_recipe(name)
    with reading(f"recipe {name}", "give a JSON file of a recipe's fields", RecipeError):
        content = read_json(Path(name))
    if not isinstance(content, dict):
        raise RecipeError(f"{name} holds a {type(content).__name__}, expected a recipe's fields")
    return recipe_from_dict(content)
