"""Still images of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from distillation.data.images import image_paths
from edge_tracker.errors import DatasetError


def test_hidden_files_are_no_images(tmp_path: Path) -> None:
    """macOS leaves a ._NAME.jpg beside each NAME.jpg on other disks."""
    for name in ("b.JPG", "a.png", "._a.png", ".thumb.jpg", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in image_paths(tmp_path)] == ["a.png", "b.JPG"]
    for name in ("b.JPG", "a.png"):
        (tmp_path / name).unlink()
    with pytest.raises(DatasetError, match="holds no image"):
        image_paths(tmp_path)
