"""Argument types and options that several subcommands share."""

from __future__ import annotations

import argparse
import errno
import math
import os
import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from edge_tracker.backends.choice import backend_names
from edge_tracker.backends.record import COMPUTES
from edge_tracker.bundle.manifest import PRECISIONS
from edge_tracker.files.outputs import refuse_overlap
from edge_tracker.options import RENDERED_SIDES_PX

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_subcommand(
    subparsers: Subparsers,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    summary: str,
    description: str,
    examples: str,
) -> argparse.ArgumentParser:
    """A subparser that runs `run`, in which `arguments.usage_error(text)` exits with status 2."""
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=textwrap.fill(description, 90),
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_verbosity_options(parser, default=argparse.SUPPRESS)
    # Filled in by what is added to the parser afterwards.
    parser.set_defaults(run=run, usage_error=parser.error, options=parser._option_string_actions)
    return parser


def add_verbosity_options(parser: argparse.ArgumentParser, default: object = False) -> None:
    """Before and after a subcommand; what is not given there must not undo what is given here."""
    for options, words in (
        (("-q", "--quiet"), "say nothing of how far it is; results, warnings and errors stay"),
        (("-v", "--verbose"), "say on stderr what is chosen and why"),
        (("--debug",), "the same in detail, and where in the code a failure comes from"),
    ):
        parser.add_argument(*options, action="store_true", default=default, help=words)


def add_json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="also write what is printed to FILE, as JSON; - is standard output",
    )


def add_artefact_options(
    parser: argparse.ArgumentParser, backends: Sequence[str] | None = None
) -> None:
    """Which of a bundle's models, and where they run, for commands that take several."""
    backends = backends or backend_names()
    parser.add_argument(
        "--backend",
        type=names_among(backends),
        metavar="NAMES",
        help=f"comma-separated: {', '.join(backends)}",
    )
    parser.add_argument(
        "--precision",
        type=names_among(PRECISIONS),
        metavar="PRECISIONS",
        help=f"comma-separated: {', '.join(PRECISIONS)}",
    )
    add_placement_options(parser)


def add_compute_option(parser: argparse.ArgumentParser, unless_told: str) -> None:
    """Several types, to be set side by side. unless_told: the default, in words."""
    parser.add_argument(
        "--compute",
        type=names_among(("auto", *COMPUTES)),
        metavar="TYPES",
        help="types of floating-point arithmetic, comma-separated: "
        f"{', '.join(('auto', *COMPUTES))} (default: {unless_told})",
    )


def add_placement_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", help="the backend's name of a device, for example CPU, GPU, NPU"
    )
    parser.add_argument("--threads", type=positive_int, metavar="N", help="CPU threads")


def add_sample_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """How many calibration samples to record, and which; not given, they are None."""
    parser.add_argument(
        "--samples",
        type=int_from(32),
        metavar="N",
        help="samples to record from a folder, at least 32 (default 256)",
    )
    parser.add_argument(
        "--seed", type=int_from(0), metavar="N", help="of what is recorded (default 0)"
    )


#: Names of the arguments, of any subcommand, that are written. What follows an underscore tells
#: files from a folder of the same option: `output_npz` is --output.
OUTPUT_FILES = ("output_npz", "save", "csv", "json", "html", "markdown")
OUTPUT_FOLDERS = ("output", "results")


def refuse_bad_outputs(arguments: argparse.Namespace) -> None:
    """Raise ValueError or OSError, before any work, for outputs that cannot be written or must not.

    Whatever path is not written is read. No output may be, contain or lie inside what is read or a
    bundle that is written; nor may one file serve two purposes.
    """
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    outputs = {name: given.pop(name) for name in OUTPUT_FILES + OUTPUT_FOLDERS if name in given}
    read = [path for value in given.values() for path in _paths(value)]
    if os.path.exists(source := given.get("source", "")):  # else a camera or an address
        read.append(Path(source))
    for name, output in outputs.items():
        option = f"--{name.partition('_')[0]}"
        if is_stdout(output):
            if name in ("output_npz", "save", *OUTPUT_FOLDERS):
                raise ValueError(f"{option} {output} cannot go to standard output: name a file")
            if sum(map(is_stdout, outputs.values())) > 1:
                raise ValueError(f"{option} {output} is given for two outputs: name two files")
            continue
        refuse_overlap(output, read, option)
        others = {other: path for other, path in outputs.items() if other != name}
        if os.path.realpath(output) in map(os.path.realpath, others.values()):
            raise ValueError(f"{option} {output} is given for two outputs: name two files")
        refuse_overlap(output, [others.get("output")], option, "which is written")
        if name in OUTPUT_FILES:
            _refuse_no_file(output, option)


def is_stdout(path: object) -> bool:
    """Whether an output is to go to standard output, `-`."""
    return isinstance(path, Path) and str(path) in ("-", "/dev/stdout")


def _paths(value: object) -> list[Path]:
    if isinstance(value, (list, tuple)):
        return [path for part in value for path in _paths(part)]
    return [value] if isinstance(value, Path) else []


def _refuse_no_file(output: Path, option: str) -> None:
    if output.is_dir():
        raise ValueError(f"{option} {output} is a folder: name a file")
    # A pattern of images makes its own folder.
    folder = output.parent.parent if "%" in output.name else output.parent
    if not folder.is_dir():
        reason = f"folder {folder} does not exist, create it first"
        raise FileNotFoundError(errno.ENOENT, reason, str(output))


def boxes_in_one(words: Sequence[str]) -> list[str]:
    """Command-line words in which a box given as four, `--box 310 170 60 80`, is one, and joined to
    its option, as a box may begin with a minus sign.
    """
    joined: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--box" and len(rest) >= 4 and all(map(_is_number, rest[:4])):
            word, rest = f"--box={','.join(rest[:4])}", rest[4:]
        elif word == "--box" and rest and rest[0].startswith("-") and "," in rest[0]:
            word = f"--box={rest.pop(0)}"
        joined.append(word)
    return joined


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def box_xywh(text: str) -> tuple[float, float, float, float]:
    """Argument type for x,y,w,h."""
    try:
        x, y, w, h = (float(part) for part in re.split(r"\s*,\s*|\s+", text.strip()))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a box: expected x,y,w,h in pixels, for example 310,170,60,80 or "
            "310 170 60 80"
        ) from None
    return x, y, w, h


def names(text: str) -> tuple[str, ...]:
    """Argument type for a,b,c."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name: expected names like a,b")
    return parts


def names_among(choices: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Argument type for a,b,c of these choices."""

    def chosen(text: str) -> tuple[str, ...]:
        parts = names(text)
        for part in parts:
            if part not in choices:
                raise argparse.ArgumentTypeError(
                    f"{part!r} is not one of the choices: choose from {', '.join(choices)}"
                )
        return parts

    return chosen


def width_x_height(text: str) -> tuple[int, int]:
    """Argument type for WxH."""
    width, separator, height = text.lower().partition("x")
    if not (separator and width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size: expected WxH in pixels, for example 1280x720"
        )
    least, most = RENDERED_SIDES_PX
    if not all(least <= int(side) <= most for side in (width, height)):
        raise argparse.ArgumentTypeError(f"{text!r}: each side is to be from {least} to {most} px")
    return int(width), int(height)


def positive_float(text: str) -> float:
    """Argument type for a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def seconds(text: str) -> float:
    """Argument type for a time, 12.5 or 1:02:03.5."""
    parts = text.split(":")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = [math.nan]
    if len(parts) > 3 or not all(0 <= value < 1e9 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: expected such as 12.5 or 1:30")
    return float(sum(value * 60**power for power, value in enumerate(reversed(values))))


def finite_float(text: str) -> float:
    """Argument type for a number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number, such as 0.01")
    return value


def int_from(least: int) -> Callable[[str], int]:
    """Argument type for a whole number of at least so much."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return number


positive_int = int_from(1)


def positive_ints(text: str) -> tuple[int, ...]:
    """Argument type for 1,2,4."""
    return tuple(positive_int(part) for part in names(text))
