"""Writing a bundle: a whole new folder, or the old one untouched."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_tracker.bundle import MANIFEST, sha256_of


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Give a new folder beside `target` to fill; it takes the target's name if the block succeeds.

    If the block raises, or is interrupted, the new folder is removed and the old bundle stays.
    Raises ValueError where `target` exists and is no bundle, OSError where no folder can be made.
    """
    if target.exists() and not (target.is_dir() and _is_bundle_or_empty(target)):
        raise ValueError(
            f"output {target} exists and is no bundle: it is not overwritten, choose another name"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        yield fresh
        fresh.chmod(0o755)
        _swap(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest, with size and sha256 of every file that is in the folder."""
    files = {
        file.relative_to(folder).as_posix(): {
            "sha256": sha256_of(file),
            "size_bytes": file.stat().st_size,
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    text = json.dumps({**manifest, "files": files}, indent=2, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _is_bundle_or_empty(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() or not any(folder.iterdir())


def _swap(fresh: Path, target: Path) -> None:
    if not target.exists():
        fresh.rename(target)
        return
    old = fresh.with_suffix(".old")
    target.rename(old)
    try:
        os.rename(fresh, target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
