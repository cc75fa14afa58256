"""edge-tracker bench: latency of a bundle's models on this machine."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_tracker.cli.arguments import (
    Subparsers,
    add_artefact_options,
    add_compute_option,
    add_json_option,
    add_subcommand,
    positive_float,
    positive_int,
    positive_ints,
    width_x_height,
)
from edge_tracker.errors import EdgeTrackerError
from edge_tracker.files.untrusted import read_json, reading

#: Of --profile long: the camera's run, and its rate unless another is given.
LONG_CAMERA_S = 600.0
LONG_CAMERA_FPS = 30.0

if TYPE_CHECKING:
    from edge_tracker.measure.bench.comparison import Comparison
    from edge_tracker.measure.bench.report import BenchReport

EXAMPLES = """\
  edge-tracker bench small.bundle
  edge-tracker bench small.bundle --duration 60 --frame 1280x720 --target-fps 30 --html bench.html
  edge-tracker bench small.bundle --backend openvino --precision fp32 --profile long
  edge-tracker bench small.bundle --backend openvino --threads 2 --json new.json --compare old.json
  edge-tracker bench new.json --compare old.json
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = add_subcommand(
        subparsers,
        "bench",
        run,
        summary="measure a bundle's latency on this machine",
        description="Measure init() and update() of each model that can run here, in turns: per "
        "stage, percentiles, cold start, memory. Says whether the figures can be trusted, and "
        "recommends the fastest model whose error, verified here, is within its limits. Fails (1) "
        "if nothing could be measured.",
        examples=EXAMPLES,
    )
    parser.add_argument(
        "bundle",
        type=Path,
        metavar="BUNDLE",
        help="or the .json of an earlier run, to compare it without measuring",
    )
    add_artefact_options(parser)
    add_compute_option(parser, "what each model is made for, and what a tracker takes")
    parser.add_argument(
        "--duration",
        type=positive_float,
        default=10.0,
        metavar="S",
        help="seconds of updates per model (default 10; on a device that can throttle, 60)",
    )
    parser.add_argument(
        "--iterations", type=positive_int, metavar="N", help="updates per model, not seconds"
    )
    parser.add_argument(
        "--frame",
        type=width_x_height,
        default=(640, 480),
        metavar="WxH",
        help="size of the frames (default 640x480)",
    )
    parser.add_argument(
        "--target-fps", type=positive_float, metavar="F", help="also play a camera of this rate"
    )
    parser.add_argument(
        "--profile",
        choices=("short", "long"),
        default="short",
        help="long: play a camera for ten minutes per model, at 30 frames/s unless --target-fps "
        "says otherwise, with temperature, clocks and energy over time",
    )
    parser.add_argument(
        "--targets",
        type=positive_ints,
        default=(),
        metavar="N,N",
        help="also track so many targets at once, such as 1,2,4,8",
    )
    parser.add_argument(
        "--no-cold-start", action="store_true", help="leave out the starts in fresh processes"
    )
    add_json_option(parser)
    parser.add_argument("--html", type=Path, metavar="FILE", help="report as one page, with plots")
    parser.add_argument(
        "--compare", type=Path, metavar="OLD", help="JSON of an earlier run: print new / old"
    )


def run(arguments: argparse.Namespace) -> int:
    from edge_tracker.cli.printing import progress_bar, write_json, write_text
    from edge_tracker.measure.bench.benchmark import benchmark
    from edge_tracker.measure.bench.comparison import compare_reports
    from edge_tracker.measure.bench.page import bench_page

    older = _read_report("older", arguments.compare) if arguments.compare is not None else None
    if arguments.bundle.suffix == ".json":
        if older is None:
            raise EdgeTrackerError(
                f"{arguments.bundle} is a report: add --compare OLD.json, or give a bundle"
            )
        _print_comparison(compare_reports(older, _read_report("newer", arguments.bundle)))
        return 0
    width, height = arguments.frame
    long = arguments.profile == "long"
    _say_how_long(arguments)
    with progress_bar("benchmark") as show:
        report = benchmark(
            arguments.bundle,
            backends=arguments.backend,
            precisions=arguments.precision,
            computes=arguments.compute,
            device=arguments.device,
            num_threads=arguments.threads,
            duration_s=arguments.duration,
            iterations=arguments.iterations,
            frame_width=width,
            frame_height=height,
            target_fps=arguments.target_fps or (LONG_CAMERA_FPS if long else None),
            camera_s=LONG_CAMERA_S if long else None,
            targets=arguments.targets,
            cold_starts=0 if arguments.no_cold_start else 3,
            on_progress=show,
        )
    if arguments.json is not None:
        write_json(arguments.json, report)
    if arguments.html is not None:
        write_text(arguments.html, bench_page(report))
    _print(report)
    if not report.artefacts:
        raise EdgeTrackerError(
            "nothing could be measured: "
            + "; ".join(f"{failure.what}: {failure.reason}" for failure in report.failures)
        )
    if older is not None:
        _print_comparison(compare_reports(older, dataclasses.asdict(report)))
    return 0


#: A fresh start of a model, of which six are measured, and its verification: roughly.
START_S, VERIFY_S = 2, 3


def _say_how_long(arguments: argparse.Namespace) -> None:
    """Before the first figure comes, which is long."""
    from edge_tracker.backends.record import Placement
    from edge_tracker.bundle.opening import open_bundle
    from edge_tracker.cli.printing import note
    from edge_tracker.measure.rows import rows_to_measure

    models = len(
        rows_to_measure(
            open_bundle(arguments.bundle),
            arguments.backend,
            arguments.precision,
            arguments.compute,
            Placement(arguments.device, arguments.threads),
        )
    )
    starts = 0 if arguments.no_cold_start else 6
    camera_s = arguments.duration if arguments.target_fps is not None else 0.0
    if arguments.profile == "long":
        camera_s = LONG_CAMERA_S
    elif arguments.iterations is not None:
        note(f"{models} models, {arguments.iterations} updates and {starts} fresh starts of each")
        return
    each_s = arguments.duration + camera_s + starts * START_S + VERIFY_S
    note(
        f"{models} models, each {arguments.duration:g} s of updates, {camera_s:g} s of a camera "
        f"and {starts} fresh starts: about "
        f"{models * each_s / 60:.1f} min in all, longer where starting takes over {START_S} s"
    )


def _read_report(which: str, path: Path) -> Any:
    with reading(f"the {which} report {path}", "give what bench --json wrote", EdgeTrackerError):
        return read_json(path)


def _print(report: BenchReport) -> None:
    from edge_tracker.cli.printing import print_line, print_table
    from edge_tracker.measure.bench.tables import tables_of

    for table in tables_of(report):
        print_table(table.title, table.columns, table.rows)
    for warning in report.warnings:
        print_line(f"warning: {warning}")
    for failure in report.failures:
        print_line(f"not measured: {failure.what}: {failure.reason}")
    print_line(f"measuring adds {report.overhead_us:.1f} us to an update")
    chosen = report.recommendation
    print_line(f"recommended: {chosen.artefact or 'none'}: {chosen.reason}")


def _print_comparison(comparison: Comparison) -> None:
    from edge_tracker.cli.printing import print_line, print_table

    rows = [
        (
            entry.artefact,
            entry.figure,
            f"{entry.old:.3f}",
            f"{entry.new:.3f}",
            f"{entry.ratio:.3f}",
            entry.verdict,
        )
        for entry in comparison.ratios
    ]
    columns = ("model", "figure", "old ms", "new ms", "new / old", "by 95 % intervals")
    print_table("Compared", columns, rows)
    for difference in comparison.differences:
        print_line(f"not the same: {difference}")
