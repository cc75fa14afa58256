"""A training run as numbers: everything that decides its weights, except where files lie."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from edge_tracker.bundle.spec import ModelSpec, spec_from_dict
from edge_tracker.options import TrackerOptions

Trained = Literal["corner_teacher", "student", "score_head"]
Optimizer = Literal["adamw", "muon"]
SourceKind = Literal["synthetic", "tracks", "got10k", "lasot", "trackingnet", "coco", "folder"]


#: Sources whose search crops are as the tracker's will be.
OWN_SOURCES: frozenset[SourceKind] = frozenset(("synthetic", "tracks"))


class RecipeError(ValueError):
    """A recipe contradicts itself, or does not fit the checkpoint or data it is used with."""


@dataclass(frozen=True)
class LossWeights:
    """What each loss counts; 0 leaves it out. Defaults are the paper's.

    teacher: KL to the teacher's edges, needs a teacher. features: error to its residual streams.
    gaussian: KL to a Gaussian around the true edge. inside: is this search token inside the target.
    convolutional: error to a convolutional tracker's features. score: cross-entropy of the score.
    """

    ciou: float = 2.0
    l1: float = 5.0
    teacher: float = 0.0
    features: float = 0.0
    gaussian: float = 0.0
    inside: float = 0.0
    convolutional: float = 0.0
    score: float = 0.0


@dataclass(frozen=True)
class Jitter:
    """How far search crops are from the target, as the paper draws them.

    Sizes change by exp(size_sigma * N(0, 1)) per axis, centres by up to half of `centre` times the
    root of the box's area. Search crops hold the box `search_factor` times.
    """

    search_factor: float = 5.0
    size_sigma: float = 0.5
    centre: float = 4.5


@dataclass(frozen=True)
class Recipe:
    """One stage of the training.

    student: geometry of the network that comes out. trained: what learns; the rest is frozen.
    removed_blocks: blocks of the deeper network at the start that fade out over `prune_steps` and
    are left out of what is saved. feature_pairs: (student's block, teacher's block) whose streams
    should agree, numbered as they are while training. batch_size is over all processes.
    learning_rate_muon is for the matrices in the blocks, if `optimizer` is "muon". data: kinds of
    data set, each found in the folder of that name; data_weights: how often each is drawn, all
    alike if empty. absent_fraction: share of samples whose search
    crop lacks the target. sample_uses: steps that see a sample, every second time mirrored.
    frozen_stem: a convolutional stem stays as it is; else it learns at learning_rate_stem.
    learned_positions: the tables of positions are trained too, and scaled from the checkpoint's.
    decay: "cosine" or "step:0.8". seed: of weights, data, DropPath.

    Raises RecipeError for numbers that make no sense together.
    """

    name: str
    student: ModelSpec
    trained: Trained
    loss: LossWeights
    data: tuple[SourceKind, ...]
    steps: int
    batch_size: int
    learning_rate_backbone: float
    learning_rate_head: float
    warmup_steps: int = 0
    decay: str = "step:0.8"
    optimizer: Optimizer = "adamw"
    learning_rate_muon: float = 0.0
    weight_decay: float = 1e-4
    gradient_clip: float = 0.1
    drop_path: float = 0.0
    removed_blocks: tuple[int, ...] = ()
    prune_steps: int = 0
    feature_pairs: tuple[tuple[int, int], ...] = ()
    absent_fraction: float = 0.0
    jitter: Jitter = Jitter()
    data_weights: tuple[float, ...] = ()
    sample_uses: int = 1
    frozen_stem: bool = True
    learning_rate_stem: float = 0.0
    learned_positions: bool = False
    prediction_token_std: float = 0.02
    bfloat16: bool = True
    seed: int = 1

    @property
    def training_depth(self) -> int:
        """Blocks while training, those that fade out included."""
        return self.student.depth + len(self.removed_blocks)

    @property
    def tracking_search_factor(self) -> float:
        """What the network is to be tracked with: the factor of its crops, if they are ours.

        The paper's are deliberately larger than those it tracks with.
        """
        if OWN_SOURCES.issuperset(self.data):
            return self.jitter.search_factor
        return TrackerOptions().search_factor

    def limited_to(self, kinds: Collection[str]) -> Recipe:
        """The same on those kinds of its data alone; on all of them where none is among `kinds`."""
        weights = self.data_weights or (1.0,) * len(self.data)
        kept = [pair for pair in zip(self.data, weights, strict=True) if pair[0] in kinds]
        if len(kept) in (0, len(self.data)):
            return self
        return replace(
            self,
            data=tuple(kind for kind, _ in kept),
            data_weights=tuple(weight for _, weight in kept) if self.data_weights else (),
        )

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "sample_uses"):
            if getattr(self, name) < 1:
                raise RecipeError(
                    f"recipe {self.name}: {name} is {getattr(self, name)}, at least 1"
                )
        for name, choices in (("trained", Trained), ("optimizer", Optimizer)):
            if getattr(self, name) not in get_args(choices):
                raise RecipeError(
                    f"recipe {self.name}: {name} is {getattr(self, name)!r}, expected one of "
                    f"{', '.join(get_args(choices))}"
                )
        if not self.data or any(kind not in get_args(SourceKind) for kind in self.data):
            raise RecipeError(
                f"recipe {self.name}: data is {self.data}, expected some of "
                f"{', '.join(get_args(SourceKind))}"
            )
        if self.data_weights and (
            len(self.data_weights) != len(self.data) or min(self.data_weights) <= 0
        ):
            raise RecipeError(
                f"recipe {self.name}: data_weights are {self.data_weights} for {self.data}: give a "
                "positive one for each, or none"
            )
        if self.decay != "cosine" and not _is_fraction(self.decay.removeprefix("step:")):
            raise RecipeError(
                f'recipe {self.name}: decay is {self.decay!r}, expected "cosine" or "step:0.8"'
            )
        if any(not 0 <= block < self.training_depth for block in self.removed_blocks):
            raise RecipeError(
                f"recipe {self.name}: removes blocks {self.removed_blocks} of {self.training_depth}"
            )
        if not 0 <= self.absent_fraction < 1:
            raise RecipeError(
                f"recipe {self.name}: absent_fraction is {self.absent_fraction}, expected 0 to "
                "below 1"
            )
        if not 1 <= self.jitter.search_factor <= 20:
            raise RecipeError(
                f"recipe {self.name}: jitter.search_factor is {self.jitter.search_factor}, "
                "expected 1 to 20"
            )
        if bool(self.loss.features) != bool(self.feature_pairs):
            raise RecipeError(
                f"recipe {self.name}: loss.features is {self.loss.features} with feature_pairs "
                f"{self.feature_pairs}: set both or neither"
            )


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """Plain values, for checkpoints and logs."""
    return asdict(recipe)


def recipe_from_dict(content: dict[str, Any]) -> Recipe:
    """The inverse of `recipe_to_dict`, also of what JSON made of it. Raises RecipeError."""
    known = {field.name for field in fields(Recipe)}
    if unknown := sorted(map(str, content.keys() - known)):
        raise RecipeError(
            f"a recipe has no {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )
    try:
        nested = {
            "student": spec_from_dict(content["student"]),
            "loss": LossWeights(**content["loss"]),
            "jitter": Jitter(**content.get("jitter", {})),
            "data": tuple(content["data"]),
            "data_weights": tuple(content.get("data_weights", ())),
            "removed_blocks": tuple(content.get("removed_blocks", ())),
            "feature_pairs": tuple((s, t) for s, t in content.get("feature_pairs", ())),
        }
        return Recipe(**{**content, **nested})
    except RecipeError:
        raise
    except Exception as error:  # what is in a wrong place may be of any type
        raise RecipeError(f"a recipe is incomplete or has an unknown number: {error}") from error


def _is_fraction(text: str) -> bool:
    try:
        return 0 < float(text) <= 1 and math.isfinite(float(text))
    except ValueError:
        return False
