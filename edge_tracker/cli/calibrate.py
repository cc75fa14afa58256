"""edge-tracker calibrate: samples for int8, recorded from the tracker itself."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_tracker.cli.arguments import (
    Subparsers,
    add_json_option,
    add_sample_options,
    add_subcommand,
    positive_int,
)
from edge_tracker.installing import refuse_foreign_companions

EXAMPLES = """\
  edge-tracker calibrate small.bundle sequences -o samples.npz
  edge-tracker calibrate small.bundle recordings -o samples.npz --samples 512 --seed 1
  edge-tracker calibrate small.bundle /share/LaSOT -o samples.npz --cluster tcp://host:8786
  edge-tracker convert small.pth.tar -o small.bundle --precision fp32,int8 \\
      --calibration samples.npz --judge-on OTB100"""


def add_parser(subparsers: Subparsers) -> None:
    parser = add_subcommand(
        subparsers,
        "calibrate",
        run,
        summary="record samples for int8 from videos",
        description="Track everything in a folder with the bundle's fp32 model, and keep a part of "
        "what its graphs took: templates and search crops, half of these moved as in training. "
        "The folder holds annotated sequences as for eval, or videos and images, each with a text "
        "file of the same name that holds x,y,width,height of its target. What cannot be read is "
        "left out with a warning. The same seed gives the same samples.",
        examples=EXAMPLES,
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("dataset", type=Path, metavar="DIR")
    parser.add_argument(
        "-o", "--output", dest="output_npz", type=Path, metavar="NPZ", required=True, help="samples"
    )
    add_sample_options(parser)
    parser.add_argument("--threads", type=positive_int, metavar="N", help="CPU threads")
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="of a Dask scheduler, as tcp://HOST:8786, whose workers take a sequence, video or "
        "image each (needs distributed)",
    )
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    refuse_foreign_companions()
    from calibration.recording import NUM_SAMPLES, record_samples
    from edge_tracker.cli.printing import (
        megabytes,
        print_line,
        print_table,
        progress_bar,
        write_json,
    )

    wanted = arguments.samples or NUM_SAMPLES
    with progress_bar("recording") as show:
        samples = record_samples(
            arguments.bundle,
            arguments.dataset,
            num_samples=wanted,
            seed=arguments.seed or 0,
            num_threads=arguments.threads,
            cluster=arguments.cluster,
            on_progress=show,
        )
    output = arguments.output_npz
    samples.save(output)
    if arguments.json is not None:
        write_json(arguments.json, samples.provenance)
    counts = samples.provenance["sources"]
    rows = [(name, str(count)) for name, count in counts.items()]
    print_table("Calibration samples", ("source", "samples"), rows)
    size = megabytes(output.stat().st_size)
    fewer = f" (fewer than {wanted}: some sources are short)" if len(samples) < wanted else ""
    print_line(f"{len(samples)} samples{fewer} from {len(counts)} sources in {output} ({size})")
    return 0
