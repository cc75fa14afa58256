"""Argument types and options that several subcommands share."""

from __future__ import annotations

import argparse
import errno
import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from edge_tracker.backends.choice import backend_names
from edge_tracker.bundle.manifest import PRECISIONS

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
    parser.set_defaults(run=run, usage_error=parser.error)
    return parser


def add_json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write what is printed to FILE, as JSON"
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


#: Names of the arguments, of any subcommand, that are read and that are written. What follows an
#: underscore in the latter tells them from a folder: `output_npz` is --output.
INPUTS = ("checkpoint", "bundle", "source", "dataset", "compare", "calibration", "judge_on")
OUTPUTS = ("output_npz", "save", "csv", "json", "html", "markdown")


def refuse_bad_outputs(arguments: argparse.Namespace) -> None:
    """Raise ValueError or OSError, before any work, for files that cannot be written or must not.

    Refused are files that are read, images and bundles in a folder that is read, one file for two
    purposes, and what is no file.
    """
    named = {name: Path(value) for name in OUTPUTS if (value := getattr(arguments, name, None))}
    read = [Path(value) for name in INPUTS if (value := getattr(arguments, name, None))]
    for name, output in named.items():
        option = name.partition("_")[0]
        file = output.resolve()
        for source in (path.resolve() for path in read if path.exists()):
            if file == source or (source in file.parents and _is_part_of(source, file)):
                raise ValueError(f"--{option} {output} would overwrite what is read: name another")
        if file in [other.resolve() for key, other in named.items() if key != name]:
            raise ValueError(f"--{option} {output} is given for two outputs: name two files")
        if file.is_dir():
            raise ValueError(f"--{option} {output} is a folder: name a file")
        if not file.parent.is_dir():
            reason = f"folder {output.parent} does not exist, create it first"
            raise FileNotFoundError(errno.ENOENT, reason, str(output))


def _is_part_of(folder: Path, file: Path) -> bool:
    """An image of a folder of frames, or anything in a bundle; not an output of an earlier run."""
    from edge_tracker.video.frames import is_image_name

    return file.exists() and (is_image_name(file.name) or (folder / "manifest.json").exists())


def box_xywh(text: str) -> tuple[float, float, float, float]:
    """Argument type for x,y,w,h."""
    try:
        x, y, w, h = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a box: expected x,y,w,h in pixels, for example 310,170,60,80"
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
                    f"{part!r} is no choice here: choose from {', '.join(choices)}"
                )
        return parts

    return chosen


def width_x_height(text: str) -> tuple[int, int]:
    """Argument type for WxH."""
    width, separator, height = text.lower().partition("x")
    if not (separator and width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size: expected WxH in pixels, for example 1280x720"
        )
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
