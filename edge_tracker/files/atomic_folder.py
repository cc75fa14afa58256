"""Folders that are replaced in one step, by one writer at a time."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_tracker.errors import BundleError

_EXCHANGE = 2
_AT_CWD = -100
#: What kernels and file systems say that cannot exchange two names.
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EXDEV})


def exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step; False, and nothing done, where this system cannot.

    There is no moment at which either name is missing, or names anything but one of the two.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_CWD, os.fsencode(first), _AT_CWD, os.fsencode(second), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))


@contextmanager
def only_writer(target: Path) -> Iterator[None]:
    """Hold the lock on writing `target`, which a killed process leaves. Raises BundleError where
    another process or thread holds it.
    """
    lock = target.with_name(f".{target.name}.lock")
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise BundleError(
                f"{target} is being written by another process: wait for it to end, or choose "
                "another name"
            ) from error
        if _is_same(lock, descriptor):
            break
        os.close(descriptor)  # its owner removed the file between our two steps
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def write_through(folder: Path) -> None:
    """Have everything in a folder on the disk, so that a renamed folder is whole after a loss of
    power too.
    """
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _is_same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
