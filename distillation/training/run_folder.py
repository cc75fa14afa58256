"""What a run leaves on disk: a checkpoint to use, a state to resume it from, a log."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch.optim import Optimizer

from distillation.networks.surgery import drop_blocks
from distillation.recipes.recipe import Recipe, RecipeError, recipe_from_dict, recipe_to_dict
from distillation.training.objective import Objective
from edge_tracker.errors import CheckpointError
from edge_tracker.files.atomic_file import replacing
from edge_tracker.files.untrusted import reading
from mixformerv2.checkpoint import Checkpoint
from mixformerv2.stored_entries import SAVE_WEIGHTS

CHECKPOINT = "checkpoint.pth.tar"
RESUME = "resume.pt"
LOG = "log.jsonl"
CURVES = "curves.png"


def save_run(
    folder: Path, recipe: Recipe, objective: Objective, optimizers: list[Optimizer], step: int
) -> None:
    """Write the checkpoint in the official layout, and everything else that resuming needs.

    Each file is replaced in one go: a run that is killed leaves its last complete state.
    """
    network = objective.network
    state = network.state_dict()
    stated = {"recipe": recipe_to_dict(recipe), "step": step}
    with replacing(folder / RESUME) as temporary:
        torch.save(
            {
                **stated,
                "network": state,
                "probes": objective.probes.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            },
            temporary,
        )
    if recipe.removed_blocks:
        state = drop_blocks(state, recipe.removed_blocks)
    with replacing(folder / CHECKPOINT) as temporary:
        torch.save(
            {
                "net": state,
                "num_heads": network.spec.num_heads,
                "search_factor": recipe.tracking_search_factor,
                **stated,
            },
            temporary,
        )


def load_run(
    folder: Path, recipe: Recipe, objective: Objective, optimizers: list[Optimizer]
) -> int:
    """Restore a run in place; -> the steps it has made, 0 where there is none.

    Raises RecipeError if the folder holds a run of another recipe. Another number of steps is no
    other recipe: a run may be made longer or shorter.
    """
    path = folder / RESUME
    if not path.is_file():
        return 0
    remedy = "remove the folder, or choose another output folder"
    with reading(f"the state {path} of a run", remedy, RecipeError):
        # The run's own file, with optimizers in it, which only the same command reads again:
        # PyTorch's reader restores their tensors in place, and runs nothing from it.
        saved = torch.load(path, map_location="cpu", weights_only=True)
        before = recipe_to_dict(recipe_from_dict(saved["recipe"]))
        steps = int(saved["step"])
    now = recipe_to_dict(recipe)
    if changed := [key for key in now if key != "steps" and now[key] != before[key]]:
        raise RecipeError(
            f"{folder} holds a run of another recipe ({before['name']}), which differs in "
            f"{', '.join(changed)}: choose another output folder, or remove this one"
        )
    with reading(f"the state {path} of a run", remedy, RecipeError):
        objective.network.load_state_dict(saved["network"])
        objective.probes.load_state_dict(saved["probes"])
        for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
    return steps


def tracking_search_factor(checkpoint: Checkpoint) -> float | None:
    """What a checkpoint states, or what the recipe in it says; None where it has neither.

    Raises CheckpointError for a recipe that makes no sense.
    """
    stated, recipe = checkpoint.search_factor, checkpoint.recipe
    # Runs whose recipes lack this field rendered all crops with the official tracker's factor.
    if stated is not None or not isinstance(recipe, dict) or "sample_uses" not in recipe:
        return stated
    with reading(f"checkpoint {checkpoint.path}: its recipe", SAVE_WEIGHTS, CheckpointError):
        return recipe_from_dict(recipe).tracking_search_factor


def truncate_log(path: Path, step: int) -> None:
    """Drop the lines of steps that a resumed run will make again."""
    if not path.is_file():
        return
    with reading(f"the log {path} of a run", "remove it", RecipeError):
        lines = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= step]
    path.write_text("".join(line + "\n" for line in lines))
