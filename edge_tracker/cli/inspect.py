"""edge-tracker inspect: what is in a bundle, and whether its files are whole."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from edge_tracker.cli.arguments import Subparsers, add_json_option, add_subcommand

if TYPE_CHECKING:
    from edge_tracker.bundle.opening import Bundle
    from edge_tracker.bundle.spec import ConvStem


#: Sources of calibration samples that are shown; all are in the JSON.
SOURCES_NAMED = 20


def add_parser(subparsers: Subparsers) -> None:
    parser = add_subcommand(
        subparsers,
        "inspect",
        run,
        summary="what is in a bundle, and whether its files are whole",
        description="Show a bundle's network, models, differences from PyTorch and origin, and "
        "check each file against its size and sha256. Fails (1) if one is missing or altered.",
        examples="  edge-tracker inspect small.bundle\n"
        "  edge-tracker inspect small.bundle --json manifest.json",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    from edge_tracker.bundle.manifest import stored_bytes
    from edge_tracker.bundle.opening import open_bundle
    from edge_tracker.cli.printing import (
        megabytes,
        print_artefacts,
        print_int8_accuracy,
        print_table,
        write_json,
    )

    bundle = open_bundle(arguments.bundle)
    bundle.check_files(list(bundle.files))
    if arguments.json is not None:
        write_json(arguments.json, bundle.manifest)
    print_table("Network", ("", ""), _network_rows(bundle))
    print_artefacts(bundle.artefacts)
    print_int8_accuracy(bundle)
    count = len(bundle.files)
    total_bytes = stored_bytes(bundle.files.values())
    print_table(
        "Bundle",
        ("", ""),
        [
            ("path", str(bundle.path)),
            (
                "files",
                f"{count}, all as listed in the manifest, {megabytes(total_bytes)}",
            ),
            *dataclasses.asdict(bundle.source).items(),
            *_calibration_rows(bundle),
            ("made with", ", ".join(f"{k} {v}" for k, v in bundle.tools.items())),
        ],
    )
    return 0


def _calibration_rows(bundle: Bundle) -> list[tuple[str, str]]:
    calibration = bundle.calibration
    if calibration is None:
        return []
    counts = list(calibration.sources.items())
    named = ", ".join(name for name, _ in counts[:SOURCES_NAMED])
    if len(counts) > SOURCES_NAMED:
        named += f" and {len(counts) - SOURCES_NAMED} more"
    samples = sum(count for _, count in counts)
    words = f"{samples} samples of {named}; seed {calibration.seed}"
    return [("int8 calibrated on", words)]


def _network_rows(bundle: Bundle) -> list[tuple[str, str]]:
    spec, options = bundle.spec, bundle.tracker_defaults
    geometry = {field.name: str(getattr(spec, field.name)) for field in dataclasses.fields(spec)}
    geometry["stem"] = stem_in_words(spec.stem)
    return [
        *geometry.items(),
        *((field.name, str(getattr(options, field.name))) for field in dataclasses.fields(options)),
    ]


def stem_in_words(stem: ConvStem | None) -> str:
    if stem is None:
        return "none, a patch embedding"
    stages = "; ".join(
        f"{stage.blocks} x {stage.kernel_px} px to {stage.channels}, stride {stage.stride}, "
        f"expansion {stage.expansion}"
        for stage in stem.stages
    )
    fine = ", features at stride 8 mixed in" if stem.fine else ""
    return f"convolution to {stem.channels} channels, then blocks: {stages}{fine}"
