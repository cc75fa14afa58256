"""edge-tracker doctor: what this machine can run, and why not the rest."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edge_tracker.cli.arguments import Subparsers, add_json_option, add_subcommand
from edge_tracker.errors import BackendUnavailable

if TYPE_CHECKING:
    from edge_tracker.measure.doctor import Diagnosis


def add_parser(subparsers: Subparsers) -> None:
    parser = add_subcommand(
        subparsers,
        "doctor",
        run,
        summary="what this machine can run, and why not the rest",
        description="Show Python, packages, CPU features, NVIDIA GPUs, and for each backend "
        "whether it can run here or what to do about it. With a bundle also what would run it, in "
        "the type of arithmetic that it takes. Fails (1) if no backend can run.",
        examples="  edge-tracker doctor\n  edge-tracker doctor small.bundle --json machine.json",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", nargs="?")
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    from edge_tracker.cli.printing import write_json
    from edge_tracker.measure.doctor import diagnose

    diagnosis = diagnose()
    if arguments.json is not None:
        write_json(arguments.json, diagnosis)
    _print(diagnosis)
    if arguments.bundle is not None:
        _print_choice(arguments.bundle)
    if not any(backend.available for backend in diagnosis.backends):
        raise BackendUnavailable(
            "no backend can run here: "
            + " or ".join(b.remedy for b in diagnosis.backends if b.remedy)
        )
    return 0


def _print_choice(bundle: Path) -> None:
    from edge_tracker.cli.printing import print_table
    from edge_tracker.tracker import EdgeTracker

    with EdgeTracker(bundle) as tracker:
        reasons = [reason.partition(": ") for reason in tracker.choice.reasons]
    rows = [(backend, words) for backend, _, words in reasons]
    print_table("What runs this bundle", ("backend", "why"), rows)


def _print(diagnosis: Diagnosis) -> None:
    from edge_tracker.cli.printing import print_line, print_table

    cpu, nvidia = diagnosis.cpu, diagnosis.nvidia
    machine = [
        ("edge-tracker", diagnosis.edge_tracker),
        ("Python", f"{diagnosis.python}, {diagnosis.executable}"),
        ("system", f"{diagnosis.system}, {diagnosis.architecture}"),
        ("board", diagnosis.board),
        ("CPU", f"{cpu.model}, {cpu.usable_cores} of {cpu.cores} cores usable"),
        ("NVIDIA driver", nvidia.driver),
        ("Jetson Linux", nvidia.l4t),
        ("CUDA", nvidia.cuda),
    ]
    machine += [("GPU", f"{gpu.name} (SM {gpu.compute_capability})") for gpu in nvidia.devices]
    print_table("Machine", ("", ""), [(name, value) for name, value in machine if value])
    features = [(f.flag, "yes" if f.present else "no", f.purpose) for f in cpu.features]
    if features:
        print_table("CPU features", ("feature", "here", "what for"), features)
    packages = [(p.module, p.version or "-", p.distribution or "") for p in diagnosis.packages]
    print_table("Packages", ("module", "version", "installed as"), packages)
    backends = [
        (b.backend, "yes" if b.available else "no", b.found, b.remedy or "")
        for b in diagnosis.backends
    ]
    for warning in diagnosis.warnings:
        print_line(f"warning: {warning}")
    print_table("Backends", ("backend", "can run", "devices, or why not", "remedy"), backends)
