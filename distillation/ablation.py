"""python -m distillation.ablation: the chain at small scale, and each link against its alternative.

Every stage has the budget of its recipe, or the same share of it, the same samples in the same
order, and is measured on the same held-out samples. Stages that are already done are not trained
again.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from distillation.data.batches import Batch
from distillation.exit_status import exit_status
from distillation.networks.building import build_trained
from distillation.recipes.named import named_recipe
from distillation.recipes.recipe import Recipe, RecipeError, SourceKind
from distillation.training.curves import VALIDATION_PREFIX, draw_comparison
from distillation.training.run_folder import CHECKPOINT, LOG
from distillation.training.train import train
from distillation.training.validation import open_validation, validate_all

#: Of the figures of validation: over real tracks.
SHOWN = "iou_tracks"


#: In the place of a stage: the checkpoint that the chain starts from.
START = "start"


@dataclass(frozen=True)
class Stage:
    """initial: a stage, START, or None for a stem alone. teacher: a stage, START, or None."""

    recipe: str
    initial: str | None
    teacher: str | None


@dataclass(frozen=True)
class Chain:
    """stages: in the order of training. comparisons: by question, stages and their names in the
    picture.
    """

    stages: tuple[Stage, ...]
    comparisons: dict[str, dict[str, str]]


CHAINS = {
    "tiny": Chain(
        (
            Stage("tiny_no_teacher", START, None),
            Stage("tiny_at_once", START, START),
            Stage("tiny_prune", START, START),
            Stage("tiny_direct", START, START),
            Stage("tiny_to_3", START, START),
            Stage("tiny_3_to_2", "tiny_to_3", "tiny_to_3"),
            Stage("tiny_mlp", "tiny_prune", START),
            Stage("tiny_score", "tiny_mlp", None),
            Stage("tiny_teacher", START, None),
            Stage("tiny_alone", "tiny_teacher", None),
            Stage("tiny_sparse", "tiny_teacher", "tiny_teacher"),
        ),
        {
            "sparse student": {"tiny_alone": "trained alone", "tiny_sparse": "distilled"},
            "four layers to two": {
                "tiny_no_teacher": "dropped at once, no teacher",
                "tiny_at_once": "dropped at once",
                "tiny_prune": "faded out",
            },
            "teacher of two layers": {
                "tiny_direct": "four layers, twice the steps",
                "tiny_3_to_2": "three layers, trained between",
            },
        },
    ),
    "stem": Chain(
        (
            Stage("stem_12", None, None),
            Stage("stem_12_to_8", "stem_12", "stem_12"),
            Stage("stem_8", "stem_12_to_8", "stem_12"),
            Stage("stem_8_to_4", "stem_8", "stem_8"),
            Stage("stem_4", "stem_8_to_4", "stem_8"),
            Stage("stem_alone", None, None),
        ),
        {
            "four layers": {
                "stem_8_to_4": "faded out of eight",
                "stem_4": "then fine-tuned",
                "stem_alone": "trained alone",
            }
        },
    ),
}


def at_scale(recipe: Recipe, share: float, batch_size: int | None = None) -> Recipe:
    """The recipe with this share of its steps, and of those in which something begins or fades.

    Raises RecipeError for a share that is not above 0, or a batch of nothing.
    """
    if not 0 < share < math.inf:
        raise RecipeError(f"a share of {share} of the steps: give a number above 0")
    return replace(
        recipe,
        batch_size=recipe.batch_size if batch_size is None else batch_size,
        **{
            name: math.ceil(getattr(recipe, name) * share)
            for name in ("steps", "warmup_steps", "prune_steps")
        },
    )


def run_ablation(
    chain: Chain,
    recipes: Mapping[str, Recipe],
    data: dict[SourceKind, Path],
    start: Path,
    output: Path,
    *,
    workers: int,
    validate_every_steps: int,
) -> None:
    """Train all stages into folders of their names, and draw the comparisons.

    So many parameters because it hands what a training needs on to `train`.
    recipes: by name, one for each stage. start: a checkpoint, or what to take a stem's weights
    from.
    """
    made = {stage.recipe: output / stage.recipe / CHECKPOINT for stage in chain.stages}
    made[START] = start
    for stage in chain.stages:
        train(
            recipes[stage.recipe],
            data,
            output / stage.recipe,
            initial=None if stage.initial is None else made[stage.initial],
            stem=start if stage.initial is None else None,
            teacher=None if stage.teacher is None else made[stage.teacher],
            workers=workers,
            validate_every_steps=validate_every_steps,
        )
    groups = {
        title: {label: output / recipe / LOG for recipe, label in stages.items()}
        for title, stages in chain.comparisons.items()
    }
    draw_comparison(groups, VALIDATION_PREFIX + SHOWN, output / "comparison.png")


def measure(
    checkpoint: Path, recipe: Recipe, held_out: Mapping[SourceKind, Batch]
) -> dict[str, float]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build_trained(replace(recipe, removed_blocks=()), checkpoint).to(device)
    return validate_all(network, held_out, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chain", choices=CHAINS, default="tiny")
    parser.add_argument("--images", type=Path, required=True, help="to render from")
    parser.add_argument("--tracks", type=Path, required=True, help="real tracks")
    parser.add_argument(
        "--start",
        type=Path,
        required=True,
        help="checkpoint of the shipped geometry; for the chain `stem`, of the stem",
    )
    parser.add_argument("-o", "--output", type=Path, help="default: runs/ablation_CHAIN")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0, help="of each recipe's steps")
    parser.add_argument("--batch-size", type=int, help="instead of the recipes'")
    parser.add_argument("--validate-every", type=int, default=40, metavar="STEPS")
    options = parser.parse_args()
    chain = CHAINS[options.chain]
    data: dict[SourceKind, Path] = {"synthetic": options.images, "tracks": options.tracks}
    output = options.output or Path("runs") / f"ablation_{options.chain}"
    recipes = {
        stage.recipe: at_scale(named_recipe(stage.recipe), options.share, options.batch_size)
        for stage in chain.stages
    }
    run_ablation(
        chain,
        recipes,
        data,
        options.start,
        output,
        workers=options.workers,
        validate_every_steps=options.validate_every,
    )
    table = Table(
        "stage", "layers", "MLP", "steps", "IoU, rendered", "IoU, real", "score ROC AUC, real"
    )
    held_out: dict[float, Mapping[SourceKind, Batch]] = {}
    for stage in chain.stages:
        recipe = recipes[stage.recipe]
        # Of all that decides the samples, the stages of a chain differ in this alone.
        absent = recipe.absent_fraction
        if absent not in held_out:
            held_out[absent] = open_validation(recipe, data)
        measured = measure(output / stage.recipe / CHECKPOINT, recipe, held_out[absent])
        table.add_row(
            stage.recipe,
            str(recipe.student.depth),
            str(recipe.student.mlp_hidden),
            str(recipe.steps),
            *(
                _shown(measured.get(VALIDATION_PREFIX + figure))
                for figure in ("iou_synthetic", SHOWN, "score_auc_tracks")
            ),
        )
    Console().print(table)


def _shown(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.3f}"


if __name__ == "__main__":
    sys.exit(exit_status(main))
