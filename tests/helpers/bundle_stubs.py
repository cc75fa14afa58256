"""Folders that are bundles as far as writing them goes: files, and a manifest that lists them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path


def stub_bundle(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    listed = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        for name, content in files.items()
    }
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(
        json.dumps({"format": "edge_tracker.bundle", "artefacts": [], "files": listed})
    )
    return folder


def whole(folder: Path) -> bool:
    """Whether all that the manifest lists is there with its hash."""
    files = json.loads((folder / "manifest.json").read_text())["files"]
    return all(
        hashlib.sha256((folder / name).read_bytes()).hexdigest() == facts["sha256"]
        for name, facts in files.items()
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
