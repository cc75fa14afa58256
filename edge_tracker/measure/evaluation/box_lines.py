"""Text files of boxes, as people's editors, spreadsheets and label tools write them."""

from __future__ import annotations

import codecs
import re
from pathlib import Path


def read_box_lines(path: Path) -> list[str]:
    """The file's lines, without a first one of column names and without empty ones at the end.

    UTF-8, with a byte order mark or without, or UTF-16 with one. Raises OSError and UnicodeError.
    """
    content = path.read_bytes()
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    lines = content.decode("utf-16" if is_utf16 else "utf-8-sig").rstrip().splitlines()
    return lines[1:] if lines and _names_columns(lines[0]) else lines


def numbers_of(line: str) -> list[float]:
    """The numbers of a line, separated by commas, semicolons, or spaces and tabs; one separator may
    follow the last.

    Raises ValueError for what is no number, and for a line that has two kinds of separators: in
    "40,5;30,5" commas stand for the decimal point, or for another pair of coordinates.
    """
    line = line.strip()
    kinds = {found.strip() for found in re.findall(r"\s*[,;]\s*|\s+", line.rstrip(",;"))}
    if len(kinds) > 1:
        raise ValueError(
            "separated in two ways, so that a comma may be a decimal one; write decimal points, "
            "and one kind of separator"
        )
    return [float(part) for part in re.split(r"\s*[,;]\s*|\s+", line.rstrip(",; \t"))]


def _names_columns(line: str) -> bool:
    """Whether each field is a word, and none of those that stand for a number."""
    words = [word.strip("\"'") for word in re.split(r"[,;\s]+", line.strip().rstrip(",;"))]
    return all(
        re.fullmatch(r"[A-Za-z_]\w*", word) and word.lower() not in ("nan", "inf", "infinity")
        for word in words
    )
