"""Measuring a checkpoint through the tracker that users run, and the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from distillation.__main__ import main
from distillation.checkpoint_accuracy import (
    evaluate_checkpoint,
    overlap_with_truth,
    separate_scores,
    track_sequence,
)
from distillation.recipes.recipe import Jitter, Recipe, recipe_to_dict
from edge_tracker.measure.evaluation.ground_truth import AnnotatedSequence
from edge_tracker.tracker import EdgeTracker
from tests.helpers.lively_networks import lively_network
from tests.helpers.places import REPOSITORY, SHARED
from tests.helpers.small_training import RECIPE, SPEC, write_sequence


def test_scores_that_rank_found_frames_first_separate_perfectly() -> None:
    overlaps = np.array([0.9, 0.6, 0.3, 0.05, 0.0])
    separation = separate_scores(overlaps, np.array([0.9, 0.7, 0.99, 0.5, 0.1]))
    assert (separation.found_frames, separation.missed_frames) == (2, 2)
    assert separation.roc_auc == 1.0
    assert separation.mean_score_found == pytest.approx(0.8)
    assert separation.mean_score_missed == pytest.approx(0.3)


def test_scores_that_rank_them_last_do_not() -> None:
    separation = separate_scores(np.array([0.9, 0.0]), np.array([0.1, 0.9]))
    assert separation.roc_auc == 0.0


def test_one_kind_alone_has_no_separation() -> None:
    assert np.isnan(separate_scores(np.array([0.9]), np.array([1.0])).roc_auc)


def test_no_box_is_right_where_the_target_is_absent() -> None:
    boxes = np.array([[0.0, 0, 10, 10]] * 3)
    truth = np.array([[0.0, 0, 10, 10], [np.nan] * 4, [5, 0, 10, 10]])
    np.testing.assert_allclose(overlap_with_truth(boxes, truth), [1, 0, 1 / 3])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "lively.pth.tar"
    state = lively_network(SPEC).state_dict()
    torch.save({"net": state, "num_heads": SPEC.num_heads}, path)
    return path


@pytest.fixture
def sequences(tmp_path: Path) -> Path:
    write_sequence(tmp_path / "clips" / "cat", ["10,10,30,26", "12,10,30,26", "nan,nan,nan,nan"])
    return tmp_path / "clips"


def test_a_checkpoint_is_measured_through_the_tracker(checkpoint: Path, sequences: Path) -> None:
    figures = evaluate_checkpoint(checkpoint, sequences)
    (cat,) = figures.sequences
    assert (cat.name, cat.frames) == ("cat", 1)
    assert 0 <= cat.mean_iou <= 1
    assert figures.mean_iou == cat.mean_iou
    assert figures.separation.found_frames + figures.separation.missed_frames <= 2


@pytest.mark.parametrize(
    ("stated", "factor"),
    [
        ({}, 4.5),
        ({"search_factor": 4.0}, 4.0),
        ({"recipe": recipe_to_dict(replace(RECIPE, jitter=Jitter(search_factor=3.5)))}, 3.5),
    ],
    ids=["official", "stated", "recipe alone"],
)
def test_a_checkpoint_is_tracked_with_the_search_factor_it_was_trained_for(
    stated: dict[str, object],
    factor: float,
    sequences: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "c.pth.tar"
    state = lively_network(SPEC).state_dict()
    torch.save({"net": state, "num_heads": SPEC.num_heads, **stated}, path)
    tracked_with = []

    def track(tracker: EdgeTracker, sequence: AnnotatedSequence) -> object:
        tracked_with.append(tracker.options.search_factor)
        return track_sequence(tracker, sequence)

    monkeypatch.setattr("distillation.checkpoint_accuracy.track_sequence", track)
    evaluate_checkpoint(path, sequences)
    assert tracked_with == [factor]


def test_the_command_measures_and_trains(
    checkpoint: Path, sequences: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--initial", str(checkpoint), "--data", f"folder={sequences}"]
    assert main(["evaluate", *arguments]) == 0
    assert "cat" in capsys.readouterr().out
    assert main(["base_score", "--initial", str(checkpoint)]) == 1
    assert "width is 32, the recipe says 768" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("choices", "steps_and_seed"), [([], (3000, 1)), (["--steps", "7", "--seed", "0"], (7, 0))]
)
def test_steps_and_seed_of_the_recipe_can_be_chosen(
    choices: list[str], steps_and_seed: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def train(recipe: Recipe, *rest: object, **choices: object) -> Path:
        trained.append((recipe.steps, recipe.seed))
        return Path()

    monkeypatch.setattr("distillation.training.train.train", train)
    assert main(["nano", *choices]) == 0
    assert trained == [steps_and_seed]


def test_the_command_says_what_is_wrong_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: there is no recipe 'nonsense'; there are base_teacher")
    assert "Traceback" not in error
    with pytest.raises(SystemExit) as exit_:
        main(["nano", "--data", "images"])
    assert exit_.value.code == 2


SHIPPED = REPOSITORY / "edge_tracker" / "models"


@pytest.mark.skipif(
    not (SHARED / "data" / "sequences").is_dir(), reason="no ../shared/data/sequences here"
)
def test_the_shipped_model_tracks_a_real_sequence(tmp_path: Path) -> None:
    (checkpoint,) = [*SHIPPED.glob("*.safetensors"), *SHIPPED.glob("*.pth.tar")]
    (tmp_path / "clips").mkdir()
    bag = SHARED / "data" / "sequences" / "vot_bag"
    (tmp_path / "clips" / "vot_bag").symlink_to(bag)
    figures = evaluate_checkpoint(checkpoint, tmp_path / "clips", max_frames=40)
    assert figures.mean_iou > 0.4


@pytest.mark.parametrize(
    ("given", "data"),
    [
        (["synthetic"], ("synthetic",)),
        (["tracks", "synthetic"], ("synthetic", "tracks")),
        ([], ("synthetic", "tracks")),
        (["coco"], ("synthetic", "tracks")),
    ],
)
def test_kinds_of_data_that_are_not_given_are_trained_without_and_named(
    given: list[str],
    data: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained: list[Recipe] = []

    def train(recipe: Recipe, *rest: object, **choices: object) -> Path:
        trained.append(recipe)
        return Path()

    monkeypatch.setattr("distillation.training.train.train", train)
    assert main(["stem", *(f"--data={kind}=here" for kind in given)]) == 0
    assert [recipe.data for recipe in trained] == [data]
    assert len(trained[0].data_weights) == len(data)
    said = "without --data for tracks, it trains on synthetic alone"
    assert (said in " ".join(capsys.readouterr().err.split())) == (data == ("synthetic",))
