"""Where an output may go: nowhere that writing it could touch what is read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def refuse_overlap(
    output: Path, others: Iterable[Path | None], name: str = "output", role: str = "which is read"
) -> None:
    """Raise ValueError where the file or folder `output` is, contains or lies inside one of
    `others`, whichever way links lead there. Nothing of them needs to exist; None is passed over.

    name, role: how the message names the output, and says what the others are for.
    """
    for other in others:
        if other is not None and (relation := _relation(output, other)) is not None:
            raise ValueError(f"{name} {output} {relation} {other}, {role}: choose another place")


def _relation(output: Path, other: Path) -> str | None:
    for written in _places(output):
        for kept in _places(other):
            if written == kept:
                return "is"
            if written in kept.parents:
                return "contains"
            if kept in written.parents:
                return "lies inside"
    return None


def _places(path: Path) -> tuple[Path, Path]:
    """Where a path leads, and where it lies itself if it is a link."""
    real = os.path.realpath
    return Path(real(path)), Path(real(path.parent)) / path.name
