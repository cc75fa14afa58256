"""How many samples each source is asked for, so that those which fall short are made up for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from edge_tracker.rules.crop import Image


class Sample(NamedTuple):
    templates: Image
    search: Image


class Recorded(NamedTuple):
    """Of a source that was asked for `share` samples. fault: why it cannot be used."""

    share: int
    samples: list[Sample]
    fault: str | None = None

    def would_be_the_same(self, share: int) -> bool:
        """Whether the source would give the same if it were asked for so many."""
        gave_all = len(self.samples) < self.share
        return share == self.share or (gave_all and share >= len(self.samples))


def still_to_record(
    num_sources: int, num_samples: int, recorded: Mapping[int, Recorded]
) -> dict[int, int]:
    """Numbers of the sources that are still to be recorded, and how many samples each is asked for.

    What earlier ones fell short of, those after it make up for. A source that is not known yet is
    taken to have all that it is asked for, so one that was recorded may have to be again.
    """
    asked: dict[int, int] = {}
    left = num_samples
    for index in range(num_sources):
        share = -(-left // (num_sources - index))
        known = recorded.get(index)
        if known is not None and known.would_be_the_same(share):
            left -= len(known.samples)
        else:
            asked[index] = share
            left -= share
    return asked
