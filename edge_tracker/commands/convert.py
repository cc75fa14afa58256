"""edge-tracker convert: a training checkpoint to a bundle."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_tracker.commands.arguments import Subparsers, add_json_option, add_subcommand, names
from edge_tracker.errors import EdgeTrackerError

EXAMPLES = """\
  edge-tracker convert mixformerv2_small.pth.tar -o small.bundle
  edge-tracker convert student.safetensors -o nano.bundle --to onnx,openvino --precision fp32
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = add_subcommand(
        subparsers,
        "convert",
        run,
        summary="turn a MixFormerV2 checkpoint into a bundle",
        description="Turn a MixFormerV2 checkpoint (.pth.tar, .pth, .safetensors) into a bundle, "
        "and compare each of its models with PyTorch. An old bundle of that name is replaced only "
        "by a complete one. Needs: pip install 'edge-tracker[convert]'.",
        examples=EXAMPLES,
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("-o", "--output", type=Path, metavar="BUNDLE", required=True)
    parser.add_argument(
        "--to",
        type=names,
        default=("onnx", "openvino"),
        metavar="FORMATS",
        help="comma-separated: onnx, openvino (default: both)",
    )
    parser.add_argument(
        "--precision",
        type=names,
        default=("fp32", "fp16"),
        metavar="PRECISIONS",
        help="comma-separated: fp32, fp16 (default: both)",
    )
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    from edge_tracker.commands.printing import print_artefacts, progress_bar, write_json

    try:
        from converters.convert import convert_checkpoint

        with progress_bar("converting") as show:
            bundle = convert_checkpoint(
                arguments.checkpoint,
                arguments.output,
                targets=arguments.to,
                precisions=arguments.precision,
                on_step=lambda step, index, total: show(index, total, step),
            )
    except ModuleNotFoundError as error:
        raise EdgeTrackerError(
            f"convert needs the Python package {error.name}: pip install 'edge-tracker[convert]'"
        ) from error
    print_artefacts(bundle.artefacts)
    if arguments.json is not None:
        write_json(arguments.json, bundle.manifest)
    return 0
