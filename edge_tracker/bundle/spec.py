"""Facts of one network: what the shapes in its checkpoint say. Read from a bundle's manifest on the
device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: Side of the square of pixels that becomes one token under a convolutional stem.
STEM_STRIDE = 16


#: The largest numbers that a network may have; the largest that is released has width 768, 8 blocks
#: and 324 tokens.
MOST = {
    "width": 4096,
    "depth": 64,
    "num_heads": 256,
    "mlp_hidden": 32768,
    "patch_size_px": 64,
    "search_size_px": 4096,
    "template_size_px": 4096,
    "bins": 4096,
    "box_head_hidden": 8192,
    "score_head_hidden": 8192,
}
MOST_TOKENS = 4096
#: Of each stage of a convolutional stem; EfficientNet's largest has 10 blocks of 5 px and 2560
#: channels, which 6 times as many expand.
MOST_OF_STAGE = {"blocks": 32, "kernel_px": 15, "stride": 4, "expansion": 16, "channels": 4096}
MOST_STAGES = 8


@dataclass(frozen=True)
class StemStage:
    """Inverted residual blocks of one resolution; the first of them has the stride."""

    blocks: int
    kernel_px: int
    stride: int
    expansion: int
    channels: int


@dataclass(frozen=True)
class ConvStem:
    """A convolutional stem in place of the patch embedding.

    channels: of the first convolution, which has stride 2. fine: features at stride 8 are mixed in.
    """

    channels: int
    stages: tuple[StemStage, ...]
    fine: bool = False

    @property
    def fine_channels(self) -> int:
        """Of the last stage at stride 8."""
        stride, channels = 2, self.channels
        for stage in self.stages:
            stride *= stage.stride
            if stride <= STEM_STRIDE // 2:
                channels = stage.channels
        return channels


@dataclass(frozen=True)
class ModelSpec:
    """Geometry of a MixFormerV2 network.

    Sizes are of square images, in pixels; counts are of tokens, layers or units. patch_size_px:
    side of the square that becomes one token. stem: None where a patch embedding makes the tokens.
    """

    width: int
    depth: int
    num_heads: int
    mlp_hidden: int
    patch_size_px: int
    search_size_px: int
    template_size_px: int
    bins: int
    box_head_hidden: int
    score_head_hidden: int
    stem: ConvStem | None = None

    @property
    def head_dim(self) -> int:
        return self.width // self.num_heads

    @property
    def search_tokens(self) -> int:
        return (self.search_size_px // self.patch_size_px) ** 2

    @property
    def template_tokens(self) -> int:
        """Tokens of *one* template; the network always sees two."""
        return (self.template_size_px // self.patch_size_px) ** 2

    def template_kv_shape(self, targets: int = 1) -> tuple[int, int, int, int, int, int]:
        """(targets, layer, key or value, head, token of both templates, head_dim)."""
        return (targets, self.depth, 2, self.num_heads, 2 * self.template_tokens, self.head_dim)


def spec_to_dict(spec: ModelSpec) -> dict[str, Any]:
    """Plain values for JSON; a network with a patch embedding has no entry "stem"."""
    content = asdict(spec)
    if spec.stem is None:
        del content["stem"]
    return content


def spec_from_dict(content: Mapping[str, Any]) -> ModelSpec:
    """The inverse of `spec_to_dict`, also of what JSON made of it.

    Raises ValueError, TypeError or KeyError for content that is something else, or implies a
    network that nobody has.
    """
    numbers = dict(content)
    stem = numbers.pop("stem", None)
    _check_counts("", numbers)
    if stem is None:
        spec = ModelSpec(**numbers)
        check_bounds(spec)
        return spec
    for place, stage in enumerate(stem["stages"]):
        _check_counts(f"stem.stages[{place}].", stage)
    if not isinstance(stem["fine"], bool):
        raise ValueError(f"stem.fine is {stem['fine']!r}, expected true or false")
    _check_counts("stem.", {"channels": stem["channels"]})
    stages = tuple(StemStage(**stage) for stage in stem["stages"])
    spec = ModelSpec(**numbers, stem=ConvStem(**{**stem, "stages": stages}))
    check_bounds(spec)
    return spec


def _check_counts(prefix: str, numbers: Mapping[str, Any]) -> None:
    for name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(
                f"model.{prefix}{name} is {value!r:.40}, expected a positive whole number"
            )


def check_bounds(spec: ModelSpec) -> None:
    """Raise ValueError unless each number is whole and within MOST, those of a stem too."""
    for name, most in MOST.items():
        _check_bound(name, getattr(spec, name), most)
    if spec.stem is not None:
        _check_bound("stem.channels", spec.stem.channels, MOST_OF_STAGE["channels"])
        if len(spec.stem.stages) > MOST_STAGES:
            raise ValueError(
                f"stem has {len(spec.stem.stages)} stages, expected 1 to {MOST_STAGES}"
            )
        for place, stage in enumerate(spec.stem.stages):
            for name, most in MOST_OF_STAGE.items():
                _check_bound(f"stem.stages[{place}].{name}", getattr(stage, name), most)
    if max(spec.search_tokens, spec.template_tokens) > MOST_TOKENS:
        raise ValueError(
            f"images of {spec.search_size_px} and {spec.template_size_px} px are more than "
            f"{MOST_TOKENS} tokens of {spec.patch_size_px} px"
        )


def _check_bound(name: str, value: object, most: int) -> None:
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{name} is {value!r:.40}, expected a whole number from 1 to {most}")
