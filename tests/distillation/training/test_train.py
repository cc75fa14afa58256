"""Whole runs: resumed, interrupted, refused; and what they leave on disk."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from distillation.networks.building import build_trained
from distillation.networks.mixvit_teacher import MixViT
from distillation.networks.surgery import without_blocks
from distillation.recipes.recipe import (
    LossWeights,
    Recipe,
    RecipeError,
    SourceKind,
    recipe_from_dict,
    recipe_to_dict,
)
from distillation.training.run_folder import load_run
from distillation.training.train import train, until_signalled
from distillation.training.validation import open_validation, validate_all
from edge_tracker.errors import CheckpointError, DatasetError
from mixformerv2.checkpoint import load_network, read_checkpoint
from tests.helpers.lively_networks import lively_network
from tests.helpers.places import REPOSITORY
from tests.helpers.small_training import DISTIL, RECIPE, SPEC

#: Everything that could make a resumed run differ: both optimizers, DropPath, samples that come
#: back, trained positions, the schedule.
RESUMABLE = replace(
    RECIPE,
    optimizer="muon",
    drop_path=0.3,
    sample_uses=4,
    learned_positions=True,
    warmup_steps=2,
    decay="cosine",
)


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(checkpoint).state


def save(network: torch.nn.Module, path: Path) -> Path:
    torch.save({"net": network.state_dict(), "num_heads": SPEC.num_heads}, path)
    return path


def test_an_interrupted_and_resumed_run_gives_the_same_weights_bit_for_bit(
    images: Path, tmp_path: Path
) -> None:
    data: dict[SourceKind, Path] = {"synthetic": images}
    whole = train(RESUMABLE, data, tmp_path / "whole", workers=0)
    half = train(RESUMABLE, data, tmp_path / "parts", workers=0, stop_at_step=3)
    assert torch.load(half, weights_only=True)["step"] == 3
    middle = weights(half)
    torch.rand(7)  # whatever happened in between
    parts = train(RESUMABLE, data, tmp_path / "parts", workers=0)
    expected, found = weights(whole), weights(parts)
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert not torch.equal(middle["backbone.reg_tokens"], found["backbone.reg_tokens"])


def test_a_worker_process_does_not_change_what_is_learnt(images: Path, tmp_path: Path) -> None:
    recipe = replace(RESUMABLE, steps=3)
    alone = train(recipe, {"synthetic": images}, tmp_path / "alone", workers=0)
    helped = train(recipe, {"synthetic": images}, tmp_path / "helped", workers=1)
    expected, found = weights(alone), weights(helped)
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


def test_another_seed_gives_other_weights(images: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=1)
    one = train(recipe, {"synthetic": images}, tmp_path / "one", workers=0)
    two = train(replace(recipe, seed=2), {"synthetic": images}, tmp_path / "two", workers=0)
    assert not torch.equal(weights(one)["backbone.reg_tokens"], weights(two)["backbone.reg_tokens"])


def test_a_run_leaves_an_official_checkpoint_a_log_and_a_picture(
    images: Path, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, steps=20)
    checkpoint = train(recipe, {"synthetic": images}, tmp_path, workers=0, validate_every_steps=20)
    assert load_network(checkpoint).spec == SPEC
    stored = torch.load(checkpoint, weights_only=True)
    assert recipe_from_dict(stored["recipe"]) == recipe
    assert read_checkpoint(checkpoint).search_factor == recipe.jitter.search_factor == 5.0
    (line,) = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert line["step"] == 20
    assert line["loss"] == pytest.approx(
        sum(line[name] for name in ("ciou", "l1", "gaussian", "inside", "score"))
    )
    assert 0 <= line["validation_iou"] <= 1
    assert 0 <= line["validation_score_auc"] <= 1
    picture = cv2.imread(str(tmp_path / "curves.png"))
    assert picture is not None
    assert picture.std() > 10


def test_a_resumed_runs_first_line_is_the_mean_of_the_steps_since(
    images: Path, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, steps=20)

    def loss_logged(folder: str, *stops: int) -> float:
        for stop in stops:
            train(recipe, {"synthetic": images}, tmp_path / folder, workers=0, stop_at_step=stop)
        return float(json.loads((tmp_path / folder / "log.jsonl").read_text())["loss"])

    assert loss_logged("resumed", 10, 20) == pytest.approx(loss_logged("whole", 20), rel=0.2)


def test_blocks_that_faded_out_are_not_in_the_checkpoint(images: Path, tmp_path: Path) -> None:
    deep = replace(SPEC, depth=4)
    teacher = save(lively_network(deep), tmp_path / "deep.pth.tar")
    recipe = replace(
        DISTIL, removed_blocks=(0, 2), prune_steps=2, feature_pairs=((1, 1), (3, 3)), steps=3
    )
    data: dict[SourceKind, Path] = {"synthetic": images}
    checkpoint = train(recipe, data, tmp_path / "run", initial=teacher, teacher=teacher, workers=0)
    assert load_network(checkpoint).spec == SPEC
    start, end = weights(teacher), weights(checkpoint)
    name = "attn.qkv.weight"
    near = (end[f"backbone.blocks.0.{name}"] - start[f"backbone.blocks.1.{name}"]).abs().max()
    far = (end[f"backbone.blocks.0.{name}"] - start[f"backbone.blocks.0.{name}"]).abs().max()
    assert 0 < near < 0.01 < far


def test_blocks_that_fade_out_do_not_count_where_the_network_is_measured(
    images: Path, tmp_path: Path
) -> None:
    deep = lively_network(replace(SPEC, depth=4))
    held_out = open_validation(RECIPE, {"synthetic": images}, 8)
    cpu = torch.device("cpu")
    left = validate_all(without_blocks(deep, (0, 2)), held_out, cpu)
    assert validate_all(deep, held_out, cpu, (0, 2)) == pytest.approx(left, abs=1e-5)
    assert validate_all(deep, held_out, cpu) != pytest.approx(left, abs=1e-3)


def test_the_chain_from_a_corner_teacher_to_a_score_head(images: Path, tmp_path: Path) -> None:
    data: dict[SourceKind, Path] = {"synthetic": images}
    deep = replace(SPEC, depth=4)
    boxes = LossWeights()
    teacher = train(
        replace(RECIPE, student=deep, trained="corner_teacher", loss=boxes, steps=2),
        data,
        tmp_path / "teacher",
        workers=0,
    )
    sparse = train(
        replace(RECIPE, student=deep, loss=LossWeights(teacher=5.0), steps=2),
        data,
        tmp_path / "sparse",
        initial=teacher,
        teacher=teacher,
        workers=0,
    )
    shallow = train(
        replace(
            DISTIL, removed_blocks=(0, 2), prune_steps=1, feature_pairs=((1, 1), (3, 3)), steps=2
        ),
        data,
        tmp_path / "shallow",
        initial=sparse,
        teacher=sparse,
        workers=0,
    )
    narrow_spec = replace(SPEC, mlp_hidden=32)
    narrow = train(
        replace(DISTIL, student=narrow_spec, steps=2),
        data,
        tmp_path / "narrow",
        initial=shallow,
        teacher=sparse,
        workers=0,
    )
    scored = train(
        replace(
            RECIPE,
            student=narrow_spec,
            trained="score_head",
            loss=LossWeights(ciou=0, l1=0, score=1),
            steps=2,
        ),
        data,
        tmp_path / "scored",
        initial=narrow,
        workers=0,
    )
    assert load_network(scored).spec == narrow_spec
    assert torch.equal(
        weights(scored)["box_head.layers.0.0.weight"],
        weights(narrow)["box_head.layers.0.0.weight"],
    )


def test_a_signal_stops_after_a_saved_step() -> None:
    with until_signalled() as signalled:
        assert not signalled()
        os.kill(os.getpid(), signal.SIGTERM)
        assert signalled()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_stopped_run_saves_its_step_and_says_so(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def at_once() -> Iterator[Callable[[], bool]]:
        yield lambda: True

    monkeypatch.setattr("distillation.training.train.until_signalled", at_once)
    with pytest.raises(KeyboardInterrupt, match="stopped after step 1 of 6"):
        train(RESUMABLE, {"synthetic": images}, tmp_path, workers=0)
    assert torch.load(tmp_path / "resume.pt", weights_only=True)["step"] == 1


def test_a_longer_run_goes_on_and_another_recipe_is_refused(images: Path, tmp_path: Path) -> None:
    data: dict[SourceKind, Path] = {"synthetic": images}
    recipe = replace(RECIPE, steps=1)
    train(recipe, data, tmp_path, workers=0)
    longer = train(replace(recipe, steps=2), data, tmp_path, workers=0)
    assert torch.load(longer, weights_only=True)["step"] == 2
    with pytest.raises(RecipeError, match=r"another recipe \(small\), which differs in batch_size"):
        train(replace(recipe, batch_size=4), data, tmp_path, workers=0)


def test_a_resumed_log_has_each_step_once(tmp_path: Path) -> None:
    from distillation.training.run_folder import truncate_log

    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps({"step": step}) + "\n" for step in (20, 40, 60)))
    truncate_log(log, 40)
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [20, 40]


REFUSED = {
    "no folder given": (RECIPE, {}, None, None, RecipeError, "--data synthetic=FOLDER"),
    "missing folder": (RECIPE, {"synthetic": "gone"}, None, None, DatasetError, "no such folder"),
    "a teacher is needed": (DISTIL, {}, None, None, RecipeError, "needs a teacher's checkpoint"),
    "no use for a teacher": (RECIPE, {}, None, SPEC, RecipeError, "has no use for a teacher"),
    "other width": (
        RECIPE, {}, replace(SPEC, width=64), None, RecipeError,
        "width is 64, the recipe says 32",
    ),
    "other bins": (
        RECIPE, {}, replace(SPEC, bins=12), None, RecipeError, "bins is 12, the recipe says 16",
    ),
    "teacher's bins": (
        DISTIL, {}, None, replace(SPEC, bins=12), RecipeError, "it has 12 bins and width 32",
    ),
    "teacher too shallow for the pairs": (
        DISTIL, {}, None, SPEC, RecipeError, "the teacher's block 3 of 2",
    ),
    "score head of nothing": (
        replace(RECIPE, trained="score_head"), {}, None, None, RecipeError, "give a checkpoint",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused_before_anything_is_written(
    case: tuple[Recipe, dict[SourceKind, str], Any, Any, type[Exception], str], tmp_path: Path
) -> None:
    recipe, folders, initial_spec, teacher_spec, error, message = case
    paths: dict[str, Any] = {
        name: None if spec is None else save(lively_network(spec), tmp_path / f"{name}.pth.tar")
        for name, spec in (("initial", initial_spec), ("teacher", teacher_spec))
    }
    data: dict[SourceKind, Path] = {kind: tmp_path / folder for kind, folder in folders.items()}
    with pytest.raises(error, match=message):
        train(recipe, data, tmp_path / "run", **paths, workers=0)
    assert not (tmp_path / "run").exists()


def test_validation_falls_on_lines_of_the_log(images: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="validate_every_steps is 30: give a multiple of 20"):
        train(RECIPE, {"synthetic": images}, tmp_path / "run", validate_every_steps=30)
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pth.tar"
    broken.write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match=r"broken\.pth\.tar"):
        build_trained(RECIPE, broken)


def test_a_corner_teacher_may_start_from_a_trackers_backbone(tmp_path: Path) -> None:
    tracker = lively_network(SPEC)
    recipe = replace(RECIPE, trained="corner_teacher")
    teacher = build_trained(recipe, save(tracker, tmp_path / "tracker.pth.tar"))
    assert isinstance(teacher, MixViT)
    qkv = "blocks.1.attn.qkv.weight"
    assert teacher.backbone.state_dict()[qkv].equal(tracker.backbone.state_dict()[qkv])


def test_loading_a_run_of_no_folder_starts_at_zero(tmp_path: Path) -> None:
    assert load_run(tmp_path / "nowhere", RECIPE, None, []) == 0  # type: ignore[arg-type]


needs_gloo = pytest.mark.skipif(
    not torch.distributed.is_gloo_available(), reason="PyTorch was built without gloo"
)
#: The beginning of a line of docs/distillation.md.
TORCHRUN = "torchrun --standalone --nproc-per-node=2 -m distillation"


@needs_gloo
def test_two_processes_learn_what_one_would(images: Path, tmp_path: Path) -> None:
    """As under torchrun, over gloo: each renders its own half of every batch."""
    run_together(2, [str(images), str(tmp_path / "run")], tmp_path / "one_of_two.py")
    first, second = (
        torch.load(tmp_path / "run" / f"rank{r}.pt", weights_only=True) for r in (0, 1)
    )
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    whole = train(TWO_STEPS, {"synthetic": images}, tmp_path / "whole", workers=0)
    start, alone = build_trained(TWO_STEPS, None).state_dict(), weights(whole)
    strayed = mean_difference(first, alone) / mean_difference(start, alone)
    assert strayed < 0.1
    for rank in (0, 1):
        refused = (tmp_path / "run" / f"refused{rank}").read_text()
        assert "holds a run of 2 steps on one machine and of 0 on another" in refused


@needs_gloo
def test_torchrun_goes_on_where_it_was_interrupted_with_the_same_weights_bit_for_bit(
    images: Path, tmp_path: Path
) -> None:
    """Two processes, of which both must stop after the same step."""
    assert f"    {TORCHRUN} " in (REPOSITORY / "docs" / "distillation.md").read_text()
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(recipe_to_dict(replace(RESUMABLE, steps=20))))

    def torchrun(output: str) -> subprocess.Popen[str]:
        # The module of which `torchrun` is the command, which need not be on the path.
        command = TORCHRUN.replace("torchrun", "torch.distributed.run", 1).split()
        command += [str(recipe), "--data", f"synthetic={images}", "--workers", "0"]
        return subprocess.Popen(
            [sys.executable, "-m", *command, "--save-every", "2", "-o", str(tmp_path / output)],
            cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )

    def steps_made(output: str) -> int:
        return int(torch.load(tmp_path / output / "resume.pt", weights_only=True)["step"])

    stopped = torchrun("parts")
    while not (tmp_path / "parts" / "resume.pt").exists():
        assert stopped.poll() is None
        time.sleep(0.01)
    stopped.terminate()
    _, errors = stopped.communicate(timeout=120)
    assert re.findall(r"stopped after step (\d+) of 20", " ".join(errors.split())) == (
        [str(steps_made("parts"))] * 2
    ), errors[-2000:]
    for output in ("parts", "whole"):
        finished = torchrun(output)
        _, errors = finished.communicate(timeout=120)
        assert finished.returncode == 0, errors[-2000:]
        assert steps_made(output) == 20
    expected, found = (weights(tmp_path / o / "checkpoint.pth.tar") for o in ("whole", "parts"))
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


#: Every sample has its target: means over half batches average to the mean over whole ones.
TWO_STEPS = replace(RECIPE, steps=2, absent_fraction=0.0)


def mean_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return torch.cat([(a[name] - b[name]).abs().flatten() for name in a]).mean().item()


def run_together(processes: int, arguments: list[str], script: Path) -> None:
    """Start the script in so many processes, with the environment that torchrun gives them."""
    script.write_text(ONE_OF_TWO)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    shared |= {"WORLD_SIZE": str(processes), "PYTHONPATH": str(REPOSITORY)}
    started = [
        subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    for process in started:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors[-2000:]


ONE_OF_TWO = """
import sys
from pathlib import Path

import torch
from torch import distributed

from distillation.recipes.recipe import RecipeError
from distillation.training import train as training
from tests.distillation.training.test_train import TWO_STEPS

torch.set_num_threads(1)
objectives = []
build = training.Objective
training.Objective = lambda *args: objectives.append(build(*args)) or objectives[0]
output = Path(sys.argv[2])
training.train(TWO_STEPS, {"synthetic": Path(sys.argv[1])}, output, workers=0)
distributed.barrier()
rank = distributed.get_rank()
torch.save(objectives[0].network.state_dict(), output / f"rank{rank}.pt")
own = output if rank == 0 else output / "not shared"
try:
    training.train(TWO_STEPS, {"synthetic": Path(sys.argv[1])}, own, workers=0)
except RecipeError as error:
    (output / f"refused{rank}").write_text(str(error))
distributed.destroy_process_group()
"""
