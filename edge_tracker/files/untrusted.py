"""What comes from outside: failing to read it is an error with a name, and its text is printed
harmlessly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_tracker.errors import EdgeTrackerError


@contextmanager
def reading(what: object, remedy: str, error: type[Exception]) -> Iterator[None]:
    """Turn whatever is raised inside into `error`, which names `what` and the remedy.

    Parsers of damaged files raise nearly anything; the project's own errors pass as they are.
    """
    try:
        yield
    except (EdgeTrackerError, error):
        raise
    except Exception as failure:
        said = f"it has no {failure}" if isinstance(failure, KeyError) else str(failure)
        reason = short(said or type(failure).__name__)
        raise error(f"{what} cannot be read ({reason}); {remedy}") from failure


def read_json(path: Path) -> Any:
    """Raises whatever a file that is damaged, not UTF-8 or nested too deep makes Python raise."""
    return json.loads(path.read_text(encoding="utf-8"))


def short(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def harmless(text: str) -> str:
    """Text in which nothing controls a terminal or reorders a line: each such character is written
    as its escape, as \\x1b.
    """
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )
