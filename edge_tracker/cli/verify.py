"""edge-tracker verify: whether a bundle computes on this machine what PyTorch computed."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from edge_tracker.cli.arguments import (
    Subparsers,
    add_artefact_options,
    add_compute_option,
    add_json_option,
    add_subcommand,
)
from edge_tracker.errors import EdgeTrackerError

if TYPE_CHECKING:
    from edge_tracker.measure.verify import ArtefactVerification, Verification

EXAMPLES = """\
  edge-tracker verify small.bundle
  edge-tracker verify small.bundle --backend openvino --precision fp16,int8 --json verified.json
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = add_subcommand(
        subparsers,
        "verify",
        run,
        summary="check that a bundle computes here what PyTorch computed",
        description="Replay the bundle's golden inputs through each of its models that can run "
        "here, compare with PyTorch's outputs, then track a rendered clip and compare the "
        "trajectory with that of the fp32 model. Fails (1) if a limit is exceeded or nothing can "
        "run.",
        examples=EXAMPLES,
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    add_artefact_options(parser)
    add_compute_option(parser, "what each model is made for, and what a tracker takes")
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    from edge_tracker.cli.printing import progress_bar, write_json
    from edge_tracker.measure.verify import verify

    with progress_bar("verifying") as show:
        verification = verify(
            arguments.bundle,
            backends=arguments.backend,
            precisions=arguments.precision,
            computes=arguments.compute,
            device=arguments.device,
            num_threads=arguments.threads,
            on_progress=show,
        )
    if arguments.json is not None:
        write_json(
            arguments.json, {"passed": verification.passed, **dataclasses.asdict(verification)}
        )
    _print(verification)
    if not verification.passed:
        raise EdgeTrackerError("verification failed: " + _failures(verification))
    return 0


def _print(verification: Verification) -> None:
    from edge_tracker.cli.printing import print_table

    columns = ("model", "runs on", "result", "box error", "score error", "edge KL (nats)")
    loop = ("smallest IoU", "mean IoU", "with truth")
    reference = verification.reference or "none: no exact fp32 model runs here"
    print_table(
        "Verified: largest differences from PyTorch (limit), box error in pixels of the search "
        f"crop; and overlap of trajectories over {verification.clip_frames} frames, reference: "
        f"{reference}",
        (*columns, *loop),
        [_row(artefact) for artefact in verification.artefacts],
    )
    reasons = [
        (artefact.artefact, artefact.status, reason)
        for artefact in verification.artefacts
        for reason in artefact.reasons
    ]
    if reasons:
        print_table("Reasons", ("model", "result", "why"), reasons)


def _row(verified: ArtefactVerification) -> tuple[str, ...]:
    parity, limits, loop = verified.parity, verified.parity_limits, verified.closed_loop
    differences = (
        ("", "", "")
        if parity is None
        else (
            f"{parity.box_px:.1e} ({limits.box_px:.3g})",
            f"{parity.score:.1e} ({limits.score:.3g})",
            f"{parity.edge_kl:.1e} ({limits.edge_kl:.3g})",
        )
    )
    overlaps = (
        ("", "", "")
        if loop is None
        else (f"{loop.iou_min:.3f}", f"{loop.iou_mean:.3f}", f"{loop.truth_iou_mean:.3f}")
    )
    place = f"{verified.backend}, {verified.device}" if verified.device else verified.backend
    return (verified.artefact, place, verified.status, *differences, *overlaps)


def _failures(verification: Verification) -> str:
    failed = [
        f"{artefact.artefact}: {', '.join(artefact.reasons)}"
        for artefact in verification.artefacts
        if artefact.status == "failed"
    ]
    if failed:
        return "; ".join(failed)
    return "nothing can run here: " + "; ".join(
        f"{artefact.artefact}: {', '.join(artefact.reasons)}" for artefact in verification.artefacts
    )
