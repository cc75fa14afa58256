"""The networks that a recipe needs, built from checkpoints that are checked against it first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from distillation.networks.mixvit_teacher import CORNER_HEAD_PREFIX, MixViT, build_mixvit
from distillation.networks.surgery import fit_spec, randomise_prediction_tokens, start_from
from distillation.recipes.recipe import Recipe, RecipeError
from mixformerv2.checkpoint import infer_spec, read_checkpoint
from mixformerv2.model import MixFormerV2
from mixformerv2.stem import StemEmbed

#: A teacher sees the student's images, whatever it was trained on: its positions are fixed tables.
STEM_NAMES = {
    "backbone.patch_embed.": "",
    "_conv_stem.": "stem.",
    "_bn0.": "bn0.",
    "_blocks.": "blocks.",
}
IMAGE_SIZES = ("search_size_px", "template_size_px")


def build_trained(
    recipe: Recipe, initial: Path | None, stem: Path | None = None
) -> MixFormerV2 | MixViT:
    """The network to train: random, or started from a checkpoint of the official layout or a
    MixViT. stem: a file to take a convolutional stem's weights from, in place of `initial`.

    Blocks that fade out are still in it. Raises RecipeError if checkpoint and recipe do not fit,
    and CheckpointError if the file is no checkpoint.
    """
    torch.manual_seed(recipe.seed)
    spec = replace(recipe.student, depth=recipe.training_depth)
    network: MixFormerV2 | MixViT
    if recipe.trained == "corner_teacher":
        network = MixViT(spec)
    else:
        network = MixFormerV2(spec)
        randomise_prediction_tokens(network, recipe.prediction_token_std)
    if stem is not None:
        if initial is not None:
            raise RecipeError(f"{initial} has a stem of its own: leave {stem} out")
        load_stem(network, stem)
    if initial is None:
        if recipe.removed_blocks or recipe.trained == "score_head":
            raise RecipeError(
                f"recipe {recipe.name} goes on from trained weights: give a checkpoint"
            )
        return network
    checkpoint = read_checkpoint(initial)
    state = checkpoint.state
    if any(name.startswith(CORNER_HEAD_PREFIX) for name in state):
        state = dict(build_mixvit(state, spec).state_dict())
        found = replace(spec, depth=_depth(state), mlp_hidden=_mlp_hidden(state))
    else:
        found = infer_spec(state, num_heads=checkpoint.num_heads)
    if problems := fit_spec(found, spec):
        raise RecipeError(f"recipe {recipe.name} does not fit {initial}: {'; '.join(problems)}")
    start_from(network, state, learned_positions=recipe.learned_positions)
    return network


def load_stem(network: MixFormerV2 | MixViT, path: Path) -> None:
    """Take a stem's weights from a checkpoint with one, or from a file of EfficientNet-lite as
    the package `efficientnet-lite-pytorch` names them.

    Raises RecipeError where the network has no stem or the file not all of it, CheckpointError.
    """
    embedding = network.backbone.patch_embed
    if not isinstance(embedding, StemEmbed):
        raise RecipeError(f"the recipe's network has a patch embedding: it takes no stem ({path})")
    found = {_name_in_stem(name): t for name, t in read_checkpoint(path).state.items()}
    wanted = embedding.pretrained_state()
    for name, tensor in wanted.items():
        if name not in found or found[name].shape != tensor.shape:
            has = tuple(found[name].shape) if name in found else "missing"
            raise RecipeError(
                f"{path} does not have the recipe's stem: {name} is {has}, expected "
                f"{tuple(tensor.shape)}"
            )
    embedding.load_state_dict({name: found[name] for name in wanted}, strict=False)


def _name_in_stem(name: str) -> str:
    for prefix, ours in STEM_NAMES.items():
        if name.startswith(prefix):
            return ours + name.removeprefix(prefix)
    return name


def build_teacher(recipe: Recipe, path: Path | None) -> MixFormerV2 | MixViT | None:
    """The frozen teacher, run at the student's image sizes. Raises RecipeError, CheckpointError."""
    wanted = bool(recipe.loss.teacher or recipe.loss.features)
    if wanted != (path is not None):
        need = "needs a teacher's checkpoint" if wanted else "has no use for a teacher"
        raise RecipeError(f"recipe {recipe.name} {need}")
    if path is None:
        return None
    checkpoint = read_checkpoint(path)
    state = checkpoint.state
    teacher: MixFormerV2 | MixViT
    if any(name.startswith(CORNER_HEAD_PREFIX) for name in state):
        teacher = build_mixvit(state, recipe.student)
    else:
        found = infer_spec(state, num_heads=checkpoint.num_heads)
        if found.bins != recipe.student.bins or found.width != recipe.student.width:
            raise RecipeError(
                f"recipe {recipe.name} does not fit its teacher {path}: it has {found.bins} bins "
                f"and width {found.width}, the student {recipe.student.bins} and "
                f"{recipe.student.width}"
            )
        sizes = {name: getattr(recipe.student, name) for name in IMAGE_SIZES}
        teacher = MixFormerV2(replace(found, **sizes))
        start_from(teacher, state, learned_positions=recipe.learned_positions)
    for student_block, teacher_block in recipe.feature_pairs:
        if student_block >= recipe.training_depth or teacher_block >= teacher.spec.depth:
            raise RecipeError(
                f"recipe {recipe.name} pairs block {student_block} of {recipe.training_depth} with "
                f"the teacher's block {teacher_block} of {teacher.spec.depth}"
            )
    return teacher.eval()


def _depth(state: dict[str, torch.Tensor]) -> int:
    return len({name.split(".")[2] for name in state if name.startswith("backbone.blocks.")})


def _mlp_hidden(state: dict[str, torch.Tensor]) -> int:
    return state["backbone.blocks.0.mlp.fc1.weight"].shape[0]
