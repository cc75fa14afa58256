"""Several sources of samples as one, each drawn as often as its weight says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distillation.data.sample import Sample, SampleSource


class MixedSource:
    """Sample number i is sample number i of one source, chosen by i alone."""

    def __init__(
        self, sources: Sequence[SampleSource], weights: Sequence[float], *, seed: int
    ) -> None:
        self.sources, self.seed = sources, seed
        self._chances = np.cumsum(weights) / np.sum(weights)

    def render(self, index: int) -> Sample:
        chance = np.random.default_rng((self.seed, 0x6D6978, index)).random()
        return self.sources[int(np.searchsorted(self._chances, chance, side="right"))].render(index)
