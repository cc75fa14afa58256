"""Output files that are either complete or not there."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a new file to write; it takes the target's name if the block succeeds.

    If the block raises, the new file is removed and whatever bore the target's name stays as it
    was. A symbolic link stays one: the file behind it is replaced. A device or pipe is never
    replaced: what was written is copied into it at the end.

    Raises OSError naming the target at once, before any work, where a file cannot be made there;
    ValueError for a folder.
    """
    if target.is_dir():
        raise ValueError(f"{target} is a folder: give the name of the file to write")
    with _copied_into(target) if is_written_into(target) else _renamed_to(target) as temporary:
        yield temporary


def is_written_into(target: Path) -> bool:
    """Whether the name stands for a device, a pipe or an open file of a process, such as
    /dev/stdout, rather than for a file that can be replaced.
    """
    try:
        if not stat.S_ISREG(target.stat().st_mode):
            return True
    except OSError:
        return False
    # Links in /proc lead to regular files too, but replacing these would miss who has them open.
    seen = target.absolute()
    for _ in range(40):
        if seen.is_relative_to("/dev") or seen.is_relative_to("/proc"):
            return not seen.is_relative_to("/dev/shm")
        if not seen.is_symlink():
            return False
        seen = seen.parent / os.readlink(seen)
    return False


@contextmanager
def _renamed_to(target: Path) -> Iterator[Path]:
    real = Path(os.path.realpath(target))
    # Short, as the target's own name may be as long as names can be.
    temporary = real.with_name(f".{uuid.uuid4().hex[:12]}.part{real.suffix[:12]}")
    try:
        temporary.open("xb").close()
    except OSError as error:
        reason = error.strerror or "cannot be written"
        if not real.parent.is_dir():
            reason = f"folder {target.parent} does not exist, create it first"
        raise OSError(error.errno, reason, str(target)) from error
    try:
        with naming_full_disk(target):
            yield temporary
        if is_written_into(real):
            raise OSError(errno.EEXIST, "became a device or pipe meanwhile", str(target))
        os.replace(temporary, real)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def naming_full_disk(target: Path) -> Iterator[None]:
    """Give the error of a full disk, which comes without a name, that of what was being written."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _DISK_FULL:
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise


@contextmanager
def _copied_into(target: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="edge-tracker-") as folder:
        temporary = Path(folder, f"output{target.suffix[:12]}")
        temporary.touch()
        yield temporary
        # Appending, as a file that is open elsewhere may hold something already.
        with temporary.open("rb") as written, target.open("ab", buffering=0) as out:
            shutil.copyfileobj(written, out)
