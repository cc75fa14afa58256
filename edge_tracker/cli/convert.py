"""edge-tracker convert: a training checkpoint to a bundle."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edge_tracker.bundle.manifest import PRECISIONS
from edge_tracker.bundle.opening import open_bundle
from edge_tracker.cli.arguments import (
    Subparsers,
    add_json_option,
    add_sample_options,
    add_subcommand,
    finite_float,
    names,
    names_among,
)
from edge_tracker.cli.printing import print_artefacts, print_int8_accuracy, progress_bar, write_json
from edge_tracker.errors import Int8Refused
from edge_tracker.installing import refuse_foreign_companions

if TYPE_CHECKING:
    from calibration.int8 import Int8Options
    from edge_tracker.bundle.opening import Bundle

EXAMPLES = """\
  edge-tracker convert mixformerv2_small.pth.tar -o small.bundle
  edge-tracker convert student.safetensors -o nano.bundle --to onnx,openvino --precision fp32
  edge-tracker convert small.pth.tar -o small.bundle --precision fp32,fp16,int8 \\
      --calibration sequences
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = add_subcommand(
        subparsers,
        "convert",
        run,
        summary="turn a MixFormerV2 checkpoint into a bundle",
        description="Turn a MixFormerV2 checkpoint (.pth.tar, .pth, .safetensors) into a bundle, "
        "and compare each of its models with PyTorch. An old bundle of that name is replaced only "
        "by a complete one. Needs the extra `convert`.",
        examples=EXAMPLES,
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("-o", "--output", type=Path, metavar="BUNDLE", required=True)
    parser.add_argument(
        "--to",
        type=_formats,
        default=("onnx", "openvino"),
        metavar="FORMATS",
        help="comma-separated: onnx, openvino (default: both)",
    )
    parser.add_argument(
        "--precision",
        type=names_among(PRECISIONS),
        default=("fp32", "fp16"),
        metavar="PRECISIONS",
        help="comma-separated: fp32, fp16, int8 (default: fp32,fp16); int8 needs --calibration",
    )
    _add_int8_options(parser)
    add_json_option(parser)


def _add_int8_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "int8", "needs the extra `calibrate`; each model is compared with fp32"
    )
    group.add_argument(
        "--calibration",
        type=Path,
        metavar="DIR_OR_NPZ",
        help="a folder as for `edge-tracker calibrate`, or the samples that it recorded",
    )
    group.add_argument(
        "--judge-on",
        type=Path,
        metavar="DATASET",
        help="annotated sequences or videos that decide (default: every second one of the folder)",
    )
    group.add_argument(
        "--max-auc-drop",
        type=finite_float,
        metavar="D",
        help="refuse a model that loses more success AUC (default 0.01)",
    )
    group.add_argument(
        "--min-iou",
        type=finite_float,
        metavar="F",
        help="without annotations, refuse a model whose boxes overlap fp32's less (default 0.8)",
    )
    group.add_argument(
        "--keep-fp",
        type=names,
        metavar="LAYERS",
        help="comma-separated layers to leave in floating point, for example blocks.0.mlp.fc2",
    )
    add_sample_options(group)


def _formats(text: str) -> tuple[str, ...]:
    """Argument type for formats; engines are made elsewhere."""
    if "tensorrt" in names(text):
        raise argparse.ArgumentTypeError(
            "engines of TensorRT are built from the bundle on the device that runs them: "
            "edge-tracker build BUNDLE --to tensorrt"
        )
    return names_among(("onnx", "openvino"))(text)


def run(arguments: argparse.Namespace) -> int:
    refuse_foreign_companions()
    from converters.convert import convert_checkpoint

    try:
        int8 = _int8_options(arguments)
        with progress_bar("converting", steps=True) as show:
            bundle = convert_checkpoint(
                arguments.checkpoint,
                arguments.output,
                targets=arguments.to,
                precisions=arguments.precision,
                int8=int8,
                on_progress=show,
            )
    except Int8Refused:
        # The bundle is there, without what was refused.
        _show(arguments, open_bundle(arguments.output))
        raise
    _show(arguments, bundle)
    return 0


def _show(arguments: argparse.Namespace, bundle: Bundle) -> None:
    if arguments.json is not None:
        write_json(arguments.json, bundle.manifest)
    print_artefacts(bundle.artefacts)
    print_int8_accuracy(bundle)


#: Option -> field of Int8Options.
INT8_FIELDS = {
    "calibration": "calibration",
    "judge_on": "judged_on",
    "max_auc_drop": "max_auc_drop",
    "min_iou": "min_iou",
    "keep_fp": "keep_fp",
    "samples": "num_samples",
    "seed": "seed",
}


def _int8_options(arguments: argparse.Namespace) -> Int8Options | None:
    given = {
        option: value for option in INT8_FIELDS if (value := getattr(arguments, option)) is not None
    }
    if "int8" not in arguments.precision:
        if given:
            option = next(iter(given)).replace("_", "-")
            arguments.usage_error(
                f"--{option} is for int8: add it to --precision, for example fp32,int8"
            )
        return None
    if "calibration" not in given:
        arguments.usage_error("--precision int8 needs --calibration: name a folder to calibrate on")
    if given["calibration"].is_file() and not given.keys().isdisjoint(("samples", "seed")):
        arguments.usage_error(
            f"--samples and --seed are for recording from a folder: {given['calibration']} is a "
            "file of recorded samples, all of which are used"
        )
    from calibration.int8 import Int8Options

    return Int8Options(**{INT8_FIELDS[option]: value for option, value in given.items()})
