"""edge-tracker convert: a training checkpoint to a bundle."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edge_tracker.bundle import PRECISIONS
from edge_tracker.commands.arguments import (
    Subparsers,
    add_json_option,
    add_subcommand,
    names,
    names_among,
    positive_int,
)
from edge_tracker.errors import EdgeTrackerError

if TYPE_CHECKING:
    from calibration.int8 import Int8Options
    from edge_tracker.bundle import Bundle

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
        "by a complete one. Needs: pip install 'edge-tracker[convert]'.",
        examples=EXAMPLES,
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("-o", "--output", type=Path, metavar="BUNDLE", required=True)
    parser.add_argument(
        "--to",
        type=names_among(("onnx", "openvino")),
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
        "int8", "needs: pip install 'edge-tracker[calibrate]'; each model is compared with fp32"
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
        help="annotated sequences that decide (default: every second one of the folder)",
    )
    group.add_argument(
        "--max-auc-drop",
        type=float,
        default=0.01,
        metavar="D",
        help="refuse a model that loses more success AUC (default 0.01)",
    )
    group.add_argument(
        "--keep-fp",
        type=names,
        default=(),
        metavar="LAYERS",
        help="comma-separated layers to leave in floating point, for example blocks.0.mlp.fc2",
    )
    group.add_argument(
        "--samples",
        type=positive_int,
        default=256,
        metavar="N",
        help="samples to record from a folder (default 256)",
    )
    group.add_argument("--seed", type=int, default=0, help="of the samples (default 0)")


def run(arguments: argparse.Namespace) -> int:
    from edge_tracker.commands.printing import print_artefacts, progress_bar, write_json

    try:
        from converters.convert import convert_checkpoint

        int8 = _int8_options(arguments)
        with progress_bar("converting") as show:
            bundle = convert_checkpoint(
                arguments.checkpoint,
                arguments.output,
                targets=arguments.to,
                precisions=arguments.precision,
                int8=int8,
                on_step=lambda step, index, total: show(index, total, step),
            )
    except ModuleNotFoundError as error:
        extra = "calibrate" if error.name == "nncf" else "convert"
        raise EdgeTrackerError(
            f"convert needs the Python package {error.name}: pip install 'edge-tracker[{extra}]'"
        ) from error
    print_artefacts(bundle.artefacts)
    _print_accuracy(bundle)
    if arguments.json is not None:
        write_json(arguments.json, bundle.manifest)
    return 0


def _int8_options(arguments: argparse.Namespace) -> Int8Options | None:
    asked = "int8" in arguments.precision
    if asked != (arguments.calibration is not None):
        arguments.usage_error(
            "--precision int8 and --calibration go together: name a folder to calibrate on"
            if asked
            else "--calibration is for int8: add it to --precision, for example fp32,int8"
        )
    if not asked:
        return None
    from calibration.int8 import Int8Options

    return Int8Options(
        calibration=arguments.calibration,
        judged_on=arguments.judge_on,
        max_auc_drop=arguments.max_auc_drop,
        keep_fp=arguments.keep_fp,
        num_samples=arguments.samples,
        seed=arguments.seed,
    )


def _print_accuracy(bundle: Bundle) -> None:
    """What int8 costs, where the bundle has it."""
    from edge_tracker.commands.printing import print_table

    rows, count = [], 0
    for entry in bundle.manifest["artefacts"]:
        if (a := entry.get("accuracy")) is None:
            continue
        count = len(a["sequences"])
        rows.append(
            (
                f"{entry['format']}/{entry['precision']}",
                f"{a['auc_int8']:.3f} ({a['auc_fp32']:.3f})",
                f"{a['ao_int8']:.3f} ({a['ao_fp32']:.3f})",
                f"{a['trajectory_iou_mean']:.3f}, {a['trajectory_iou_worst']:.3f}",
                f"{a['box_px_mean']:.2f}, {a['box_px_max']:.1f}",
                f"{a['score_mean']:.3f}, {a['score_max']:.3f}",
                f"{a['edge_kl_mean']:.4f}, {a['edge_kl_max']:.2f}",
                f"{a['latency_ratio']:.2f} ({a['backend']})",
            )
        )
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
        print_table(f"int8 against fp32 on {count} sequences held back", columns, rows)
