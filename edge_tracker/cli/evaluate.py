"""edge-tracker eval: accuracy on an annotated data set."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_tracker.backends.choice import backend_names
from edge_tracker.cli.arguments import (
    Subparsers,
    add_artefact_options,
    add_compute_option,
    add_json_option,
    add_subcommand,
    names,
    names_among,
    positive_int,
)
from edge_tracker.files.untrusted import harmless
from edge_tracker.installing import refuse_foreign_companions
from edge_tracker.options import RECOVERIES

if TYPE_CHECKING:
    from edge_tracker.measure.evaluation.contenders import Contender

EXAMPLES = """\
  edge-tracker eval small.bundle OTB100 --results results --html report.html
  edge-tracker eval small.bundle sequences --precision fp32,int8
  edge-tracker eval small.bundle sequences --compute f32,bf16
  edge-tracker eval small.bundle sequences --camera-fps 30 --threads 2
  edge-tracker eval small.bundle /share/LaSOT --cluster tcp://host:8786 --threads 1
  edge-tracker eval small.bundle sequences --peer nanotrack:peers/nanotrack_v2 \\
      --peer pytorch:mixformerv2_small.pth.tar

What is named first is what the others are compared with, sequence by sequence: the mean difference
of success AUC and its 95 % interval. With --results, a second
run goes on where the first one was interrupted.
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = add_subcommand(
        subparsers,
        "eval",
        run,
        summary="accuracy on an annotated data set",
        description="Track every sequence of DATASET from its first box (one-pass evaluation) and "
        "print success AUC, precision, normalised precision, AO, SR0.5, SR0.75 and speed. Layouts "
        "of OTB, LaSOT, GOT-10k, UAV123, TrackingNet, VOT and plain folders are recognised. Fails "
        "(1) if a sequence cannot be used, after evaluating the others.",
        examples=EXAMPLES,
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("dataset", type=Path, metavar="DATASET")
    parser.add_argument(
        "--layout", metavar="NAME", help="otb, lasot, got10k, uav123, trackingnet, vot or plain"
    )
    parser.add_argument(
        "--sequences", type=names, metavar="NAMES", help="only these; patterns such as 'car*' too"
    )
    parser.add_argument(
        "--max-frames", type=positive_int, metavar="N", help="of each sequence, from its start"
    )
    add_artefact_options(parser, ("auto", *backend_names()))
    add_compute_option(parser, "what each model is made for")
    parser.add_argument(
        "--recovery",
        type=names_among(RECOVERIES),
        metavar="KINDS",
        help="comma-separated: off, local, frame; where a lost target is looked for (default: as "
        "the bundle says)",
    )
    parser.add_argument(
        "--peer",
        type=_peer,
        action="append",
        default=[],
        metavar="KIND:PATH",
        help="also evaluate nanotrack:FOLDER (OpenCV's TrackerNano) or pytorch:CHECKPOINT "
        "(PyTorch, whole network)",
    )
    parser.add_argument(
        "--camera-fps",
        type=float,
        metavar="F",
        help="play a camera of this rate: frames that come while the tracker is busy are skipped",
    )
    parser.add_argument(
        "--jobs", type=positive_int, default=1, metavar="N", help="processes (needs joblib)"
    )
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="of a Dask scheduler, as tcp://HOST:8786, whose workers take a sequence each "
        "(needs distributed)",
    )
    parser.add_argument(
        "--results", type=Path, metavar="FOLDER", help="keep boxes as the official toolkits do"
    )
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="report with plots and the worst sequences"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the tables as Markdown")
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    from edge_tracker.cli.printing import (
        print_line,
        print_table,
        progress_bar,
        write_json,
        write_text,
    )
    from edge_tracker.measure.evaluation.evaluate import evaluate
    from edge_tracker.measure.evaluation.page import to_html
    from edge_tracker.measure.evaluation.tables import (
        conditions,
        overall_table,
        presence_table,
        sequence_table,
        to_json,
        to_markdown,
    )

    with progress_bar("evaluating") as show:
        evaluation = evaluate(
            arguments.bundle,
            arguments.dataset,
            layout=arguments.layout,
            only=arguments.sequences,
            max_frames=arguments.max_frames,
            backends=arguments.backend or ("auto",),
            precisions=arguments.precision or (None,),
            computes=arguments.compute or (None,),
            recoveries=arguments.recovery or (None,),
            device=arguments.device,
            num_threads=arguments.threads,
            peers=[_open_peer(kind, path, arguments) for kind, path in arguments.peer],
            results=arguments.results,
            camera_fps=arguments.camera_fps,
            jobs=arguments.jobs,
            cluster=arguments.cluster,
            on_progress=show,
        )
    if arguments.json is not None:
        write_json(arguments.json, to_json(evaluation))
    if arguments.markdown is not None:
        write_text(arguments.markdown, to_markdown(evaluation))
    if arguments.html is not None:
        write_text(arguments.html, to_html(evaluation))
    print_table("Sequences", *sequence_table(evaluation))
    print_table("Overall, means over sequences", *overall_table(evaluation))
    if (presence := presence_table(evaluation)) is not None:
        print_table("Presence: does it know that the target is gone", *presence)
    print_line(conditions(evaluation))
    for failure in evaluation.failures:
        tracker = "" if failure.contender is None else f"{failure.contender}: "
        reason = harmless(f"{tracker}{' '.join(failure.reason.split())}")
        sys.stderr.write(f"edge-tracker: error: {reason}\n")
    return 1 if evaluation.failures else 0


def _peer(text: str) -> tuple[str, Path]:
    """Argument type for KIND:PATH."""
    kind, _, path = text.partition(":")
    if kind not in ("nanotrack", "pytorch") or not path:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a peer: expected nanotrack:FOLDER or pytorch:CHECKPOINT"
        )
    return kind, Path(path)


def _open_peer(kind: str, path: Path, arguments: argparse.Namespace) -> Contender:
    if arguments.cluster is not None:
        path = path.absolute()
    if kind == "nanotrack":
        from edge_tracker.measure.evaluation.contenders import NanoTrackContender

        return NanoTrackContender(path)
    refuse_foreign_companions()
    from edge_tracker.bundle.opening import open_bundle
    from mixformerv2.pytorch_tracker import PyTorchContender

    return PyTorchContender(path, open_bundle(arguments.bundle).tracker_defaults, arguments.threads)
