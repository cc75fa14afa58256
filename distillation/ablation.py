"""python -m distillation.ablation: the chain at small scale, and each link against its alternative.

Every stage has the budget of its recipe, the same samples in the same order, and is measured on the
same held-out samples. Stages that are already done are not trained again.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from distillation.data.batches import Batch
from distillation.networks.building import build_trained
from distillation.recipes.named import named_recipe
from distillation.recipes.recipe import Recipe
from distillation.training.curves import VALIDATION_PREFIX, draw_comparison
from distillation.training.run_folder import CHECKPOINT, LOG
from distillation.training.train import train
from distillation.training.validation import open_validation, validate

HELD_OUT_SAMPLES = 2048

#: The question that a comparison answers, and its stages with their names in the picture.
COMPARISONS = {
    "sparse student": {"tiny_alone": "trained alone", "tiny_sparse": "distilled"},
    "four layers to two": {"tiny_at_once": "dropped at once", "tiny_prune": "faded out"},
    "teacher of two layers": {
        "tiny_direct": "four layers, twice the steps",
        "tiny_3_to_2": "three layers, trained between",
    },
}


@dataclass(frozen=True)
class Stage:
    """initial: a stage, or None for the checkpoint to start from; teacher: a stage, if any."""

    recipe: str
    initial: str | None
    teacher: str | None


STAGES = (
    Stage("tiny_teacher", None, None),
    Stage("tiny_alone", "tiny_teacher", None),
    Stage("tiny_sparse", "tiny_teacher", "tiny_teacher"),
    Stage("tiny_at_once", "tiny_sparse", "tiny_sparse"),
    Stage("tiny_prune", "tiny_sparse", "tiny_sparse"),
    Stage("tiny_direct", "tiny_sparse", "tiny_sparse"),
    Stage("tiny_to_3", "tiny_sparse", "tiny_sparse"),
    Stage("tiny_3_to_2", "tiny_to_3", "tiny_to_3"),
    Stage("tiny_mlp", "tiny_prune", "tiny_sparse"),
    Stage("tiny_score", "tiny_mlp", None),
)


def run_ablation(images: Path, start: Path, output: Path, validate_every_steps: int) -> None:
    """Train all stages into folders of their names, and draw the comparisons."""
    for stage in STAGES:
        recipe = named_recipe(stage.recipe)
        train(
            recipe,
            {"synthetic": images},
            output / stage.recipe,
            initial=start if stage.initial is None else output / stage.initial / CHECKPOINT,
            teacher=None if stage.teacher is None else output / stage.teacher / CHECKPOINT,
            validate_every_steps=validate_every_steps,
        )
    groups = {
        title: {label: output / recipe / LOG for recipe, label in stages.items()}
        for title, stages in COMPARISONS.items()
    }
    draw_comparison(groups, VALIDATION_PREFIX + "iou", output / "comparison.png")


def measure(checkpoint: Path, recipe: Recipe, held_out: Batch) -> dict[str, float]:
    network = build_trained(replace(recipe, removed_blocks=()), checkpoint)
    return validate(network, held_out, torch.device("cpu"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="to render from")
    parser.add_argument("--start", type=Path, required=True, help="checkpoint of nano geometry")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--validate-every", type=int, default=100, metavar="STEPS")
    options = parser.parse_args()
    run_ablation(options.images, options.start, options.output, options.validate_every)
    table = Table("stage", "layers", "MLP", "steps", "validation IoU", "score ROC AUC")
    for stage in STAGES:
        recipe = named_recipe(stage.recipe)
        (held_out,) = open_validation(
            recipe, {"synthetic": options.images}, HELD_OUT_SAMPLES
        ).values()
        measured = measure(options.output / stage.recipe / CHECKPOINT, recipe, held_out)
        auc = measured.get(VALIDATION_PREFIX + "score_auc")
        table.add_row(
            stage.recipe,
            str(recipe.student.depth),
            str(recipe.student.mlp_hidden),
            str(recipe.steps),
            f"{measured[VALIDATION_PREFIX + 'iou']:.3f}",
            "" if auc is None else f"{auc:.3f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
