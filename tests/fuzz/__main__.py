"""python -m tests.fuzz [TARGET ...] [--runs N] [--seconds S] [--seed N]: readers fed damaged files.

Prints each target's peak memory and longest time; ends with status 1 at the first fault, whose
input is kept.
"""

from __future__ import annotations

import argparse
import sys

from tests.fuzz.fuzzing import Fault, fuzz
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    names = [target.name for target in TARGETS]
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(names)}")
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(names):
        parser.error(f"unknown target {', '.join(unknown)}: choose from {', '.join(names)}")
    for target in TARGETS:
        if arguments.targets and target.name not in arguments.targets:
            continue
        try:
            print(fuzz(target, arguments.runs, arguments.seconds, arguments.seed), flush=True)
        except Fault as fault:
            print(fault, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
