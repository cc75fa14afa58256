"""Output files that are either complete or not there."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a new file beside `target` to write; it takes the target's name if the block succeeds.

    If the block raises, the new file is removed and whatever bore the target's name stays as it
    was. Raises OSError naming the target at once, before any work, where a file cannot be made
    there.
    """
    if target.exists() and not target.is_file():
        raise ValueError(f"{target} is not a regular file: give the name of the file to write")
    temporary = target.with_name(f".{target.stem}.{uuid.uuid4().hex[:8]}.part{target.suffix}")
    try:
        temporary.open("xb").close()
    except OSError as error:
        reason = error.strerror or "cannot be written"
        if not target.parent.is_dir():
            reason = f"folder {target.parent} does not exist, create it first"
        raise OSError(error.errno, reason, str(target)) from error
    try:
        yield temporary
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None and error.errno in _DISK_FULL:
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise
