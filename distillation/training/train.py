"""One stage of the training: the loop, read from top to bottom.

Runs on the CPU, on one GPU, and on several through `torchrun`. What step s does depends on the
recipe and s alone, so a run that was interrupted and resumed ends with the same weights as one that
was not.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from distillation.data.batches import Batch, Batches, batch_loader
from distillation.data.opening import open_source
from distillation.networks.building import build_teacher, build_trained
from distillation.networks.convolutional_teacher import ConvolutionalTeacher
from distillation.networks.forward import BranchGains, draw_branch_gains
from distillation.networks.mixvit_teacher import MixViT
from distillation.networks.stem_features import StemFeatures
from distillation.recipes.recipe import Recipe, RecipeError, SourceKind
from distillation.training.curves import draw_curves
from distillation.training.objective import Objective, pretrained_stem
from distillation.training.optimizers import build_optimizers, scale_learning_rates
from distillation.training.run_folder import (
    CHECKPOINT,
    CURVES,
    LOG,
    load_run,
    save_run,
    truncate_log,
)
from distillation.training.schedule import branch_gain, learning_rate_factor
from distillation.training.validation import open_validation, validate_all
from edge_tracker.files.outputs import refuse_overlap
from mixformerv2.model import MixFormerV2
from mixformerv2.stem import StemEmbed

LOG_EVERY_STEPS = 20


def train(
    recipe: Recipe,
    data: Mapping[SourceKind, Path],
    output: Path,
    *,
    initial: Path | None = None,
    stem: Path | None = None,
    teacher: Path | None = None,
    convolutional_teacher: Path | None = None,
    workers: int = 1,
    save_every_steps: int = 500,
    validate_every_steps: int = 0,
    stop_at_step: int | None = None,
    compiled: bool = False,
) -> Path:
    """Train as the recipe says, or go on with the run in `output`; -> the checkpoint.

    data: a folder for each kind that the recipe names. initial: weights to start from. stem: only a
    convolutional stem's. teacher: a MixViT or MixFormerV2. convolutional_teacher: an ONNX backbone.
    stop_at_step leaves a run that the same call resumes; so do SIGTERM and SIGINT, which end in a
    KeyboardInterrupt. compiled: through torch.compile, which takes minutes at the start and a C++
    compiler. Written to `output`: the checkpoint in the official layout, the state to resume from,
    a log of JSON lines, and a picture of the curves.

    Raises RecipeError, DatasetError or CheckpointError, or ValueError where `output` is, contains
    or lies inside what is read, or where validation does not fall on a line of the log, before
    anything is trained or written.

    So many parameters because each is an option of `python -m distillation`. Long because the loop
    reads from top to bottom as it runs.
    """
    if validate_every_steps % LOG_EVERY_STEPS:
        raise ValueError(
            f"validate_every_steps is {validate_every_steps}: give a multiple of "
            f"{LOG_EVERY_STEPS}, as the log has a line for so many steps"
        )
    refuse_overlap(output, [*data.values(), initial, stem, teacher, convolutional_teacher])
    rank, world = join_processes()
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", rank % torch.cuda.device_count())
    network = build_trained(recipe, initial, stem)
    frozen = build_teacher(recipe, teacher)
    features = open_convolutional_teacher(recipe, convolutional_teacher)
    source = partial(open_source, recipe, data, "train")
    source()  # a data set that cannot be read must say so here, not in a worker process
    objective = Objective(recipe, network, frozen, features.channels if features else 0).to(device)
    optimizers = build_optimizers(recipe, objective)
    step = load_run(output, recipe, objective, optimizers)
    refuse_unequal_steps(output, step, device)
    output.mkdir(parents=True, exist_ok=True)
    if rank == 0:
        truncate_log(output / LOG, step)

    held_out = None
    if validate_every_steps and rank == 0:
        held_out = open_validation(recipe, data)
    wrapped: nn.Module = nn.parallel.DistributedDataParallel(objective) if world > 1 else objective
    if compiled:
        wrapped = torch.compile(wrapped)  # type: ignore[assignment]
    batches = Batches(
        source,
        recipe.batch_size,
        features,
        stem=open_stem(recipe, network, frozen, device),
        uses=recipe.sample_uses,
        rank=rank,
        world=world,
    )
    # Without instructions for it, a CPU computes in bfloat16 ten times slower than in float32.
    mixed_precision = recipe.bfloat16 and (
        device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    )
    last_step = recipe.steps if stop_at_step is None else min(recipe.steps, stop_at_step)
    sums: dict[str, Tensor] = {}
    summed = 0
    since = time.perf_counter()
    loader = batch_loader(batches, step, last_step, workers, pinned=device.type == "cuda")
    with until_signalled() as signalled:
        for batch in shown(loader, recipe, step, visible=rank == 0):
            factor = learning_rate_factor(step, recipe.steps, recipe.warmup_steps, recipe.decay)
            scale_learning_rates(optimizers, factor)
            # Of its own seed: whatever else draws numbers, step s drops the same paths.
            torch.manual_seed(recipe.seed + step * world + rank)
            gains = gains_at(recipe, step, len(batch.present), device)
            with torch.autocast(device.type, torch.bfloat16, enabled=mixed_precision):
                losses = wrapped(to_device(batch, device), gains)
            loss = torch.stack(list(losses.values())).sum()
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(objective.parameters(), recipe.gradient_clip)
            for optimizer in optimizers:
                optimizer.step()
            step += 1

            summed += 1  # fewer than a line's steps after a resumed one
            for name, value in {**losses, "loss": loss}.items():
                sums[name] = sums.get(name, 0.0) + value.detach()
            if rank == 0 and step % LOG_EVERY_STEPS == 0:
                seconds = time.perf_counter() - since
                line: dict[str, Any] = {name: total.item() / summed for name, total in sums.items()}
                line |= {"step": step, "learning_rate_factor": factor}
                line |= {"samples_per_s": summed * recipe.batch_size / seconds}
                if held_out is not None and step % validate_every_steps == 0:
                    line |= validate_all(objective.network, held_out, device, recipe.removed_blocks)
                with (output / LOG).open("a") as log:
                    log.write(json.dumps(line) + "\n")
                sums, summed, since = {}, 0, time.perf_counter()
            stop = step == last_step or any_process(signalled(), device)
            if rank == 0 and (stop or step % save_every_steps == 0):
                save_run(output, recipe, objective, optimizers, step)
                draw_curves(output / LOG, output / CURVES)
            if stop:
                break
    if step < last_step:
        raise KeyboardInterrupt(f"{output} was stopped after step {step} of {recipe.steps}")
    return output / CHECKPOINT


def join_processes() -> tuple[int, int]:
    """-> this process' rank, and how many there are: more than one under `torchrun`."""
    if "RANK" not in os.environ:
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return dist.get_rank(), dist.get_world_size()


def refuse_unequal_steps(output: Path, step: int, device: torch.device) -> None:
    """Raises RecipeError in all processes if some have not found the run that others go on with."""
    if not dist.is_initialized():
        return
    bounds = torch.tensor([step, -step], device=device)
    dist.all_reduce(bounds, dist.ReduceOp.MAX)
    last, first = bounds[0].item(), -bounds[1].item()
    if first != last:
        raise RecipeError(
            f"{output} holds a run of {last} steps on one machine and of {first} on another: give "
            "a folder on a disk that all machines share"
        )


def any_process(asked: bool, device: torch.device) -> bool:
    """Whether any of the processes was asked, so that all stop after the same step."""
    if not dist.is_initialized():
        return asked
    answer = torch.tensor(int(asked), device=device)
    dist.all_reduce(answer, dist.ReduceOp.MAX)
    return bool(answer)


def open_convolutional_teacher(recipe: Recipe, path: Path | None) -> ConvolutionalTeacher | None:
    if bool(recipe.loss.convolutional) != (path is not None):
        need = "needs the ONNX file of a" if recipe.loss.convolutional else "has no use for a"
        raise RecipeError(f"recipe {recipe.name} {need} convolutional teacher")
    if path is None:
        return None
    return ConvolutionalTeacher(path, math.isqrt(recipe.student.search_tokens))


def open_stem(
    recipe: Recipe,
    network: MixFormerV2 | MixViT,
    teacher: MixFormerV2 | MixViT | None,
    device: torch.device,
) -> StemFeatures | None:
    """Where a CPU trains over a frozen stem; a GPU takes less time for the stem than for a copy.

    A teacher needs the images, unless its stem is the same.
    """
    embedding = network.backbone.patch_embed
    if not isinstance(embedding, StemEmbed) or not recipe.frozen_stem or device.type != "cpu":
        return None
    stems = [pretrained_stem(net) for net in (network, teacher) if net is not None]
    first, *others = stems
    if any(
        other.keys() != first.keys() or any(not other[n].equal(first[n]) for n in first)
        for other in others
    ):
        return None
    spec = recipe.student
    return StemFeatures(embedding, {spec.template_size_px, spec.search_size_px})


def gains_at(recipe: Recipe, step: int, samples: int, device: torch.device) -> BranchGains | None:
    """DropPath and the fading of removed blocks; None where the recipe has neither."""
    if not recipe.drop_path and not recipe.removed_blocks:
        return None
    gamma = branch_gain(step, recipe.prune_steps)
    gains = draw_branch_gains(
        recipe.training_depth, samples, recipe.drop_path, recipe.removed_blocks, gamma
    )
    return [(attention.to(device), mlp.to(device)) for attention, mlp in gains]


def to_device(batch: Batch, device: torch.device) -> Batch:
    moved = (None if t is None else t.to(device, non_blocking=True) for t in batch)
    return Batch._make(moved)


@contextmanager
def until_signalled() -> Iterator[Callable[[], bool]]:
    """Gives a question: was this process asked to stop? A step is finished and saved first."""
    asked: list[int] = []
    # Only the main thread may say how signals are handled.
    in_main = threading.current_thread() is threading.main_thread()
    numbers = [signal.SIGTERM, signal.SIGINT] if in_main else []
    before = [signal.signal(n, lambda number, _: asked.append(number)) for n in numbers]
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def shown(
    loader: Iterable[Batch], recipe: Recipe, first_step: int, *, visible: bool
) -> Iterator[Batch]:
    """The loader's batches, and on a terminal a bar of all the recipe's steps."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), disable=not (visible and sys.stderr.isatty())
    ) as bar:
        task = bar.add_task(recipe.name, total=recipe.steps, completed=first_step)
        for batch in loader:
            yield batch
            bar.advance(task)
