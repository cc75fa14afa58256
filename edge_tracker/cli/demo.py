"""edge-tracker demo: the shipped network on a rendered clip, from checkpoint to tracked video."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_tracker.backends.choice import backend_names
from edge_tracker.cli.arguments import Subparsers, add_subcommand, int_from
from edge_tracker.installing import refuse_foreign_companions

#: One full turn of the rendered scene.
FRAMES = 240


def add_parser(subparsers: Subparsers) -> None:
    parser = add_subcommand(
        subparsers,
        "demo",
        run,
        summary="convert the shipped network and track a rendered clip with it",
        description="Render a clip in which every true box is known, convert the network that "
        "comes with this package, track, measure and draw. Takes about a minute.",
        examples="  edge-tracker demo\n  edge-tracker demo -o /tmp/demo --backend onnxruntime",
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("demo_output"), metavar="FOLDER",
        help="where the bundle, videos and boxes go (default: demo_output)",
    )  # fmt: skip
    parser.add_argument(
        "--frames", type=int_from(2), default=FRAMES, metavar="N",
        help=f"length of the clip, at least 2 (default {FRAMES})",
    )  # fmt: skip
    parser.add_argument("--backend", choices=("auto", *backend_names()), default="auto")


def run(arguments: argparse.Namespace) -> int:
    refuse_foreign_companions()
    from edge_tracker.cli import rendered_demo

    rendered_demo.run(arguments.output, arguments.frames, arguments.backend)
    return 0
