"""How the programs of this package end: an error is a line, an interruption says what is kept."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

from distillation.recipes.recipe import RecipeError
from edge_tracker.errors import EdgeTrackerError


def exit_status(work: Callable[[], object]) -> int:
    """Do it; -> 0, or 1 with the error on standard error, or 130 after Ctrl-C or SIGTERM."""
    console = Console(stderr=True, highlight=False)
    try:
        work()
    except KeyboardInterrupt as interrupt:
        stopped = f"{interrupt}; the same command goes on from there" if interrupt.args else ""
        console.print(stopped or "interrupted", markup=False)
        return 130
    except (EdgeTrackerError, RecipeError, ValueError, OSError) as error:
        console.print(f"error: {error}", markup=False, soft_wrap=True)
        return 1
    return 0
