"""Dropping blocks, narrowing MLPs, and the fading that leads there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from distillation.networks.forward import draw_branch_gains, run_network
from distillation.networks.surgery import (
    POSITIONS,
    fit_spec,
    kept_blocks,
    narrow_mlps,
    scale_positions,
    start_from,
    without_blocks,
)
from mixformerv2.model import MixFormerV2
from tests.helpers.lively_networks import lively_network
from tests.helpers.small_training import SPEC

DEEP = replace(SPEC, depth=12)
REMOVED = (0, 3, 6, 9)


def inputs(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    templates = torch.randn((batch, 2, 3, 32, 32), generator=random)
    return templates, torch.randn((batch, 3, 64, 64), generator=random)


def test_the_blocks_that_stay_are_numbered_anew() -> None:
    assert kept_blocks(12, REMOVED) == {1: 0, 2: 1, 4: 2, 5: 3, 7: 4, 8: 5, 10: 6, 11: 7}


@torch.no_grad()
def test_faded_out_blocks_are_as_good_as_dropped() -> None:
    deep = lively_network(DEEP)
    shallow = without_blocks(deep, REMOVED)
    gains = draw_branch_gains(12, 2, 0.0, REMOVED, removed_gain=0.0)
    faded, dropped = run_network(deep, *inputs(), gains), run_network(shallow, *inputs())
    assert shallow.spec.depth == 8
    torch.testing.assert_close(faded.edge_logits, dropped.edge_logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(faded.score_logit, dropped.score_logit, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(faded.streams[-1], dropped.streams[-1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_full_gain_changes_nothing_and_half_gain_does() -> None:
    deep = lively_network(DEEP)
    plain = run_network(deep, *inputs()).edge_logits
    full = run_network(deep, *inputs(), draw_branch_gains(12, 2, 0.0, REMOVED, 1.0)).edge_logits
    half = run_network(deep, *inputs(), draw_branch_gains(12, 2, 0.0, REMOVED, 0.5)).edge_logits
    torch.testing.assert_close(full, plain)
    assert not torch.allclose(half, plain, atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("last_stream", [True, False])
def test_running_for_training_equals_the_networks_own_forward(last_stream: bool) -> None:
    network = lively_network(SPEC)
    templates, search = inputs()
    output = run_network(network, templates, search, last_stream=last_stream)
    expected = network(templates[:, 0], templates[:, 1], search)
    torch.testing.assert_close(output.edge_logits, expected.edge_logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.score_logit, expected.score_logit, atol=1e-5, rtol=1e-5)
    assert len(output.streams) == SPEC.depth - (0 if last_stream else 1)


def test_drop_path_rises_over_the_depth_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    gains = draw_branch_gains(3, 20_000, 0.4, (), 1.0)
    dropped = [(attention == 0).float().mean().item() for attention, _ in gains]
    assert dropped == pytest.approx([0.0, 0.2, 0.4], abs=0.02)
    assert [mlp.mean().item() for _, mlp in gains] == pytest.approx([1.0, 1.0, 1.0], abs=0.03)
    attention, mlp = gains[2]
    assert not torch.equal(attention, mlp)


def test_the_weightiest_hidden_units_stay() -> None:
    network = MixFormerV2(replace(SPEC, mlp_hidden=4))
    mlp = network.backbone.blocks[0].mlp
    with torch.no_grad():
        for unit, (reads, writes) in enumerate([(1.0, 1.0), (9.0, 0.1), (0.2, 0.2), (0.5, 4.0)]):
            mlp.fc1.weight[unit], mlp.fc1.bias[unit] = reads, unit
            mlp.fc2.weight[:, unit] = writes
    narrowed = narrow_mlps(network.state_dict(), 2)
    prefix = "backbone.blocks.0.mlp."
    assert narrowed[prefix + "fc1.bias"].tolist() == [0, 3]
    assert narrowed[prefix + "fc1.weight"][:, 0].tolist() == [1.0, 0.5]
    assert narrowed[prefix + "fc2.weight"][0].tolist() == [1.0, 4.0]
    assert torch.equal(narrowed[prefix + "fc2.bias"], mlp.fc2.bias)


@torch.no_grad()
def test_idle_hidden_units_go_without_a_trace() -> None:
    network = lively_network(SPEC)
    for block in network.backbone.blocks:
        block.mlp.fc2.weight[:, ::2] = 0
    narrow = MixFormerV2(replace(SPEC, mlp_hidden=SPEC.mlp_hidden // 2)).eval()
    narrow.load_state_dict(narrow_mlps(network.state_dict(), SPEC.mlp_hidden // 2))
    before, after = run_network(network, *inputs()), run_network(narrow, *inputs())
    torch.testing.assert_close(after.edge_logits, before.edge_logits, atol=1e-5, rtol=1e-5)


def test_weights_fit_a_narrower_mlp_and_another_image_size_but_nothing_else() -> None:
    smaller = replace(SPEC, mlp_hidden=16, search_size_px=96, template_size_px=48)
    assert fit_spec(SPEC, smaller) == []
    assert fit_spec(SPEC, replace(SPEC, width=64, bins=12)) == [
        "width is 32, the recipe says 64",
        "bins is 16, the recipe says 12",
    ]
    assert fit_spec(smaller, SPEC) == ["mlp_hidden is 16, the recipe says 48"]


LARGER = replace(SPEC, search_size_px=80, template_size_px=48)


def with_shifted_positions() -> dict[str, torch.Tensor]:
    """A checkpoint whose tables are not the fixed ones."""
    state = dict(lively_network(SPEC).state_dict())
    return {name: t + 0.5 if name in POSITIONS else t for name, t in state.items()}


def test_positions_that_are_learnt_start_from_the_checkpoints() -> None:
    state = with_shifted_positions()
    same_size, larger = MixFormerV2(SPEC), MixFormerV2(LARGER)
    start_from(same_size, state, learned_positions=True)
    start_from(larger, state, learned_positions=True)
    for name, grid in zip(POSITIONS, (5, 3), strict=True):
        torch.testing.assert_close(same_size.state_dict()[name], state[name])
        assert larger.state_dict()[name].equal(scale_positions(state[name], grid))
    first = "backbone.blocks.0.attn.qkv.weight"
    assert larger.state_dict()[first].equal(state[first])


def test_positions_that_are_fixed_stay_the_networks_own() -> None:
    for spec in (SPEC, LARGER):
        network = MixFormerV2(spec)
        start_from(network, with_shifted_positions())
        for name in POSITIONS:
            assert network.state_dict()[name].equal(MixFormerV2(spec).state_dict()[name])


@pytest.mark.parametrize(("old", "new"), [(4, 5), (8, 10), (5, 4), (4, 4), (4, 8)])
def test_a_place_in_the_image_keeps_its_position(old: int, new: int) -> None:
    """A table that says where in the image each token's middle is still does, but for the rim:
    beyond the outermost old middles nothing is known.
    """

    def middles(grid: int) -> torch.Tensor:
        middle = (torch.arange(grid) + 0.5) / grid
        down, across = torch.meshgrid(middle, 2 + middle, indexing="ij")
        return torch.stack([down, across], dim=-1).reshape(1, grid * grid, 2)

    rim = 0.5 / old
    known = middles(new)
    known[..., 0].clamp_(rim, 1 - rim)
    known[..., 1].clamp_(2 + rim, 3 - rim)
    torch.testing.assert_close(scale_positions(middles(old), new), known, atol=1e-6, rtol=0)
