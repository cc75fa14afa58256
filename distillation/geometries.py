"""python -m distillation.geometries: networks over a stem, trained alike for a short while.

What they cost on a device: python -m benchmarks.geometries.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from distillation.exit_status import exit_status
from distillation.recipes.named import named_recipe
from distillation.recipes.recipe import Recipe, SourceKind
from distillation.training.curves import VALIDATION_PREFIX
from distillation.training.train import train
from distillation.training.validation import open_validation, validate_all
from mixformerv2.checkpoint import load_network
from mixformerv2.geometries import LITE0, STEM_NANO

HELD_OUT_SAMPLES = 2048
STEM = named_recipe("stem")
#: The stem without its last two blocks.
SHORT = replace(LITE0, stages=(*LITE0.stages[:4], replace(LITE0.stages[4], blocks=1)), fine=True)


def variants(steps: int, batch_size: int) -> dict[str, Recipe]:
    """Recipes by what is different from `stem`; all see equally many samples, each four times."""
    short_run = replace(
        STEM, sample_uses=4, steps=steps, batch_size=batch_size, warmup_steps=steps // 10
    )

    def student(**changes: object) -> Recipe:
        return replace(short_run, student=replace(STEM_NANO, **changes))  # type: ignore[arg-type]

    def factor(search_factor: float) -> Recipe:
        # The target's centre stays in the crop.
        jitter = replace(STEM.jitter, search_factor=search_factor, centre=search_factor - 0.8)
        return replace(short_run, jitter=jitter)

    return {
        "as shipped": short_run,
        "stride 16 alone": student(stem=LITE0),
        "template 80 px": student(template_size_px=80),
        "search 176 px": student(search_size_px=176),
        "search 192 px, nine blocks of the stem": student(search_size_px=192, stem=SHORT),
        "five layers": student(depth=5),
        "six layers": student(depth=6),
        "crop factor 2.5": factor(2.5),
        "crop factor 3.5": factor(3.5),
    }


def run_folder(output: Path, name: str) -> Path:
    return output / name.replace(" ", "_").replace(",", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="to render from")
    parser.add_argument("--tracks", type=Path, required=True, help="real tracks")
    parser.add_argument("--stem", type=Path, required=True, help="to take the stem's weights from")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/geometries"))
    parser.add_argument("--only", action="append", metavar="NAME", help="some of the variants")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    data: dict[SourceKind, Path] = {"synthetic": options.images, "tracks": options.tracks}
    recipes = variants(options.steps, options.batch_size)
    if unknown := set(options.only or ()) - recipes.keys():
        parser.error(f"no variant {', '.join(sorted(unknown))}: choose from {', '.join(recipes)}")
    table = Table("geometry", "parameters", "IoU, rendered", "IoU, real", "score ROC AUC, real")
    for name in options.only or recipes:
        recipe = replace(recipes[name], name=name)
        checkpoint = train(
            recipe,
            data,
            run_folder(options.output, name),
            stem=options.stem,
            workers=options.workers,
        )
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = load_network(checkpoint).to(device)
        held_out = open_validation(recipe, data, HELD_OUT_SAMPLES)
        measured = validate_all(network, held_out, device)
        figures = ("iou_synthetic", "iou_tracks", "score_auc_tracks")
        table.add_row(
            name,
            f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} M",
            *(f"{measured[VALIDATION_PREFIX + figure]:.3f}" for figure in figures),
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(exit_status(main))
