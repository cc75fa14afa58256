"""The command `edge-tracker`, also `python -m edge_tracker`; a file beside this per subcommand."""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from edge_tracker.cli import (
    bench,
    build,
    calibrate,
    convert,
    demo,
    doctor,
    evaluate,
    inspect,
    track,
    verify,
)
from edge_tracker.cli.arguments import (
    add_verbosity_options,
    boxes_in_one,
    is_stdout,
    refuse_bad_outputs,
)
from edge_tracker.cli.process import Stopped, ending_signals_raise, open_standard_streams
from edge_tracker.errors import EdgeTrackerError
from edge_tracker.files.untrusted import harmless
from edge_tracker.installing import EXTRA_OF, install_command
from edge_tracker.version import __version__

EPILOG = """\
examples:
  edge-tracker demo
  edge-tracker convert mixformerv2_small.pth.tar -o small.bundle
  edge-tracker track small.bundle clip.mp4 --box 310,170,60,80 --save tracked.mp4
  edge-tracker verify small.bundle
  edge-tracker bench small.bundle --html bench.html
  edge-tracker eval small.bundle OTB100/ --html eval.html
  edge-tracker calibrate small.bundle sequences -o samples.npz
  edge-tracker build small.bundle --to tensorrt --precision fp16
  edge-tracker inspect small.bundle
  edge-tracker doctor

exit status: 0 success, 1 failure named on stderr, 2 wrong usage, 130 interrupted by
Ctrl-C, 143 by SIGTERM
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand, return its exit status; wrong usage raises SystemExit(2)."""
    open_standard_streams()
    words = boxes_in_one(sys.argv[1:] if argv is None else argv)
    arguments, unknown = make_parser().parse_known_args(words)
    if unknown:
        arguments.usage_error(_unknown_options(unknown, arguments.options))
    try:
        refuse_bad_outputs(arguments)
        results_printed = any(is_stdout(value) for value in vars(arguments).values())
        with (
            warnings.catch_warnings(),
            _talking(arguments),
            ending_signals_raise(),
            redirect_stdout(sys.stderr) if results_printed else nullcontext(),
        ):
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            status: int = arguments.run(arguments)
        return status
    except BrokenPipeError:  # whoever read the results has left
        return 141
    except Stopped as stopped:
        sys.stderr.write(f"edge-tracker: stopped by {stopped}\n")
        return 128 + stopped.number
    except KeyboardInterrupt:
        sys.stderr.write("edge-tracker: interrupted\n")
        return 130
    except MemoryError as error:
        sys.stderr.write(f"edge-tracker: error: out of memory: {_one_line(error)}\n")
        return 1
    except ModuleNotFoundError as error:
        if (extra := EXTRA_OF.get(str(error.name))) is None:
            raise
        sys.stderr.write(
            f"edge-tracker: error: {arguments.command} needs the Python package {error.name}: "
            f"{install_command(extra)}\n"
        )
        return 1
    except (EdgeTrackerError, ValueError, TypeError, OSError) as error:
        if arguments.debug:
            traceback.print_exc()
        sys.stderr.write(f"edge-tracker: error: {_one_line(error)}\n")
        return 1


def _unknown_options(unknown: Sequence[str], options: Iterable[str]) -> str:
    near = [
        f"{word}: did you mean {close[0]}?"
        for word in unknown
        if (close := get_close_matches(word.partition("=")[0], list(options), 1))
    ]
    return "; ".join([f"unrecognized arguments: {' '.join(unknown)}", *near])


@contextmanager
def _talking(arguments: argparse.Namespace) -> Iterator[None]:
    """As much as is asked for. Progress keeps to the logger's level too: none from ERROR on."""
    logger = logging.getLogger("edge_tracker")
    level, handler = logger.level, logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    if arguments.debug or arguments.verbose:
        logger.setLevel(logging.DEBUG if arguments.debug else logging.INFO)
        logger.addHandler(handler)
    elif arguments.quiet:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def _show_warning(message: Warning | str, *where: object) -> None:
    sys.stderr.write(f"edge-tracker: warning: {harmless(' '.join(str(message).split()))}\n")


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    else:
        text = str(error) or type(error).__name__
    return harmless(" ".join(line.strip() for line in text.splitlines()))


class _Parser(argparse.ArgumentParser):
    """One whose messages, which quote what was given, are harmless."""

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message("\n".join(map(harmless, message.split("\n"))), file)


def make_parser() -> argparse.ArgumentParser:
    """Of all subcommands."""
    run_as_module = Path(sys.argv[0]).name == "__main__.py"
    parser = _Parser(
        prog="python -m edge_tracker" if run_as_module else "edge-tracker",
        description="MixFormerV2 visual tracking on edge devices.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_verbosity_options(parser)
    parser.add_argument("--version", action="version", version=f"edge-tracker {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (
        demo,
        convert,
        calibrate,
        build,
        track,
        bench,
        verify,
        evaluate,
        inspect,
        doctor,
    ):
        command.add_parser(subparsers)
    return parser
