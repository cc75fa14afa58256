"""One target fed with damaged seeds, and what that took."""

from __future__ import annotations

import random
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from edge_tracker.errors import EdgeTrackerError
from tests.fuzz.mutations import mutated
from tests.fuzz.targets import Target


class Fault(Exception):
    """A reader raised what is not the project's error."""


@dataclass(frozen=True)
class Fuzzed:
    """read: files that were accepted. peak_mib: of the process; grown_mib: since whole files were
    read.
    """

    name: str
    runs: int
    read: int
    longest_s: float
    peak_mib: float
    grown_mib: float

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.runs} damaged files, {self.read} read, the others refused "
            f"by name; longest {self.longest_s * 1e3:.0f} ms, peak {self.peak_mib:.0f} MiB, "
            f"{self.grown_mib:.0f} of them for damaged files"
        )


def fuzz(target: Target, runs: int, seconds: float, seed: int) -> Fuzzed:
    """Raises Fault."""
    chance = random.Random(seed)
    until = time.monotonic() + seconds
    read, longest_s, done = 0, 0.0, 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        seeds = [path.read_bytes() for path in target.make_seeds(Path(name))]
        file = Path(name) / "damaged" / target.file
        file.parent.mkdir(parents=True)
        for content in seeds:  # whole ones first, so that the peak is of what damage adds
            _read(target, file, content)
        before = _peak_mib()
        while done < runs and time.monotonic() < until:
            content = mutated(chance.choice(seeds), chance.choice(seeds), chance)
            began = time.perf_counter()
            read += _read(target, file, content)
            longest_s = max(longest_s, time.perf_counter() - began)
            done += 1
    return Fuzzed(target.name, done, read, longest_s, _peak_mib(), _peak_mib() - before)


def _read(target: Target, file: Path, content: bytes) -> bool:
    file.write_bytes(content)
    refusals: tuple[type[Exception], ...] = (EdgeTrackerError, *target.errors)
    try:
        target.read(file)
    except refusals:
        return False
    except Exception as error:
        kept = Path(tempfile.gettempdir()) / f"fault-{target.name}{file.suffix}"
        kept.write_bytes(content)
        raise Fault(
            f"{target.name}: {type(error).__name__}: {error}; input kept: {kept}"
        ) from error
    return True


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
