"""What was compiled or measured here, kept for later starts: files of the user alone, each with its
own hash first.

What a backend has compiled is code once it is loaded, so a folder that others may write is not
used. A file is read whole, compared with its hash and replaced in one step, so that processes may
share a folder that is filled, emptied or damaged meanwhile.
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from pathlib import Path

from edge_tracker.files.atomic_file import replacing

_log = logging.getLogger(__name__)
_HASH_BYTES = hashlib.sha256().digest_size


def cache_folder(cache_dir: str | Path | None) -> Path | None:
    """The folder to keep compiled models in, made if need be; None where none can be trusted.

    cache_dir: the user's choice, by default `~/.cache/edge_tracker/openvino`. One that others may
    write is passed over, with a RuntimeWarning if it was chosen. Raises OSError for a chosen one
    that cannot be made.
    """
    if cache_dir is not None:
        folder = Path(cache_dir)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    else:
        try:
            folder = Path.home() / ".cache" / "edge_tracker" / "openvino"
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except (OSError, RuntimeError):  # a service's account may have no home
            return None
    reason = _why_not_private(folder)
    if reason is None:
        return folder if os.access(folder, os.W_OK) else None
    text = f"compiled models are not kept in {folder}: {reason}"
    _log.info("%s", text)
    if cache_dir is not None:
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    return None


def _why_not_private(folder: Path) -> str | None:
    if os.name != "posix":
        return None
    state = folder.stat()
    if state.st_uid != os.geteuid():
        return "it belongs to another user; name a folder of your own"
    if state.st_mode & 0o022:
        return f"others may write it (mode {state.st_mode & 0o777:o}); chmod 700 {folder}"
    return None


def load_kept(folder: Path, name: str) -> bytes | None:
    """What `store_kept` wrote under this name, whole and unaltered; else None."""
    try:
        content = (folder / name).read_bytes()
    except OSError:
        return None
    blob = content[_HASH_BYTES:]
    if hashlib.sha256(blob).digest() != content[:_HASH_BYTES]:
        _log.info("%s is damaged and made anew", folder / name)
        return None
    return blob


def store_kept(folder: Path, name: str, blob: bytes) -> None:
    """Keep it; where that fails, as on a full disk, the next start makes it again."""
    try:
        with replacing(folder / name) as temporary:
            temporary.write_bytes(hashlib.sha256(blob).digest() + blob)
    except (OSError, ValueError) as error:
        _log.info("%s is not kept: %s", name, error)
