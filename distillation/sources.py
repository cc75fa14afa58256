"""Opening what a recipe trains on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from distillation.cutouts import read_cutouts
from distillation.images import image_paths, read_image
from distillation.recipe import Recipe, RecipeError, SourceKind
from distillation.sample import SampleSource
from distillation.sequences import read_sequences
from distillation.synthetic import Material, Renderer
from distillation.triplets import Triplets

Split = Literal["train", "validation"]

#: Folders of cut-outs and of backgrounds, in the folder of images to render from.
SYNTHETIC_FOLDERS: dict[Split, tuple[tuple[str, ...], str]] = {
    "train": (("instances/train2017", "pedestrians"), "backgrounds_train"),
    "validation": (("instances/val2017",), "backgrounds_test"),
}
#: Keeps the validation samples apart from every training run's.
VALIDATION_SEED = 987_654_321


def open_source(recipe: Recipe, folders: Mapping[SourceKind, Path], split: Split) -> SampleSource:
    """The recipe's data, from a folder for each kind that it names.

    Sequences have no validation split: `evaluate` on whole sequences is what measures them. Raises
    DatasetError for data that is missing or of the wrong layout, RecipeError for a kind without a
    folder or mixed with rendered data.
    """
    if missing := [kind for kind in recipe.data if kind not in folders]:
        raise RecipeError(
            f"recipe {recipe.name} trains on {', '.join(missing)}: give --data {missing[0]}=FOLDER"
        )
    seed = recipe.seed if split == "train" else VALIDATION_SEED
    sizes = {
        "template_size_px": recipe.student.template_size_px,
        "search_size_px": recipe.student.search_size_px,
    }
    if recipe.data == ("synthetic",):
        material = read_material(folders["synthetic"], split)
        return Renderer(
            material,
            seed=seed,
            absent_fraction=recipe.absent_fraction,
            search_factor=recipe.jitter.search_factor,
            **sizes,
        )
    if "synthetic" in recipe.data:
        raise RecipeError(
            f"recipe {recipe.name}: data {recipe.data} mixes rendered and real samples"
        )
    datasets = [read_sequences(kind, folders[kind]) for kind in recipe.data]
    return Triplets(
        datasets,
        jitter=recipe.jitter,
        absent_fraction=recipe.absent_fraction,
        seed=seed,
        **sizes,
    )


def read_material(root: Path, split: Split) -> Material:
    """Cut-outs, scenes and backgrounds of one split. Raises DatasetError."""
    cutout_folders, background_folder = SYNTHETIC_FOLDERS[split]
    cutouts, scenes = [], []
    for folder in cutout_folders:
        more_cutouts, more_scenes = read_cutouts(root / folder)
        cutouts += more_cutouts
        scenes += more_scenes
    backgrounds = [read_image(path) for path in image_paths(root / background_folder)]
    return Material(cutouts, scenes, backgrounds)
