"""edge-tracker build: engines for this device from a bundle's ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_tracker.bundle.manifest import PRECISIONS
from edge_tracker.cli.arguments import Subparsers, add_json_option, add_subcommand, positive_int
from edge_tracker.installing import refuse_foreign_companions

EXAMPLES = """\
  edge-tracker build small.bundle --to tensorrt
  edge-tracker build small.bundle --to tensorrt --precision int8 --workspace 1024
  edge-tracker build small.bundle --to tensorrt --compute-capability 8.6      (no GPU needed)
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = add_subcommand(
        subparsers,
        "build",
        run,
        summary="build TensorRT engines from a bundle, on the device that will run them",
        description="Build both TensorRT engines from the bundle's ONNX models and add them to the "
        "bundle. Needs tensorrt (part of JetPack) or tensorrt_rtx, but no PyTorch. Engines belong "
        "to one GPU and TensorRT version. Takes minutes on a Jetson. Then measure what was built: "
        "edge-tracker verify BUNDLE.",
        examples=EXAMPLES,
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--to", choices=("tensorrt",), default="tensorrt", help="(default)")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp16",
        help="of the ONNX models to build from (default: fp16)",
    )
    parser.add_argument(
        "--workspace", type=positive_int, metavar="MB", help="GPU memory the builder may try out"
    )
    parser.add_argument(
        "--max-targets",
        type=positive_int,
        default=1,
        metavar="N",
        help="engines that take 1 to N targets at once (default: 1, all that EdgeTracker needs)",
    )
    parser.add_argument(
        "--compute-capability",
        metavar="X.Y",
        help="build ahead for all GPUs of this capability; TensorRT for RTX only",
    )
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    refuse_foreign_companions()
    from converters.tensorrt.build import build
    from converters.tensorrt.engine_builder import BuildOptions
    from edge_tracker.cli.printing import print_artefacts, progress_bar, write_json

    options = BuildOptions(
        precision=arguments.precision,
        workspace_mb=arguments.workspace,
        max_targets=arguments.max_targets,
        compute_capability=arguments.compute_capability,
    )
    with progress_bar("building") as show:
        bundle = build(
            arguments.bundle,
            options,
            on_progress=show,
        )
    if arguments.json is not None:
        write_json(arguments.json, bundle.manifest)
    print_artefacts(bundle.artefacts)
    return 0
