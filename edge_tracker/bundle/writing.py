"""Writing a bundle: a whole new folder, or the old one untouched."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_tracker.atomic_file import replacing
from edge_tracker.bundle.goldens import GOLDEN
from edge_tracker.bundle.manifest import FORMATS, MANIFEST
from edge_tracker.bundle.opening import sha256_of


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Give a new folder beside `target` to fill; it takes the target's name if the block succeeds.

    If the block raises, or is interrupted, the new folder is removed and the old bundle stays.
    A symbolic link is followed: what it points to is replaced.
    Raises ValueError where `target` exists and is no bundle, or holds something else beside it;
    OSError where no folder can be made.
    """
    target = target.resolve()
    if target.exists():
        _refuse_what_is_not_ours(target)
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
    text = json.dumps({**manifest, "files": _list_files(folder)}, indent=2, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def add_folder(
    bundle: Path, fresh: Path, relative: str, entry: Mapping[str, Any], replaced: Collection[str]
) -> None:
    """Rename the folder `fresh` to `relative` in the bundle and add an artefact's entry to the
    manifest; folders `replaced` leave both.

    The manifest is renamed into place between the two, so that at every moment what it lists is
    there. If anything fails, the bundle is as it was.
    """
    target = bundle / relative
    listed = {f"{relative}/{name}": facts for name, facts in _list_files(fresh).items()}
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    gone = tuple(f"{folder}/" for folder in {*replaced, relative})
    files = {path: facts for path, facts in manifest["files"].items() if not path.startswith(gone)}
    manifest["files"] = dict(sorted({**files, **listed}.items()))
    kept = [
        artefact
        for artefact in manifest["artefacts"]
        if not artefact["graphs"]["search"]["model"].startswith(gone)
    ]
    manifest["artefacts"] = [*kept, entry]
    was_there = target.exists()
    target.parent.mkdir(exist_ok=True)
    fresh.chmod(0o755)
    _swap(fresh, target)
    try:
        with replacing(bundle / MANIFEST) as temporary:
            text = json.dumps(manifest, indent=2, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
    except BaseException:
        if not was_there:
            shutil.rmtree(target, ignore_errors=True)
        raise
    for folder in replaced:
        if folder != relative:
            shutil.rmtree(bundle / folder, ignore_errors=True)


def _list_files(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        file.relative_to(folder).as_posix(): {
            "sha256": sha256_of(file),
            "size_bytes": file.stat().st_size,
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }


def _refuse_what_is_not_ours(target: Path) -> None:
    is_folder = target.is_dir()
    if not is_folder or (any(target.iterdir()) and not (target / MANIFEST).is_file()):
        raise ValueError(
            f"output {target} exists and is no bundle: it is not overwritten, choose another name"
        )
    ours = {MANIFEST, GOLDEN, *FORMATS}
    if others := sorted(path.name for path in target.iterdir() if path.name not in ours):
        raise ValueError(
            f"output {target} holds {', '.join(others)}, which would be lost with the old bundle: "
            "move that elsewhere, or choose another name"
        )


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
