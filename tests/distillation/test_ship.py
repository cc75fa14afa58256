"""The file that is handed out holds the network that was trained."""

from __future__ import annotations

from pathlib import Path

import torch

from distillation.ship import ship
from mixformerv2.checkpoint import load_network
from tests.distillation.conftest import SPEC
from tests.lively_networks import lively_network


def test_half_precision_keeps_geometry_and_predictions(tmp_path: Path) -> None:
    network = lively_network(SPEC)
    torch.save({"net": network.state_dict(), "num_heads": SPEC.num_heads}, tmp_path / "run.pth.tar")
    ship(tmp_path / "run.pth.tar", tmp_path / "small.safetensors")
    shipped = load_network(tmp_path / "small.safetensors")
    assert shipped.spec == SPEC
    assert (tmp_path / "small.safetensors").stat().st_size < 0.6 * (
        (tmp_path / "run.pth.tar").stat().st_size
    )
    random = torch.Generator().manual_seed(0)
    template = torch.randn((1, 3, 32, 32), generator=random)
    search = torch.randn((1, 3, 64, 64), generator=random)
    with torch.no_grad():
        before = network(template, template, search).edge_logits.softmax(-1)
        after = shipped(template, template, search).edge_logits.softmax(-1)
    torch.testing.assert_close(after, before, atol=5e-3, rtol=0)
