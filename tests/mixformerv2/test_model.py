"""The network: equal to a literal statement of it, and its two halves equal to the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_tracker.bundle.spec import ModelSpec
from edge_tracker.rules.normalise import normalise
from mixformerv2.geometries import BASE, GEOMETRIES, NANO, SMALL
from mixformerv2.model import MixFormerV2, Prediction, sincos_position_table
from tests.helpers.lively_networks import TINY, lively_network
from tests.helpers.random_images import random_images
from tests.helpers.reference_network import reference_forward

HALVES_TOLERANCE = 1e-5
HALVES_FLOAT64_TOLERANCE = 1e-11
REFERENCE_TOLERANCE = 1e-4


def tensors(images: dict[str, NDArray[np.uint8]]) -> tuple[Tensor, Tensor, Tensor]:
    templates, search = images["templates"], images["search"]
    parts = (templates[:, 0], templates[:, 1], search)
    template, online, region = (torch.from_numpy(normalise(part)) for part in parts)
    return template, online, region


def probabilities(prediction: Prediction) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    edge_probs, score = prediction.probabilities()
    return edge_probs.numpy(), score.numpy()


@pytest.fixture(scope="module", params=["tiny", "nano", "small"])
def network(request: pytest.FixtureRequest) -> MixFormerV2:
    return lively_network({"tiny": TINY, "nano": NANO, "small": SMALL}[request.param])


@torch.no_grad()
def test_forward_is_the_network_of_the_paper_stated_literally(network: MixFormerV2) -> None:
    images = random_images(network.spec, batch=2, seed=1)
    edge_probs, score = probabilities(network(*tensors(images)))
    for target in range(2):
        expected_probs, expected_score = reference_forward(
            network.state_dict(),
            network.spec.num_heads,
            images["templates"][target],
            images["search"][target],
        )
        np.testing.assert_allclose(edge_probs[target], expected_probs, atol=REFERENCE_TOLERANCE)
        assert score[target] == pytest.approx(expected_score, abs=REFERENCE_TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_two_halves_are_the_whole(geometry: str) -> None:
    spec = GEOMETRIES[geometry]
    network = lively_network(spec)
    template, online, search = tensors(random_images(spec, batch=1))
    template_kv = network.encode_templates(template, online)
    assert template_kv.shape == spec.template_kv_shape()
    whole = probabilities(network(template, online, search))
    halves = probabilities(network.search(search, template_kv))
    for expected, got in zip(whole, halves, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=HALVES_TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 3])
def test_two_halves_are_the_whole_exactly_and_not_about(batch: int) -> None:
    """Float64 leaves no room for an approximation to hide in rounding."""
    network = lively_network(NANO).double()
    template, online, search = (t.double() for t in tensors(random_images(NANO, batch)))
    whole = network(template, online, search)
    halves = network.search(search, network.encode_templates(template, online))
    for expected, got in zip(whole, halves, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=HALVES_FLOAT64_TOLERANCE)


@torch.no_grad()
def test_targets_of_a_batch_do_not_see_each_other() -> None:
    network = lively_network(NANO).double()
    parts = [t.double() for t in tensors(random_images(NANO, batch=3))]
    together = network(*parts)
    alone = network(*(part[1:2] for part in parts))
    torch.testing.assert_close(together.edge_logits[1:2], alone.edge_logits)
    torch.testing.assert_close(together.score_logit[1:2], alone.score_logit)


@torch.no_grad()
def test_templates_are_encoded_jointly() -> None:
    """The first template's keys depend on the online template from the second block on."""
    network = lively_network(NANO)
    template, online, _ = tensors(random_images(NANO, batch=1))
    kv = network.encode_templates(template, online)
    other_kv = network.encode_templates(template, online.flip(-1))
    first = slice(0, NANO.template_tokens)
    torch.testing.assert_close(kv[:, 0, :, :, first], other_kv[:, 0, :, :, first])
    assert not torch.allclose(kv[:, 1, :, :, first], other_kv[:, 1, :, :, first], atol=1e-2)


@torch.no_grad()
def test_templates_do_not_depend_on_the_search_region() -> None:
    """What makes the cut exact: the same template tokens whatever the frame."""
    network = lively_network(TINY)
    backbone = network.backbone
    template, online, search = tensors(random_images(TINY, batch=1))
    embedded = backbone.embed_templates(template, online)

    def template_tokens(region: Tensor) -> Tensor:
        x = torch.cat([embedded, backbone.embed_search(region)], dim=1)
        for block in backbone.blocks:
            x = block(x, embedded.shape[1])
        return x[:, : embedded.shape[1]]

    torch.testing.assert_close(template_tokens(search), template_tokens(search.flip(-1)))


@torch.no_grad()
def test_prediction_tokens_are_left_right_top_bottom_and_rows_left_top_right_bottom() -> None:
    network = lively_network(TINY)
    tokens = torch.randn(1, 4, TINY.width, generator=torch.Generator().manual_seed(0))
    per_token = network.box_head.layers(tokens)[0]
    rows = network.predict(tokens).edge_logits[0]
    torch.testing.assert_close(rows, per_token[[0, 2, 1, 3]])


@torch.no_grad()
def test_score_is_the_mean_of_the_logits_not_of_tokens_or_probabilities() -> None:
    network = lively_network(TINY)
    tokens = torch.randn(1, 4, TINY.width, generator=torch.Generator().manual_seed(0))
    logits = network.score_head.layers(tokens)[0, :, 0]
    score_logit = network.predict(tokens).score_logit
    torch.testing.assert_close(score_logit, logits.mean()[None])
    of_mean_token = network.score_head.layers(tokens.mean(dim=1))[0]
    assert not torch.allclose(score_logit, of_mean_token, atol=1e-2)


def test_probabilities_are_float32_of_each_edge_s_bins_and_of_the_score() -> None:
    """Also of a network in half precision: in float16 distributions would be rounded."""
    bins = torch.tensor([1.0, 2.0, 5.0])
    logits = bins.log().expand(2, 4, 3).half()
    edge_probs, score = Prediction(logits, torch.tensor([0.0, -2.0]).half()).probabilities()
    assert edge_probs.dtype == score.dtype == torch.float32
    torch.testing.assert_close(edge_probs, (bins / 8).expand(2, 4, 3), rtol=0, atol=1e-3)
    torch.testing.assert_close(edge_probs.sum(-1), torch.ones(2, 4), rtol=0, atol=1e-6)
    torch.testing.assert_close(score, torch.tensor([0.5, 1 / (1 + np.exp(2.0))]).float())


def test_position_table_is_a_quarter_each_of_sines_and_cosines_of_column_and_row() -> None:
    table = sincos_position_table(width=8, grid=3).reshape(3, 3, 8)
    for row in range(3):
        for column in range(3):
            frequencies = np.array([1.0, 0.01])
            expected = np.concatenate(
                [
                    np.sin(column * frequencies),
                    np.cos(column * frequencies),
                    np.sin(row * frequencies),
                    np.cos(row * frequencies),
                ]
            )
            np.testing.assert_allclose(table[row, column], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "parameters"), [(NANO, 1_100_000), (SMALL, 16_000_000), (BASE, 59_000_000)]
)
def test_geometry_has_the_number_of_weights_it_is_known_for(
    spec: ModelSpec, parameters: int
) -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in MixFormerV2(spec).parameters())
    assert count == pytest.approx(parameters, rel=0.05)
