"""What a conversion needs of whoever makes int8 of its graphs: a converter is given one, and knows
none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from converters.draft import Draft
from converters.progress import Progress
from edge_tracker.bundle.goldens import Golden


class Quantisation(Protocol):
    """One conversion's int8, ready to begin."""

    @property
    def steps(self) -> Sequence[str]:
        """What `add` does, as `progress` is told."""
        ...

    def add(
        self, draft: Draft, golden: Golden, metadata: Mapping[str, str], progress: Progress
    ) -> list[str]:
        """Add an int8 artefact of each format to a written draft that holds the fp32 ones, and
        write it; -> why some were refused, a sentence each and one of what to do; empty if none
        was.

        metadata: what the models' own files are to say.
        """
        ...


class Quantiser(Protocol):
    @property
    def inputs(self) -> Sequence[Path]:
        """What it reads: no output may take its place."""
        ...

    def prepare(self, formats: Sequence[str]) -> Quantisation:
        """Find what calibrates and judges, before anything is exported."""
        ...
