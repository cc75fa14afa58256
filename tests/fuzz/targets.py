"""What is fuzzed: readers of what comes from outside, and seeds that the project itself writes.

Of any bytes a reader makes a value or raises `EdgeTrackerError`; another exception is a fault.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import nn

from edge_tracker.bundle.spec import ModelSpec
from edge_tracker.errors import CheckpointError
from mixformerv2.checkpoint import build_network, read_checkpoint
from mixformerv2.model import MixFormerV2
from tests.helpers.crafted_checkpoints import before_zip, dictionary, tensor, zipped

#: Small enough that its checkpoints are a few kilobytes.
SPECK = ModelSpec(
    width=8, depth=1, num_heads=1, mlp_hidden=4, patch_size_px=2, search_size_px=4,
    template_size_px=2, bins=4, box_head_hidden=4, score_head_hidden=4,
)  # fmt: skip


class Target(NamedTuple):
    """make_seeds: writes files into a folder. read: a file of that name with any bytes in it."""

    name: str
    file: str
    make_seeds: Callable[[Path], list[Path]]
    read: Callable[[Path], object]


def _checkpoints(folder: Path) -> list[Path]:
    state = {
        "net": {"w": torch.ones(2, 3), "v": nn.Parameter(torch.ones(4).half())},
        "num_heads": 2,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(module.parameters()).state_dict()
    contents = [
        state,
        {**state, "optimizer": optimizer, "epoch": 3},
        module,
        [torch.ones(2).bfloat16()],
    ]
    paths = []
    for number, content in enumerate(contents):
        for is_zip in (True, False):
            paths.append(folder / f"{number}{is_zip}.pth")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the source of a module
                torch.save(content, paths[-1], _use_new_zipfile_serialization=is_zip)
    items = dictionary({"w": tensor("0", 12, (3, 2), (1, 3), 2)})
    paths.append(zipped(folder / "crafted.pth", items, {"0": bytes(48)}))
    stored = (12).to_bytes(8, "little") + bytes(48)
    paths.append(before_zip(folder / "old.pth", items, ("0",), stored))
    return paths


def _safetensors(folder: Path) -> list[Path]:
    mixed = {"w": torch.ones(2, 3), "v": torch.ones(4).half(), "b": torch.ones(3).bfloat16()}
    paths = [folder / "mixed.safetensors", folder / "network.safetensors"]
    stated = {"num_heads": "2", "search_factor": "4.5"}
    safetensors.torch.save_file(mixed, paths[0], metadata=stated)
    safetensors.torch.save_file(MixFormerV2(SPECK).state_dict(), paths[1], {"num_heads": "1"})
    return paths


def _open_checkpoint(path: Path) -> None:
    checkpoint = read_checkpoint(path)
    with suppress(CheckpointError):  # weights, but of no network
        build_network(checkpoint)


TARGETS = (
    Target("checkpoint", "c.pth", _checkpoints, _open_checkpoint),
    Target("safetensors", "c.safetensors", _safetensors, _open_checkpoint),
)
