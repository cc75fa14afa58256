"""Runs over a pre-trained stem: frozen with its features computed ahead, and then trained too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distillation.data.batches import Batches
from distillation.data.opening import open_source
from distillation.data.sample import SampleSource
from distillation.networks.building import build_teacher, build_trained
from distillation.networks.stem_features import StemFeatures
from distillation.recipes.recipe import (
    Recipe,
    RecipeError,
    SourceKind,
    recipe_from_dict,
    recipe_to_dict,
)
from distillation.training.objective import Objective, pretrained_stem
from distillation.training.train import train
from edge_tracker.bundle.spec import ConvStem, StemStage
from mixformerv2.checkpoint import load_network, read_checkpoint
from mixformerv2.stem import StemEmbed
from tests.helpers.lively_networks import lively_network
from tests.helpers.places import REPOSITORY
from tests.helpers.small_training import RECIPE, SPEC, write_tracks

STEM = ConvStem(
    channels=4,
    stages=(
        StemStage(1, 3, 1, 1, 3),
        StemStage(1, 3, 2, 2, 4),
        StemStage(1, 5, 2, 2, 5),
        StemStage(1, 3, 2, 2, 6),
        StemStage(1, 5, 1, 2, 7),
    ),
    fine=True,
)
FROZEN = replace(
    RECIPE,
    name="frozen stem",
    student=replace(SPEC, stem=STEM),
    data=("synthetic", "tracks"),
    optimizer="muon",
    drop_path=0.3,
    sample_uses=2,
    learned_positions=True,
    decay="cosine",
    steps=4,
)
TUNED = replace(FROZEN, name="tuned stem", frozen_stem=False, learning_rate_stem=1e-3)


@pytest.fixture(scope="module")
def data(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[SourceKind, Path]:
    tracks = write_tracks(tmp_path_factory.mktemp("tracks"), tracks=6)
    return {"synthetic": images, "tracks": tracks}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("start") / "start.pth.tar"
    network = lively_network(FROZEN.student)
    torch.save({"net": network.state_dict(), "num_heads": SPEC.num_heads}, path)
    return path


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(checkpoint).state


def differing(a: Path, b: Path) -> list[str]:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    return [name for name in first if not torch.equal(first[name], second[name])]


@pytest.mark.parametrize("recipe", [FROZEN, TUNED], ids=["frozen", "tuned"])
def test_an_interrupted_and_resumed_run_gives_the_same_weights_bit_for_bit(
    recipe: Recipe, data: dict[SourceKind, Path], start: Path, tmp_path: Path
) -> None:
    whole = train(recipe, data, tmp_path / "whole", initial=start, workers=0)
    train(recipe, data, tmp_path / "parts", initial=start, workers=0, stop_at_step=2)
    parts = train(recipe, data, tmp_path / "parts", initial=start, workers=0)
    assert differing(whole, parts) == []


def test_a_frozen_stem_stays_and_its_projection_learns(
    data: dict[SourceKind, Path], start: Path, tmp_path: Path
) -> None:
    trained = train(FROZEN, data, tmp_path / "run", initial=start, workers=0)
    stem = pretrained_stem(load_network(start))
    changed = differing(start, trained)
    assert not stem.keys() & set(changed)
    ours = {f"backbone.patch_embed.{name}" for name in ("proj.weight", "fine.weight", "norm.bias")}
    assert ours <= set(changed)


def test_an_unfrozen_stem_learns_and_its_statistics_stay(
    data: dict[SourceKind, Path], start: Path, tmp_path: Path
) -> None:
    trained = train(TUNED, data, tmp_path / "run", initial=start, workers=0)
    changed = set(differing(start, trained))
    assert {"backbone.patch_embed.stem.weight", "backbone.patch_embed.bn0.weight"} <= changed
    assert not [name for name in changed if "running" in name]


def test_losses_of_features_are_those_of_the_images(
    data: dict[SourceKind, Path], start: Path
) -> None:
    network = build_trained(FROZEN, start)
    embedding = network.backbone.patch_embed
    assert isinstance(embedding, StemEmbed)

    def source() -> SampleSource:
        return open_source(FROZEN, data, "train")

    features = StemFeatures(embedding, {SPEC.template_size_px, SPEC.search_size_px})
    images, ahead = (Batches(source, 8, None, stem=stem)[0] for stem in (None, features))
    assert ahead.search.dtype == torch.float16
    objective = Objective(FROZEN, network, None)
    with torch.no_grad():
        expected, found = objective(images), objective(ahead)
    for name, loss in expected.items():
        # Features are kept in half precision.
        assert found[name].item() == pytest.approx(loss.item(), rel=2e-2), name


@pytest.mark.parametrize("names", ["its own", "EfficientNet-lite's"])
def test_a_stem_alone_is_taken_from_a_file_under_either_name(
    names: str, start: Path, tmp_path: Path
) -> None:
    embedding = load_network(start).backbone.patch_embed
    assert isinstance(embedding, StemEmbed)
    expected = embedding.pretrained_state()
    path = start
    if names != "its own":
        foreign = {"stem.weight": "_conv_stem.weight"}
        renamed = {foreign.get(name, f"_{name}"): tensor for name, tensor in expected.items()}
        path = tmp_path / "lite.pth"
        torch.save({**renamed, "_fc.bias": torch.ones(7)}, path)
    network = build_trained(FROZEN, None, stem=path)
    found = network.backbone.patch_embed
    assert isinstance(found, StemEmbed)
    assert all(torch.equal(t, expected[name]) for name, t in found.pretrained_state().items())
    assert not torch.equal(found.proj.weight, embedding.proj.weight)


def test_a_file_without_the_recipes_stem_is_refused(tmp_path: Path, start: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"_conv_stem.weight": torch.ones(5, 3, 3, 3)}, path)
    with pytest.raises(RecipeError, match=r"stem.weight is \(5, 3, 3, 3\), expected \(4, "):
        build_trained(FROZEN, None, stem=path)
    with pytest.raises(RecipeError, match="has a patch embedding"):
        build_trained(RECIPE, None, stem=start)
    with pytest.raises(RecipeError, match="has a stem of its own"):
        build_trained(FROZEN, start, stem=start)


def test_a_stem_survives_the_recipe_in_a_checkpoint() -> None:
    assert recipe_from_dict(recipe_to_dict(TUNED)) == TUNED


def test_a_patch_embedding_cannot_start_a_stem(tmp_path: Path) -> None:
    path = tmp_path / "patches.pth.tar"
    network = lively_network(SPEC)
    torch.save({"net": network.state_dict(), "num_heads": SPEC.num_heads}, path)
    with pytest.raises(RecipeError, match="a patch embedding, the recipe says a convolutional"):
        build_trained(FROZEN, path)


def test_sigterm_to_the_whole_group_saves_as_ctrl_c_does(
    data: dict[SourceKind, Path], start: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    call = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from tests.distillation.training.test_train_stem import FROZEN\n"
        "from distillation.training.train import train\n"
        "images, tracks, start, run = map(Path, sys.argv[1:])\n"
        "train(replace(FROZEN, steps=100_000), {'synthetic': images, 'tracks': tracks}, run,\n"
        "      initial=start, workers=1, save_every_steps=1)\n"
    )
    paths = [str(p) for p in (data["synthetic"], data["tracks"], start, run)]
    process = subprocess.Popen(
        [sys.executable, "-c", call, *paths],
        cwd=REPOSITORY,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (run / "resume.pt").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert "was stopped after step" in errors
    assert "DataLoader worker" not in errors
    assert load_network(run / "checkpoint.pth.tar").spec == FROZEN.student


def test_a_teacher_keeps_the_positions_that_it_learnt(start: Path, tmp_path: Path) -> None:
    network = load_network(start)
    with torch.no_grad():
        network.backbone.pos_embed_s.add_(1.0)
    path = tmp_path / "teacher.pth.tar"
    torch.save({"net": network.state_dict(), "num_heads": SPEC.num_heads}, path)
    distil = replace(FROZEN, loss=replace(FROZEN.loss, teacher=1.0))
    teacher = build_teacher(distil, path)
    assert teacher is not None
    torch.testing.assert_close(teacher.backbone.pos_embed_s, network.backbone.pos_embed_s)
    fixed = build_teacher(replace(distil, learned_positions=False), path)
    assert fixed is not None
    assert not torch.allclose(fixed.backbone.pos_embed_s, network.backbone.pos_embed_s)
