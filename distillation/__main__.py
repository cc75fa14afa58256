"""python -m distillation RECIPE --data KIND=FOLDER -o RUN: one stage of the training."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from distillation.exit_status import exit_status
from distillation.recipes.named import read_recipe, recipe_names
from distillation.recipes.recipe import RecipeError


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    return exit_status(lambda: (_evaluate if options.recipe == "evaluate" else _train)(options))


def _train(options: argparse.Namespace) -> None:
    from distillation.training.train import train

    changes = {"steps": options.steps, "seed": options.seed}
    recipe = replace(
        read_recipe(options.recipe),
        **{name: value for name, value in changes.items() if value is not None},
    )
    folders = dict(options.data)
    limited = recipe.limited_to(folders)
    stderr = Console(stderr=True, highlight=False, markup=False)
    if limited is not recipe:
        absent = " and ".join(kind for kind in recipe.data if kind not in limited.data)
        stderr.print(
            f"recipe {recipe.name} trains on {' and '.join(recipe.data)}: without --data for "
            f"{absent}, it trains on {' and '.join(limited.data)} alone"
        )
    checkpoint = train(
        limited,
        folders,
        options.output or Path("runs") / recipe.name,
        initial=options.initial,
        stem=options.stem,
        teacher=options.teacher,
        convolutional_teacher=options.convolutional_teacher,
        workers=options.workers,
        compiled=options.compile,
        save_every_steps=options.save_every,
        validate_every_steps=options.validate_every,
    )
    stderr.print(f"wrote {checkpoint}")


def _evaluate(options: argparse.Namespace) -> None:
    from distillation.checkpoint_accuracy import evaluate_checkpoint

    if options.initial is None or len(options.data) != 1:
        raise RecipeError("evaluate needs --initial CHECKPOINT and one --data folder=FOLDER")
    figures = evaluate_checkpoint(options.initial, options.data[0][1], max_frames=options.frames)
    table = Table("sequence", "frames", "mean IoU", "success AUC", title=str(options.initial))
    for sequence in figures.sequences:
        row = (sequence.name, str(sequence.frames), f"{sequence.mean_iou:.3f}")
        table.add_row(*row, f"{sequence.success_auc:.3f}")
    table.add_section()
    table.add_row("mean", "", f"{figures.mean_iou:.3f}", f"{figures.success_auc:.3f}")
    console = Console(highlight=False)
    console.print(table)
    separation = figures.separation
    console.print(
        f"score where found {separation.mean_score_found:.3f} ({separation.found_frames} frames), "
        f"where lost or absent {separation.mean_score_missed:.3f} ({separation.missed_frames}), "
        f"ROC AUC {separation.roc_auc:.3f}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m distillation",
        description="Train one stage, or go on with it where its output folder holds a run.",
        epilog=f"recipes: {', '.join(recipe_names())}; a JSON file of one; "
        "or evaluate, to measure a checkpoint",
    )
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument(
        "--data",
        type=_kind_and_folder,
        action="append",
        default=[],
        metavar="KIND=FOLDER",
        help="where a kind of data that the recipe names lies; once for each kind. Kinds left out "
        "are trained without, and that is said",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="RUN", help="default: runs/RECIPE")
    parser.add_argument("--initial", type=Path, metavar="CHECKPOINT", help="weights to start from")
    parser.add_argument(
        "--stem",
        type=Path,
        metavar="CHECKPOINT",
        help="weights of a convolutional stem alone, such as EfficientNet-lite0's",
    )
    parser.add_argument("--teacher", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--convolutional-teacher", type=Path, metavar="ONNX")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument(
        "--seed", type=int, help="instead of the recipe's; another draws other samples"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare samples")
    parser.add_argument("--threads", type=int, help="CPU threads of the training itself")
    parser.add_argument(
        "--compile", action="store_true", help="compile the step first: minutes, for a long run"
    )
    parser.add_argument("--save-every", type=int, default=500, metavar="STEPS")
    parser.add_argument("--validate-every", type=int, default=0, metavar="STEPS")
    parser.add_argument("--frames", type=int, help="evaluate: of each sequence at most")
    return parser


def _kind_and_folder(text: str) -> tuple[str, Path]:
    kind, equals, folder = text.partition("=")
    if not equals or not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not KIND=FOLDER, such as coco=/data/coco")
    return kind, Path(folder)


if __name__ == "__main__":
    sys.exit(main())
