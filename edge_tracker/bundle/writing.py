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
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from edge_tracker.bundle.manifest import (
    MANIFEST,
    Content,
    listed_files,
    with_artefact,
    with_files,
    without_folders,
)
from edge_tracker.bundle.opening import sha256_of
from edge_tracker.files.atomic_file import naming_full_disk
from edge_tracker.files.atomic_folder import exchange, only_writer, write_through
from edge_tracker.files.outputs import refuse_overlap
from edge_tracker.files.untrusted import harmless

_log = logging.getLogger("edge_tracker")

#: Empty, in a folder with a name that we made and are still filling: all of that may be removed.
#: With content, in a folder of engines that enter or leave: which of its files may be removed if
#: the manifest does not list them.
UNFINISHED = ".unfinished"
_OF_ENGINES = re.compile(r"\.engines\.[a-z0-9_]{8}\.(part|old)")


@contextmanager
def replacing_folder(target: Path, inputs: Sequence[Path] = ()) -> Iterator[Path]:
    """Give a new folder beside `target` to fill; it takes the target's name if the block succeeds.

    At every moment the name holds the old bundle or the new one, whole; if the block raises, is
    interrupted or killed, the old one stays. What a killed run left is removed by the next. Of the
    old bundle, only what its manifest lists with its hash is ever deleted.

    A symbolic link is followed: what it points to is replaced. Where the file system cannot
    exchange two folders, the link itself is replaced, and a folder that is no link is refused.

    Raises ValueError where `target` is or contains the folder that the process is in, is a mount
    point, exists and is not a bundle, holds what its manifest does not
    list, or is, contains or lies inside one of `inputs`; BundleError where it is being written
    already; OSError where no folder can be made.
    """
    target = target.absolute()
    real = target.resolve()
    refuse_overlap(target, inputs)
    real.parent.mkdir(parents=True, exist_ok=True)
    # A version has a name that nobody else writes to.
    needs_both = target != real and not _names_of_ours(target).fullmatch(real.name)
    with only_writer(target), only_writer(real) if needs_both else nullcontext():
        _remove_what_killed_runs_left(real, target)
        if real.exists():
            _refuse_what_cannot_be_exchanged(real, target)
            _refuse_what_is_not_ours(real)
        fresh = _unfinished_folder(real.parent, f".{target.name}.")
        try:
            with naming_full_disk(target):
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


def write_manifest(folder: Path, manifest: Content) -> None:
    """Write the manifest, with size and sha256 of every file that is in the folder."""
    text = json.dumps(with_files(manifest, _list_files(folder)), indent=2, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


@contextmanager
def adding_folder(bundle: Path) -> Iterator[Path]:
    """Give a new folder inside the bundle to fill, for `add_folder`; nobody else may write the
    bundle meanwhile. Raises BundleError where somebody does.
    """
    bundle = bundle.resolve()
    with only_writer(bundle):
        _remove_left_engines(bundle, _listed(bundle) or {}, bundle)
        fresh = _unfinished_folder(bundle, ".engines.")
        try:
            with naming_full_disk(bundle):
                yield fresh
        finally:
            _remove_unfinished(fresh)


def add_folder(
    bundle: Path, fresh: Path, relative: str, entry: Content, replaced: Collection[str]
) -> None:
    """Rename the folder `fresh` to `relative` in the bundle and add an artefact's entry to the
    manifest; folders `replaced` leave both.

    What is replaced leaves the manifest before it leaves the bundle, and what is new enters it
    last, so that at every moment all that it lists is there. If anything fails, the bundle is as it
    was; if the process is killed, the bundle may be without the engine.
    A file of the old engine that is damaged is kept beside the bundle, as nobody knows whose it is.
    Raises ValueError where a folder to be replaced holds what the manifest does not list.
    """
    target = bundle / relative
    leaving = sorted({*replaced, relative})
    before = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    listed = listed_files(before) or {}
    for folder in leaving:
        others = [name for name in _not_ours(bundle, f"{folder}/") if name not in listed]
        if others:
            raise ValueError(
                f"bundle {bundle} holds {', '.join(others[:5])}, not as its {MANIFEST} lists it, "
                "which would be lost with the old engine: move that elsewhere"
            )
    fresh.chmod(0o755)
    write_through(fresh)
    without = without_folders(before, leaving)
    added = {f"{relative}/{name}": facts for name, facts in _list_files(fresh).items()}
    after = with_artefact(without, entry, added)
    there = [bundle / folder for folder in leaving if (bundle / folder).is_dir()]
    old = fresh.with_suffix(".old")
    moves: list[tuple[Path, Path]] = []
    scratch = _unfinished_folder(bundle, ".engines.")
    target.parent.mkdir(exist_ok=True)
    rewritten = False
    try:
        for folder_there in there:
            place = f"{folder_there.relative_to(bundle).as_posix()}/"
            own = {
                name.removeprefix(place): facts
                for name, facts in listed.items()
                if name.startswith(place)
            }
            _mark(folder_there, own, scratch)
        if there:
            rewritten = True
            _write_manifest(bundle, without, scratch)
        if target.exists():
            moves.append((target, old))
            target.rename(old)
        _mark(fresh, _list_files(fresh), scratch)
        moves.append((fresh, target))
        fresh.rename(target)
        _write_manifest(bundle, after, scratch)
    except BaseException:
        for source, moved in reversed(moves):
            if not source.exists():
                moved.rename(source)
        for folder_there in there:
            (folder_there / UNFINISHED).unlink(missing_ok=True)
        if rewritten:
            _write_manifest(bundle, before, scratch)
        raise
    finally:
        _remove_unfinished(scratch)
    with suppress(OSError):  # what is left over is removed by the next build
        _remove_left_engines(bundle, listed_files(after) or {}, bundle)


def _write_manifest(bundle: Path, manifest: Content, scratch: Path) -> None:
    text = json.dumps(manifest, indent=2, allow_nan=False)
    _write_in_one_step(bundle / MANIFEST, text + "\n", scratch)


def _write_in_one_step(file: Path, text: str, scratch: Path) -> None:
    """By way of a folder that is removed after a kill, so that nothing is left beside the file."""
    new = scratch / "new"
    new.write_text(text, encoding="utf-8")
    write_through(scratch)
    os.replace(new, file)


def _list_files(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        file.relative_to(folder).as_posix(): {
            "sha256": sha256_of(file),
            "size_bytes": file.stat().st_size,
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name not in (MANIFEST, UNFINISHED)
    }


def _refuse_what_cannot_be_exchanged(real: Path, target: Path) -> None:
    """Raise ValueError for a mount point, and for the folder that a shell would be left in after it
    has gone.
    """
    if Path.cwd().is_relative_to(real):
        raise ValueError(
            f"output {target} is the folder that you are in, or contains it, and would be replaced:"
            " name a new folder in it, or go to another folder first"
        )
    if real.is_mount():
        raise ValueError(
            f"output {target} is a mount point, which cannot be replaced: name a new folder in it, "
            f"such as {target / 'network.bundle'}"
        )


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
        if not relative.startswith(below) or is_folder or relative == MANIFEST:
            continue
        if not _is_left_of_engines(path, folder):
            facts = listed.get(relative) if relative != UNFINISHED else None
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
    return listed_files(manifest)


def _is_as_listed(path: Path, facts: Mapping[str, Any]) -> bool:
    return (
        path.is_file()
        and not path.is_symlink()
        and path.stat().st_size == facts.get("size_bytes")
        and sha256_of(path) == facts.get("sha256")
    )


def _mark(folder: Path, files: Mapping[str, Any], scratch: Path) -> None:
    _write_in_one_step(folder / UNFINISHED, json.dumps({"leaving": files}), scratch)


def _leaving(folder: Path) -> dict[str, dict[str, Any]] | None:
    """What `_mark` wrote; None where it did not."""
    path = folder / UNFINISHED
    try:
        is_mark = path.is_file() and not path.is_symlink()
        said = json.loads(path.read_text(encoding="utf-8")) if is_mark else None
    except (OSError, ValueError, RecursionError):
        return None
    files = said.get("leaving") if isinstance(said, dict) else None
    if not isinstance(files, dict) or not all(isinstance(facts, dict) for facts in files.values()):
        return None
    return files


def _is_left_of_engines(path: Path, bundle: Path) -> bool:
    """Whether a killed build left this file: a part of a new engine, or of one to be replaced."""
    inside = [parent for parent in path.parents if parent.is_relative_to(bundle)][:-1]
    top = inside[-1] if inside else path
    if _OF_ENGINES.fullmatch(top.name) and top.suffix == ".part" and (top / UNFINISHED).is_file():
        return True
    for parent in inside:
        if (leaving := _leaving(parent)) is not None:
            facts = leaving.get(path.relative_to(parent).as_posix())
            is_mark = path == parent / UNFINISHED
            return is_mark or (facts is not None and _is_as_listed(path, facts))
    return False


def _remove_left_engines(bundle: Path, listed: Mapping[str, Any], target: Path) -> None:
    """Remove parts of new engines, and of replaced ones what was listed; what else is in those is
    kept beside `target`. `listed`: files of the bundle, which stay.
    """
    for fresh in bundle.iterdir():
        if not _OF_ENGINES.fullmatch(fresh.name) or fresh.is_symlink() or not fresh.is_dir():
            continue
        is_part = fresh.suffix == ".part" and (fresh / UNFINISHED).is_file()
        if is_part or not any(fresh.iterdir()):
            _remove_unfinished(fresh)
    for mark in list(bundle.rglob(UNFINISHED)):
        folder, leaving = mark.parent, _leaving(mark.parent)
        if folder == bundle or leaving is None:
            continue
        relative = folder.relative_to(bundle).as_posix()
        is_listed = any(path.startswith(f"{relative}/") for path in listed)
        if not is_listed:
            _remove_listed(folder, leaving)
        mark.unlink()
        if not is_listed:
            _remove_empty_folders(folder)
        if not is_listed and folder.exists():
            kept = Path(tempfile.mkdtemp(prefix=f"{target.name}.kept-", dir=bundle.parent))
            folder.rename(kept / folder.name.lstrip("."))
            _say_kept(target, kept)


def _say_kept(target: Path, kept: Path) -> None:
    _log.warning(harmless(f"what the bundle {target} held besides itself is now in {kept}"))


def _unfinished_folder(parent: Path, prefix: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=".part", dir=parent))
    (folder / UNFINISHED).touch()
    return folder


def _remove_unfinished(folder: Path) -> None:
    """The mark goes last, so that the next run knows what a killed one was removing."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != UNFINISHED:
                path.unlink()
        (folder / UNFINISHED).unlink(missing_ok=True)
        folder.rmdir()


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
    mark = folder / UNFINISHED
    if mark.is_file() and mark.stat().st_size == 0:
        _remove_unfinished(folder)
    elif (listed := _listed(folder)) is not None:
        _remove_left_engines(folder, listed, target)
        _remove_listed(folder, listed)
        (folder / MANIFEST).unlink()
        _remove_empty_folders(folder)
        if folder.exists():
            kept = folder.with_name(f"{target.name}.kept-{folder.name.split('.')[-2]}")
            folder.rename(kept)
            _say_kept(target, kept)
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
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()
    if not any(folder.iterdir()):
        folder.rmdir()


def _remove_what_killed_runs_left(real: Path, target: Path) -> None:
    """Nobody else is writing `target`: its lock is ours."""
    ours = _names_of_ours(target)
    for path in {*real.parent.iterdir(), *target.parent.iterdir()} - {real}:
        if ours.fullmatch(path.name):
            if path.is_symlink():
                path.unlink()
            elif path.is_dir():
                _discard(path, target)


def _names_of_ours(target: Path) -> re.Pattern[str]:
    """Of folders and links that are made to replace `target`."""
    return re.compile(re.escape(f".{target.name}.") + r"[a-z0-9_]{8}\.(part|version|version\.link)")
