"""Writing a bundle: a whole new folder, or the old one untouched."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from edge_tracker.atomic_file import replacing
from edge_tracker.atomic_folder import exchange, only_writer, write_through
from edge_tracker.bundle.manifest import FORMAT, MANIFEST
from edge_tracker.bundle.opening import sha256_of
from edge_tracker.untrusted import harmless

_log = logging.getLogger("edge_tracker")

#: In a folder that is still being filled: all of it may be removed.
UNFINISHED = ".unfinished"


@contextmanager
def replacing_folder(target: Path, inputs: Sequence[Path] = ()) -> Iterator[Path]:
    """Give a new folder beside `target` to fill; it takes the target's name if the block succeeds.

    At every moment the name holds the old bundle or the new one, whole; if the block raises, is
    interrupted or killed, the old one stays. What a killed run left is removed by the next. Of the
    old bundle, only what its manifest lists with its hash is ever deleted.

    A symbolic link is followed: what it points to is replaced. Where the file system cannot
    exchange two folders, the link itself is replaced, and a folder that is no link is refused.

    Raises ValueError where `target` exists and is not a bundle, holds what its manifest does not
    list, or is, contains or lies inside one of `inputs`; BundleError where it is being written
    already; OSError where no folder can be made.
    """
    target = target.absolute()
    real = target.resolve()
    refuse_inputs(real, inputs)
    real.parent.mkdir(parents=True, exist_ok=True)
    # A version has a name that nobody else writes to.
    needs_both = target != real and not _names_of_ours(target).fullmatch(real.name)
    with only_writer(target), only_writer(real) if needs_both else nullcontext():
        _remove_what_killed_runs_left(real, target)
        if real.exists():
            _refuse_what_is_not_ours(real)
        fresh = _unfinished_folder(real.parent, f".{target.name}.")
        try:
            yield fresh
            fresh.chmod(0o755)
            write_through(fresh)
            (fresh / UNFINISHED).unlink()
            old = _put_in_place(fresh, real, target)
        except BaseException:
            _discard(fresh, target)
            raise
        if old is not None:
            _discard(old, target)


def refuse_inputs(output: Path, inputs: Sequence[Path]) -> None:
    """Raise ValueError where writing the folder `output` could touch what is read."""
    output = output.resolve()
    for given in inputs:
        read = given.resolve()
        if output == read or output in read.parents or (read in output.parents and read.is_dir()):
            raise ValueError(
                f"output {output} is, contains or lies inside {given}, which is read: choose "
                "another name"
            )


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest, with size and sha256 of every file that is in the folder."""
    text = json.dumps({**manifest, "files": _list_files(folder)}, indent=2, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


@contextmanager
def adding_folder(bundle: Path) -> Iterator[Path]:
    """Give a new folder inside the bundle to fill, for `add_folder`; nobody else may write the
    bundle meanwhile. Raises BundleError where somebody does.
    """
    bundle = bundle.resolve()
    with only_writer(bundle):
        for mark in list(bundle.rglob(UNFINISHED)):
            shutil.rmtree(mark.parent, ignore_errors=True)
        fresh = _unfinished_folder(bundle, ".engines.")
        try:
            yield fresh
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def add_folder(
    bundle: Path, fresh: Path, relative: str, entry: Mapping[str, Any], replaced: Collection[str]
) -> None:
    """Rename the folder `fresh` to `relative` in the bundle and add an artefact's entry to the
    manifest; folders `replaced` leave both.

    What is replaced leaves the manifest before it leaves the bundle, and what is new enters it
    last, so that at every moment all that it lists is there. If anything fails, the bundle is as it
    was; if the process is killed, the bundle may be without the engine.
    Raises ValueError where a folder to be replaced holds what the manifest does not list.
    """
    target = bundle / relative
    leaving = sorted({*replaced, relative})
    for folder in leaving:
        if others := _not_ours(bundle, f"{folder}/"):
            raise ValueError(
                f"bundle {bundle} holds {', '.join(others[:5])}, not as its {MANIFEST} lists it, "
                "which would be lost with the old engine: move that elsewhere"
            )
    fresh.chmod(0o755)
    write_through(fresh)
    before = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    without = _without_folders(before, leaving)
    added = {f"{relative}/{name}": facts for name, facts in _list_files(fresh).items()}
    after = {
        **without,
        "files": dict(sorted({**without["files"], **added}.items())),
        "artefacts": [*without["artefacts"], entry],
    }
    there = [bundle / folder for folder in leaving if (bundle / folder).is_dir()]
    old = fresh.with_suffix(".old")
    moves: list[tuple[Path, Path]] = []
    target.parent.mkdir(exist_ok=True)
    try:
        if there:
            _write_manifest(bundle, without)
        for folder_there in there:
            (folder_there / UNFINISHED).touch()
        if target.exists():
            moves.append((target, old))
            target.rename(old)
        (fresh / UNFINISHED).unlink(missing_ok=True)
        moves.append((fresh, target))
        fresh.rename(target)
        _write_manifest(bundle, after)
    except BaseException:
        for source, moved in reversed(moves):
            if not source.exists():
                moved.rename(source)
        for folder_there in there:
            (folder_there / UNFINISHED).unlink(missing_ok=True)
        if there:
            _write_manifest(bundle, before)
        raise
    for folder_there in (old, *there):
        if (folder_there / UNFINISHED).is_file():
            shutil.rmtree(folder_there, ignore_errors=True)


def _without_folders(manifest: dict[str, Any], folders: Sequence[str]) -> dict[str, Any]:
    gone = tuple(f"{folder}/" for folder in folders)
    return {
        **manifest,
        "files": {
            path: facts for path, facts in manifest["files"].items() if not path.startswith(gone)
        },
        "artefacts": [
            artefact
            for artefact in manifest["artefacts"]
            if not artefact["graphs"]["search"]["model"].startswith(gone)
        ],
    }


def _write_manifest(bundle: Path, manifest: Mapping[str, Any]) -> None:
    with replacing(bundle / MANIFEST) as temporary:
        text = json.dumps(manifest, indent=2, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _list_files(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        file.relative_to(folder).as_posix(): {
            "sha256": sha256_of(file),
            "size_bytes": file.stat().st_size,
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name not in (MANIFEST, UNFINISHED)
    }


def _refuse_what_is_not_ours(target: Path) -> None:
    """Raise ValueError for anything but an empty folder or a bundle as its manifest lists it."""
    if not target.is_dir() or (any(target.iterdir()) and _listed(target) is None):
        raise ValueError(
            f"output {target} exists and is not a bundle: it is not overwritten, choose another "
            "name"
        )
    if others := _not_ours(target):
        shown = ", ".join(others[:5]) + (f", ... ({len(others)})" if len(others) > 5 else "")
        raise ValueError(
            f"output {target} holds {shown}, not as its {MANIFEST} lists it, which would be lost "
            "with the old bundle: move that elsewhere, or choose another name"
        )


def _not_ours(folder: Path, below: str = "") -> list[str]:
    """Relative paths of what the folder holds and its manifest does not list with its hash."""
    listed = _listed(folder) or {}
    others = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        is_folder = path.is_dir() and not path.is_symlink()
        is_left = any((parent / UNFINISHED).is_file() for parent in (path, *path.parents))
        if relative.startswith(below) and not (is_folder or is_left or relative == MANIFEST):
            facts = listed.get(relative)
            if facts is None or not _is_as_listed(path, facts):
                others.append(relative)
    return others


def _listed(folder: Path) -> dict[str, dict[str, Any]] | None:
    """The files of our manifest in this folder; None if it has none."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return None
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(isinstance(facts, dict) for facts in files.values()):
        return None
    return files


def _is_as_listed(path: Path, facts: Mapping[str, Any]) -> bool:
    return (
        path.is_file()
        and not path.is_symlink()
        and path.stat().st_size == facts.get("size_bytes")
        and sha256_of(path) == facts.get("sha256")
    )


def _unfinished_folder(parent: Path, prefix: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=".part", dir=parent))
    (folder / UNFINISHED).touch()
    return folder


def _put_in_place(fresh: Path, real: Path, target: Path) -> Path | None:
    """-> where the old bundle is now; None if there was none."""
    if not real.exists():
        fresh.rename(real)
        return None
    if exchange(fresh, real):
        return fresh
    if not target.is_symlink():
        raise OSError(
            errno.ENOTSUP,
            "this file system cannot replace a folder in one step: move it away, or make its name "
            f"a link to it ({real.name}.1, say), which can be replaced",
            str(real),
        )
    version = fresh.rename(fresh.with_suffix(".version"))
    pointer = target.with_name(f"{version.name}.link")
    pointer.symlink_to(os.path.relpath(version, target.parent))
    os.replace(pointer, target)
    return real


def _discard(folder: Path, target: Path) -> None:
    """Remove a folder of ours that nobody needs: one that was being filled, or an old bundle, of
    which what its manifest does not list is kept under a name that is seen.
    """
    if (folder / UNFINISHED).is_file():
        shutil.rmtree(folder, ignore_errors=True)
    elif (listed := _listed(folder)) is not None:
        _remove_listed(folder, listed)
        (folder / MANIFEST).unlink()
        _remove_empty_folders(folder)
        if folder.exists():
            kept = folder.with_name(f"{target.name}.kept-{folder.name.split('.')[-2]}")
            folder.rename(kept)
            said = f"what the bundle {target} held besides itself is now in {kept}"
            _log.warning(harmless(said))
    elif folder.is_dir():
        _remove_empty_folders(folder)


def _remove_listed(folder: Path, listed: Mapping[str, Mapping[str, Any]]) -> None:
    for relative, facts in listed.items():
        path = folder / relative
        # Not through a link, and not out of the folder: a manifest is data.
        is_inside = path.resolve().is_relative_to(folder.resolve())
        if is_inside and path.exists() and _is_as_listed(path, facts):
            path.unlink()


def _remove_empty_folders(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if (path / UNFINISHED).is_file():
                shutil.rmtree(path, ignore_errors=True)
            elif not any(path.iterdir()):
                path.rmdir()
    if not any(folder.iterdir()):
        folder.rmdir()


def _remove_what_killed_runs_left(real: Path, target: Path) -> None:
    """Nobody else is writing `target`: its lock is ours."""
    ours = re.compile(re.escape(f".{target.name}.") + r"[a-z0-9_]{8}\.(part|version|part\.link)")
    for path in {*real.parent.iterdir(), *target.parent.iterdir()} - {real}:
        if ours.fullmatch(path.name):
            if path.is_symlink():
                path.unlink()
            elif path.is_dir():
                _discard(path, target)


def _names_of_ours(target: Path) -> re.Pattern[str]:
    """Of folders and links that are made to replace `target`."""
    return re.compile(re.escape(f".{target.name}.") + r"[a-z0-9_]{8}\.(part|version|version\.link)")
