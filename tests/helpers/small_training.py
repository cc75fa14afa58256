"""A recipe, a network and a data set so small that a training step takes milliseconds."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from distillation.data.batches import Batch, Batches
from distillation.data.opening import open_source
from distillation.data.sample import SampleSource
from distillation.recipes.recipe import LossWeights, Recipe
from edge_tracker.bundle.spec import ModelSpec

SPEC = ModelSpec(
    width=32,
    depth=2,
    num_heads=2,
    mlp_hidden=48,
    patch_size_px=16,
    search_size_px=64,
    template_size_px=32,
    bins=16,
    box_head_hidden=32,
    score_head_hidden=16,
)


RECIPE = Recipe(
    name="small",
    student=SPEC,
    trained="student",
    loss=LossWeights(gaussian=1.0, inside=1.0, score=1.0),
    data=("synthetic",),
    steps=6,
    batch_size=8,
    learning_rate_backbone=1e-3,
    learning_rate_head=1e-3,
    learning_rate_muon=1e-3,
    gradient_clip=1.0,
    absent_fraction=0.3,
    bfloat16=False,
    prediction_token_std=1.0,
)


DISTIL = replace(
    RECIPE,
    name="distil",
    loss=LossWeights(teacher=5.0, features=0.2),
    feature_pairs=((0, 1), (1, 3)),
)


def make_batch(recipe: Recipe, images: Path, samples: int = 8) -> Batch:
    def source() -> SampleSource:
        return open_source(recipe, {"synthetic": images}, "train")

    return Batches(source, samples, None)[0]


def texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def write_scenes(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.jpg"), texture(rng, 100, 140))
        lines = [
            "3 0.1 0.1 0.5 0.1 0.5 0.6 0.1 0.6",
            "3 0.6 0.3 0.9 0.4 0.8 0.8 0.6 0.7",
        ]
        (folder / f"{number}.txt").write_text("\n".join(lines) + "\n")


def write_masked(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "walkers.png"), texture(rng, 100, 140))
    mask = np.zeros((100, 140), np.uint8)
    mask[10:60, 20:50] = 1
    mask[30:90, 80:120] = 2
    cv2.imwrite(str(folder / "walkers_mask.png"), mask)


def write_sequence(folder: Path, boxes: list[str], images: Path | None = None) -> None:
    """A sequence whose frames are told apart by their grey level."""
    images = images or folder / "img"
    images.mkdir(parents=True)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(len(boxes)):
        frame = np.full((60, 80, 3), 40 + 10 * number, np.uint8)
        cv2.imwrite(str(images / f"{number + 1:08d}.png"), frame)
    (folder / "groundtruth.txt").write_text("\n".join(boxes) + "\n")


#: Height and width of the frames that `write_tracks` writes.
TRACK_SIZE = (60, 90)


def write_tracks(folder: Path, tracks: int) -> Path:
    """Tracks of four frames with a bright square; in the third it is absent. Two share a group."""
    rows = ["track,group,weight"]
    for number in range(tracks):
        rng = np.random.default_rng(number)
        rows.append(f"track{number},group{max(1, number)},{1.0 if number % 2 else 0.5}")
        with zipfile.ZipFile(folder / f"track{number}.zip", "w") as archive:
            table = ["file,frame_number,x,y,w,h,visible"]
            for frame in range(4):
                image = texture(rng, *TRACK_SIZE) // 2
                x, y = 20 + 4 * frame, 15 + 2 * frame
                visible = frame != 2
                if visible:
                    image[y : y + 16, x : x + 20] = 255
                box = f"{x},{y},20,16,1" if visible else "nan,nan,nan,nan,0"
                table.append(f"frames/{frame}.png,{frame},{box}")
                archive.writestr(f"frames/{frame}.png", cv2.imencode(".png", image)[1].tobytes())
            archive.writestr("boxes.csv", "\n".join(table) + "\n")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder
