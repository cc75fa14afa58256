"""A data set, networks and recipes so small that a training step takes milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from distillation.data.batches import Batch
from tests.helpers.small_training import RECIPE, make_batch, texture, write_masked, write_scenes


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Matrices this small are only slowed down by threads that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn stand-ins for the folders that samples are rendered from."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split in ("train2017", "val2017"):
        write_scenes(root / "instances" / split, rng)
    write_masked(root / "pedestrians", rng)
    for name in ("backgrounds_train", "backgrounds_test"):
        (root / name).mkdir()
        for number in range(3):
            cv2.imwrite(str(root / name / f"{number}.png"), texture(rng, 90, 120))
    return root


@pytest.fixture(scope="session")
def batch(images: Path) -> Batch:
    """Eight samples, some without their target."""
    return make_batch(RECIPE, images)


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)
