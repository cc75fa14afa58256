"""The convolutional stem: equal to a literal statement of it, also when folded or cut in two."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edge_tracker.bundle.spec import ConvStem, StemStage, spec_from_dict, spec_to_dict
from edge_tracker.errors import CheckpointError
from edge_tracker.rules.normalise import normalise
from mixformerv2.checkpoint import infer_spec
from mixformerv2.geometries import NANO, STEM_NANO
from mixformerv2.model import MixFormerV2
from mixformerv2.stem import StemEmbed
from tests.helpers.lively_networks import lively_network

#: The stages of an EfficientNet, a block or two each, few channels.
SMALL_STEM = ConvStem(
    channels=4,
    stages=(
        StemStage(blocks=1, kernel_px=3, stride=1, expansion=1, channels=3),
        StemStage(blocks=2, kernel_px=3, stride=2, expansion=2, channels=4),
        StemStage(blocks=1, kernel_px=5, stride=2, expansion=3, channels=5),
        StemStage(blocks=2, kernel_px=3, stride=2, expansion=2, channels=6),
        StemStage(blocks=1, kernel_px=5, stride=1, expansion=2, channels=7),
    ),
    fine=True,
)
SPEC = replace(
    NANO, width=64, depth=2, num_heads=1, search_size_px=64, template_size_px=32, stem=SMALL_STEM
)


@pytest.fixture(scope="module", params=[True, False], ids=["with stride 8", "stride 16 alone"])
def stem(request: pytest.FixtureRequest) -> StemEmbed:
    network = lively_network(replace(SPEC, stem=replace(SMALL_STEM, fine=request.param)))
    embedding = network.backbone.patch_embed
    assert isinstance(embedding, StemEmbed)
    return embedding


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (2, 64, 64, 3), np.uint8)


@torch.no_grad()
def test_the_stem_is_the_one_stated_literally(stem: StemEmbed, pixels: np.ndarray) -> None:
    tokens = stem(torch.from_numpy(normalise(pixels)))
    for image, found in zip(pixels, tokens, strict=True):
        torch.testing.assert_close(found.double(), literal_stem(stem, image), rtol=0, atol=1e-4)


@torch.no_grad()
def test_folded_it_takes_raw_pixels_and_gives_the_same(stem: StemEmbed, pixels: np.ndarray) -> None:
    folded = copy.deepcopy(stem)
    folded.fold()
    raw = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    expected = stem(torch.from_numpy(normalise(pixels)))
    torch.testing.assert_close(folded(raw), expected, rtol=0, atol=2e-5)
    assert not any(name.endswith("running_var") for name in folded.state_dict())


@torch.no_grad()
def test_tokens_from_features_are_those_of_the_image(stem: StemEmbed, pixels: np.ndarray) -> None:
    image = torch.from_numpy(normalise(pixels))
    features = stem.features(image)
    assert features.shape == (2, 16, 7 + (4 * 5 if stem.fine is not None else 0))
    torch.testing.assert_close(stem.from_features(features), stem(image), rtol=0, atol=1e-5)


def test_statistics_of_the_batch_change_nothing(stem: StemEmbed, pixels: np.ndarray) -> None:
    trained = copy.deepcopy(stem).train()
    image = torch.from_numpy(normalise(pixels))
    torch.testing.assert_close(trained(image)[:1], trained(image[:1]), rtol=0, atol=1e-5)
    assert torch.equal(trained.bn0.running_mean, stem.bn0.running_mean)


def test_features_at_stride_8_start_without_effect() -> None:
    torch.manual_seed(0)
    fresh = MixFormerV2(SPEC).backbone.patch_embed
    assert isinstance(fresh, StemEmbed)
    assert fresh.fine is not None
    assert not fresh.fine.weight.any()


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, stem=replace(SMALL_STEM, fine=False))])
def test_geometry_is_read_from_shapes(spec: object) -> None:
    assert infer_spec(MixFormerV2(spec).state_dict(), num_heads=1) == spec  # type: ignore[arg-type]


def test_the_shipped_geometry_is_read_from_shapes() -> None:
    assert infer_spec(MixFormerV2(STEM_NANO).state_dict()) == STEM_NANO


@pytest.mark.parametrize("spec", [SPEC, NANO], ids=["stem", "patch embedding"])
def test_geometry_survives_a_manifest(spec: object) -> None:
    content = spec_to_dict(spec)  # type: ignore[arg-type]
    assert ("stem" in content) == (spec is SPEC)
    assert spec_from_dict(content) == spec


WRONG_STEMS = {
    "a stage too few": (lambda s: _without_blocks(s, 6), "a stem of 4 stages, expected the 5"),
    "channels that do not divide": (
        lambda s: s.update(_resized(s, "blocks.1._depthwise_conv", (7, 1, 3, 3))),
        "7 channels in block 1 of its stem, not a multiple of the 3",
    ),
    "grey pictures": (lambda s: s.update(_resized(s, "stem", (4, 1, 3, 3))), "1 input channels"),
}


@pytest.mark.parametrize(("edit", "says"), WRONG_STEMS.values(), ids=WRONG_STEMS)
def test_a_stem_that_makes_no_sense_is_refused(edit: object, says: str) -> None:
    state = dict(MixFormerV2(SPEC).state_dict())
    edit(state)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=says):
        infer_spec(state, num_heads=1)


def _without_blocks(state: dict[str, Tensor], first: int) -> None:
    for name in list(state):
        parts = name.split(".")
        if parts[1:3] == ["patch_embed", "blocks"] and int(parts[3]) >= first:
            del state[name]


def _resized(state: dict[str, Tensor], conv: str, shape: tuple[int, ...]) -> dict[str, Tensor]:
    name = f"backbone.patch_embed.{conv}.weight"
    assert name in state
    return {name: torch.zeros(shape)}


def literal_stem(stem: StemEmbed, image_bgr: np.ndarray) -> Tensor:
    """(height, width, 3) uint8 BGR -> (tokens, C), in float64, window by window."""
    weights = {name: tensor.double() for name, tensor in stem.state_dict().items()}
    x = (torch.from_numpy(image_bgr[..., ::-1].copy()).double().permute(2, 0, 1) - 127) / 128
    x = _relu6(_normalised(weights, "bn0", _convolve(x, weights["stem.weight"], 2)))
    eighth = None
    number = 0
    for stage in SMALL_STEM.stages:
        for block in range(stage.blocks):
            name, inputs = f"blocks.{number}.", x
            if stage.expansion > 1:
                expand = weights[name + "_expand_conv.weight"]
                x = _relu6(_normalised(weights, name + "_bn0", _convolve(x, expand, 1)))
            depthwise = weights[name + "_depthwise_conv.weight"]
            stride = stage.stride if block == 0 else 1
            x = torch.cat(
                [_convolve(x[c : c + 1], depthwise[c : c + 1], stride) for c in range(len(x))]
            )
            x = _relu6(_normalised(weights, name + "_bn1", x))
            x = _convolve(x, weights[name + "_project_conv.weight"], 1)
            x = _normalised(weights, name + "_bn2", x)
            if block > 0:
                x = x + inputs
            number += 1
        if stage.channels == 5:
            eighth = x
    tokens = (
        torch.einsum("oi,ihw->hwo", weights["proj.weight"][:, :, 0, 0], x) + weights["proj.bias"]
    )
    if stem.fine is not None:
        assert eighth is not None
        for i in range(tokens.shape[0]):
            for j in range(tokens.shape[1]):
                window = eighth[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                tokens[i, j] += (weights["fine.weight"] * window).sum(dim=(1, 2, 3))
    tokens = tokens.flatten(0, 1)
    centred = tokens - tokens.mean(dim=1, keepdim=True)
    scaled = centred / torch.sqrt((centred**2).mean(dim=1, keepdim=True) + 1e-6)
    return scaled * weights["norm.weight"] + weights["norm.bias"]


def _convolve(x: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """TensorFlow's "SAME": an output for each stride that begins in the input, odd pads last."""
    size, out = kernel.shape[-1], math.ceil(x.shape[1] / stride)
    pad = max((out - 1) * stride + size - x.shape[1], 0)
    padded = nn.functional.pad(x, (pad // 2, pad - pad // 2, pad // 2, pad - pad // 2))
    rows = []
    for i in range(out):
        row = [
            torch.einsum(
                "oikl,ikl->o",
                kernel,
                padded[:, stride * i : stride * i + size, stride * j : stride * j + size],
            )
            for j in range(out)
        ]
        rows.append(torch.stack(row, dim=1))
    return torch.stack(rows, dim=1)


def _normalised(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean, variance, weight, bias = (
        weights[f"{name}.{part}"][:, None, None]
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(variance + 1e-3) * weight + bias


def _relu6(x: Tensor) -> Tensor:
    return x.clamp(0, 6)
