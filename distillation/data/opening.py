"""Opening what a recipe trains on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from distillation.data.cutouts import read_cutouts
from distillation.data.images import image_paths, read_image
from distillation.data.mixed import MixedSource
from distillation.data.sample import SampleSource
from distillation.data.sequences import read_sequences
from distillation.data.synthetic import Material, Renderer
from distillation.data.track_samples import TrackSamples
from distillation.data.tracks import read_tracks
from distillation.data.triplets import Triplets
from distillation.recipes.recipe import OWN_SOURCES, Recipe, RecipeError, SourceKind

Split = Literal["train", "validation"]

#: Folders of cut-outs and of backgrounds, in the folder of images to render from.
SYNTHETIC_FOLDERS: dict[Split, tuple[tuple[str, ...], str]] = {
    "train": (("instances/train2017", "pedestrians"), "backgrounds_train"),
    "validation": (("instances/val2017",), "backgrounds_test"),
}
#: Keeps the validation samples apart from every training run's.
VALIDATION_SEED = 987_654_321


def open_source(recipe: Recipe, folders: Mapping[SourceKind, Path], split: Split) -> SampleSource:
    """The recipe's data, from a folder for each kind that it names; several kinds are mixed.

    Sequences of the toolkits' layouts have no validation split: `evaluate` on whole sequences is
    what measures them. Raises DatasetError for data that is missing or of the wrong layout,
    RecipeError for a kind without a folder.
    """
    if missing := [kind for kind in recipe.data if kind not in folders]:
        raise RecipeError(
            f"recipe {recipe.name} trains on {', '.join(recipe.data)}: give "
            f"--data {missing[0]}=FOLDER"
        )
    kinds = [kind for kind in recipe.data if kind in OWN_SOURCES]
    sources = [open_kind(recipe, kind, folders[kind], split) for kind in kinds]
    videos = [kind for kind in recipe.data if kind not in OWN_SOURCES]
    weights = dict(zip(recipe.data, recipe.data_weights or [1.0] * len(recipe.data), strict=True))
    shares = [weights[kind] for kind in kinds]
    seed = recipe.seed if split == "train" else VALIDATION_SEED
    if videos:
        # As the paper draws them: data sets equally often.
        sources.append(
            Triplets(
                [read_sequences(kind, folders[kind]) for kind in videos],
                template_size_px=recipe.student.template_size_px,
                search_size_px=recipe.student.search_size_px,
                jitter=recipe.jitter,
                absent_fraction=recipe.absent_fraction,
                seed=seed,
            )
        )
        shares.append(sum(weights[kind] for kind in videos))
    return sources[0] if len(sources) == 1 else MixedSource(sources, shares, seed=seed)


def open_kind(recipe: Recipe, kind: SourceKind, folder: Path, split: Split) -> SampleSource:
    """One of `OWN_SOURCES`. Raises DatasetError."""
    common = {
        "template_size_px": recipe.student.template_size_px,
        "search_size_px": recipe.student.search_size_px,
        "seed": recipe.seed if split == "train" else VALIDATION_SEED,
    }
    absent = recipe.absent_fraction
    if kind == "tracks":
        tracks = read_tracks(folder, split)
        return TrackSamples(tracks, jitter=recipe.jitter, absent_fraction=absent, **common)
    factor = recipe.jitter.search_factor
    material = read_material(folder, split)
    return Renderer(material, search_factor=factor, absent_fraction=absent, **common)


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
