"""The file that is handed out holds the network that was trained, and how to track with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from converters.convert import convert_checkpoint
from distillation.recipes.recipe import Jitter, recipe_to_dict
from distillation.ship import ship
from distillation.training.run_folder import tracking_search_factor
from distillation.training.train import train
from edge_tracker.errors import CheckpointError
from mixformerv2.checkpoint import load_network, read_checkpoint
from tests.helpers.lively_networks import lively_network
from tests.helpers.small_training import RECIPE, SPEC

CLOSE = replace(RECIPE, jitter=Jitter(search_factor=3.5))
PAPERS = replace(RECIPE, data=("got10k", "lasot"))


def save(path: Path, **stated: object) -> Path:
    state = lively_network(SPEC).state_dict()
    torch.save({"net": state, "num_heads": SPEC.num_heads, **stated}, path)
    return path


def test_half_precision_keeps_geometry_and_predictions(tmp_path: Path) -> None:
    network = lively_network(SPEC)
    save(tmp_path / "run.pth.tar")
    ship(tmp_path / "run.pth.tar", tmp_path / "small.safetensors")
    shipped = load_network(tmp_path / "small.safetensors")
    assert shipped.spec == SPEC
    assert (tmp_path / "small.safetensors").stat().st_size < 0.6 * (
        (tmp_path / "run.pth.tar").stat().st_size
    )
    random = torch.Generator().manual_seed(0)
    template = torch.randn((1, 3, 32, 32), generator=random)
    search = torch.randn((1, 3, 64, 64), generator=random)
    with torch.no_grad():
        before = network(template, template, search).edge_logits.softmax(-1)
        after = shipped(template, template, search).edge_logits.softmax(-1)
    torch.testing.assert_close(after, before, atol=5e-3, rtol=0)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, None),
        ({"search_factor": 4.0}, 4.0),
        ({"recipe": recipe_to_dict(CLOSE)}, 3.5),
        ({"recipe": recipe_to_dict(PAPERS)}, 4.5),
        ({"recipe": recipe_to_dict(CLOSE), "search_factor": 4.0}, 4.0),
        ({"recipe": {"reuse_samples": True, "jitter": {"search_factor": 5.0}}}, None),
        ({"recipe": "by heart"}, None),
    ],
    ids=[
        "an official file",
        "stated",
        "a recipe of rendered crops",
        "a recipe of the paper",
        "both",
        "an older recipe, which did not decide it",
        "no recipe",
    ],
)
def test_a_shipped_file_states_the_search_factor_of_its_checkpoint(
    stated: dict[str, object], expected: float | None, tmp_path: Path
) -> None:
    run = save(tmp_path / "run.pth.tar", **stated)
    assert tracking_search_factor(read_checkpoint(run)) == expected
    ship(run, tmp_path / "small.safetensors")
    assert read_checkpoint(tmp_path / "small.safetensors").search_factor == expected


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"jitter": {"search_factor": 0.2}}, r"jitter\.search_factor is 0\.2, expected 1 to 20"),
        ({"jitter": {"search_factor": "wide"}}, "a recipe is incomplete or has an unknown number"),
        ({"jitter": [3.5]}, "a recipe is incomplete"),
        ({"feature_pairs": [1, 2, 3]}, "a recipe is incomplete"),
        ({"feature_pairs": [(1, 2, 3)]}, "too many values"),
        ({"epochs": 3}, "a recipe has no epochs"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused_with_its_file(
    changes: dict[str, object], says: str, tmp_path: Path
) -> None:
    run = save(tmp_path / "run.pth.tar", recipe={**recipe_to_dict(RECIPE), **changes})
    with pytest.raises(CheckpointError, match=rf"checkpoint .*run\.pth\.tar: .*{says}"):
        ship(run, tmp_path / "small.safetensors")
    assert not (tmp_path / "small.safetensors").exists()


def test_a_run_is_converted_to_what_it_was_trained_for_shipped_or_not(
    images: Path, tmp_path: Path
) -> None:
    run = train(replace(CLOSE, steps=1), {"synthetic": images}, tmp_path / "run", workers=0)
    ship(run, tmp_path / "small.safetensors")
    for checkpoint in (run, tmp_path / "small.safetensors"):
        bundle = convert_checkpoint(
            checkpoint, tmp_path / "bundle", targets=["onnx"], precisions=["fp32"]
        )
        assert bundle.tracker_defaults.search_factor == 3.5
