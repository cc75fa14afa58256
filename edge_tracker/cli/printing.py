"""Tables on stdout, progress on a terminal's stderr, and JSON files."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from edge_tracker.cli.arguments import is_stdout
from edge_tracker.files.atomic_file import replacing
from edge_tracker.files.untrusted import harmless
from edge_tracker.options import OnProgress, tell_nobody

if TYPE_CHECKING:
    from edge_tracker.bundle.manifest import Artefact, Int8Accuracy
    from edge_tracker.bundle.opening import Bundle

# Wide enough that no cell is folded where a program or a file reads it.
PIPE_WIDTH = 240


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text; a column whose cells are all numbers is aligned to the right. Where a
    terminal is too narrow for whole words side by side, each row is a list of its own.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    class PatientConsole(Console):
        def on_broken_pipe(self) -> None:
            """Not to end the process, as rich would."""
            raise BrokenPipeError

    console = PatientConsole(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
    is_list = len(columns) == 2 and not any(columns)
    ends: set[int] = set()
    widths = None if is_list else _widths(columns, rows, console.width)
    if len(columns) > 2 and widths is None:
        ends = {len(columns) * (number + 1) - 1 for number in range(len(rows))}
        rows = [pair for row in rows for pair in zip(columns, row, strict=True)]
        columns = ("", "")
        widths = _widths(columns, rows, console.width)

    # As Text, so that square brackets in paths and messages are not taken for markup.
    table = Table(
        title=Text(harmless(title), style="table.title"), title_justify="left",
        show_header=any(columns),
    )  # fmt: skip
    for index, column in enumerate(columns):
        numeric = not ends and all(row[index][:1].isdigit() for row in rows)
        table.add_column(
            Text(harmless(column)),
            justify="right" if numeric else "left",
            overflow="fold",
            width=widths[index] if widths else None,
            # The names of a list stay whole in a narrow terminal.
            no_wrap=index == 0 and is_list,
        )
    for number, row in enumerate(rows):
        table.add_row(*(Text(harmless(cell)) for cell in row), end_section=number in ends)
    with _reader_may_leave():
        console.print(table)


def _widths(
    columns: Sequence[str], rows: Sequence[Sequence[str]], console_width: int
) -> list[int] | None:
    """Of each column, so that no word is split; None where there is no room for that."""
    available = console_width - 3 * len(columns) - 1
    cells_of = list(zip(columns, *rows, strict=True))
    natural = [max(len(harmless(cell)) for cell in cells) for cells in cells_of]
    widths = [
        max(len(word) for cell in cells for word in (harmless(cell).split() or [""]))
        for cells in cells_of
    ]
    if sum(widths) > available:
        return None
    # What is left goes to those that are folded, a character each in turn.
    while sum(widths) < available and widths != natural:
        for index, wanted in enumerate(natural):
            if widths[index] < wanted and sum(widths) < available:
                widths[index] += 1
    return widths


def print_line(text: str) -> None:
    """Print one line, in which nothing controls a terminal."""
    with _reader_may_leave():
        print(harmless(text))


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """What is printed after the reader of a pipe has left (`| head`) goes nowhere: the work that
    it tells of goes on.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def write_json(path: Path, content: object) -> None:
    """Write dataclasses, dicts, lists and scalars; the file is complete or not there."""
    if dataclasses.is_dataclass(content) and not isinstance(content, type):
        content = dataclasses.asdict(content)
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file; it is complete or not there. Bytes of names that are not UTF-8 are
    escaped, as \\udcff, which JSON reads back.
    """
    if is_stdout(path):
        with standard_output() as file:
            file.write(text)
        return
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def standard_output() -> TextIO:
    """The process's own, also while tables are sent elsewhere."""
    return open(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")


def print_artefacts(artefacts: Sequence[Artefact]) -> None:
    """The models of a bundle, and the largest differences from PyTorch measured for each."""
    rows = []
    for artefact in artefacts:
        parity = artefact.parity
        differences = (
            ("not measured", "", "")
            if parity is None
            else (f"{parity.box_px:.1e} px", f"{parity.score:.1e}", f"{parity.edge_kl:.1e}")
        )
        rows.append(
            (artefact.format, artefact.precision, megabytes(artefact.size_bytes), *differences)
        )
    columns = (
        "format",
        "precision",
        "size",
        "box error (search crop)",
        "score error",
        "edge KL (nats)",
    )
    print_table("Models, and their largest differences from PyTorch", columns, rows)


def print_int8_accuracy(bundle: Bundle) -> None:
    """What int8 costs, where the bundle has it."""
    rows, title = [], ""
    for artefact in bundle.artefacts:
        if (accuracy := artefact.accuracy) is None:
            continue
        title = _judged_on(accuracy)
        rows.append((artefact.name, *_accuracy_cells(accuracy)))
    if rows:
        columns = (
            "model",
            "AUC (fp32)",
            "AO (fp32)",
            "IoU with fp32's boxes: mean, worst sequence",
            "box error px: mean, max",
            "score error: mean, max",
            "edge KL: mean, max",
            "times as fast",
        )
        print_table(title, columns, rows)


def _judged_on(a: Int8Accuracy) -> str:
    held_back = f"int8 against fp32 on {len(a.sequences)}"
    if a.auc_drop is not None:
        return f"{held_back} sequences held back"
    return (
        f"{held_back} videos without annotations: how near it stays to fp32 is judged, whether "
        "either follows the target is not"
    )


def _accuracy_cells(a: Int8Accuracy) -> tuple[str, ...]:
    return (
        _int8_and_fp32(a.auc_int8, a.auc_fp32),
        _int8_and_fp32(a.ao_int8, a.ao_fp32),
        f"{a.trajectory_iou_mean:.3f}, {a.trajectory_iou_worst:.3f}",
        f"{a.box_px_mean:.2f}, {a.box_px_max:.1f}",
        f"{a.score_mean:.3f}, {a.score_max:.3f}",
        f"{a.edge_kl_mean:.4f}, {a.edge_kl_max:.2f}",
        f"{a.latency_ratio:.2f} ({a.backend})",
    )


def _int8_and_fp32(int8: float | None, fp32: float | None) -> str:
    return "not judged" if int8 is None else f"{int8:.3f} ({fp32:.3f})"


def megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"


def is_quiet() -> bool:
    return not logging.getLogger("edge_tracker").isEnabledFor(logging.WARNING)


def note(text: str) -> None:
    """Say on stderr what goes on; nothing with --quiet."""
    if not is_quiet():
        sys.stderr.write(f"edge-tracker: {harmless(text)}\n")
        sys.stderr.flush()


def _tell_steps() -> OnProgress:
    told = -1

    def tell(done: int, total: int | None, words: str) -> None:
        nonlocal told
        if done != told:
            note(f"step {done + 1} of {total}: {words}")
        told = done

    return tell


@contextmanager
def progress_bar(description: str, *, steps: bool = False) -> Iterator[OnProgress]:
    """Give an OnProgress. It draws on stderr, if that is a terminal; else, with `steps`, each step
    is a line there. With --quiet it does neither.
    """
    if is_quiet():
        yield tell_nobody
        return
    if not sys.stderr.isatty():
        yield _tell_steps() if steps else tell_nobody
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[words]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=None, words="")

        def show(done: int, total: int | None, words: str) -> None:
            progress.update(task, completed=done, total=total, words=escape(harmless(words)))

        yield show
