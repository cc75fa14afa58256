"""Every reader, for a moment, on damaged files; `make fuzz` is the long run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.fuzzing import Fault, fuzz
from tests.fuzz.targets import TARGETS, Target


@pytest.mark.parametrize("target", [t for t in TARGETS if not t.slow], ids=lambda t: t.name)
def test_damaged_files_are_refused_by_name(target: Target) -> None:
    done = fuzz(target, runs=300, seconds=2.0, seed=1)
    assert done.runs > 0


def test_whole_files_are_read(tmp_path: Path) -> None:
    for target in TARGETS:
        if target.slow or target.name == "run":  # a run of another recipe is refused
            continue
        for seed in target.make_seeds(tmp_path):
            file = tmp_path / "whole" / target.name / target.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(seed.read_bytes())
            target.read(file)


def test_a_fault_is_found_and_its_file_kept(tmp_path: Path) -> None:
    def careless(path: Path) -> None:
        if path.read_bytes() != b"whole":
            raise ZeroDivisionError("found")

    def seeds(folder: Path) -> list[Path]:
        (folder / "seed").write_bytes(b"whole")
        return [folder / "seed"]

    target = Target("careless", "file", seeds, careless)
    with pytest.raises(Fault, match="careless: ZeroDivisionError: found; input kept: "):
        fuzz(target, runs=100, seconds=10.0, seed=1)
