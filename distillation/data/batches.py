"""From samples to batches: what batch number s holds depends on s alone, so a resumed run sees the
same.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from distillation.data.sample import SampleSource
from distillation.networks.convolutional_teacher import ConvolutionalTeacher
from distillation.networks.stem_features import StemFeatures
from distillation.recipes.recipe import RecipeError

#: After so many batches a sample comes back: rendering costs half as much as training on it.
REUSE_AFTER_BATCHES = 16
#: Batches that are made ahead of time, over all workers.
PREFETCHED_BATCHES = 16


class Batch(NamedTuple):
    """templates: (B, 2, Ht, Wt, 3), search: (B, Hs, Ws, 3), uint8 BGR; edges: (B, 4); present: (B,)
    bool. Of a frozen stem, in place of the images, its float16 features: (B, 2, Nt, F), (B, Ns, F).

    features: (B', grid * grid, channels) of the convolutional teacher for the first B' samples, or
    None.
    """

    templates: Tensor
    search: Tensor
    edges: Tensor
    present: Tensor
    features: Tensor | None


class Batches(Dataset[Batch]):
    """uses: one part in `uses` of each batch is new; the others are earlier batches' samples, every
    second time mirrored. Features of a stem cannot be mirrored, and come back as they are.

    So many parameters because workers are sent all that they need.
    """

    def __init__(
        self,
        open_source: Callable[[], SampleSource],
        batch_size: int,
        teacher: ConvolutionalTeacher | None,
        *,
        stem: StemFeatures | None = None,
        uses: int = 1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size % (uses * world):
            raise RecipeError(
                f"a batch of {batch_size} does not divide by {world} processes"
                + (f" into {uses} parts" if uses > 1 else "")
            )
        self.open_source = open_source
        self._source: SampleSource | None = None
        self.teacher, self.stem = teacher, stem
        self.uses = uses
        self.rank, self.world = rank, world
        self.new_samples = batch_size // world // uses
        self._rendered: dict[int, Batch] = {}

    def __getitem__(self, step: int) -> Batch:
        parts = []
        for use in range(self.uses):
            part = self._new_samples(step - use * REUSE_AFTER_BATCHES)
            parts.append(_mirrored(part) if use % 2 and self.stem is None else part)
        templates, search, edges, present, _ = zip(*parts, strict=True)
        return Batch(
            torch.cat(templates),
            torch.cat(search),
            torch.cat(edges),
            torch.cat(present),
            parts[0].features,
        )

    def _new_samples(self, step: int) -> Batch:
        if step not in self._rendered:
            self._rendered[step] = self._render(step)
            oldest = step - (self.uses - 1) * REUSE_AFTER_BATCHES
            for passed in [number for number in self._rendered if number < oldest]:
                del self._rendered[passed]
        return self._rendered[step]

    def _render(self, step: int) -> Batch:
        if self._source is None:
            self._source = self.open_source()
        # Steps before the first have negative numbers, which indices must not have.
        first = (
            (step + (self.uses - 1) * REUSE_AFTER_BATCHES) * self.world + self.rank
        ) * self.new_samples
        samples = [self._source.render(first + i) for i in range(self.new_samples)]
        search = np.stack([s.search for s in samples])
        features = None if self.teacher is None else self.teacher.features(search)
        templates = np.stack([[s.template, s.online_template] for s in samples])
        seen_templates, seen_search = torch.from_numpy(templates), torch.from_numpy(search)
        if self.stem is not None:
            seen_templates = torch.stack([self.stem(pair) for pair in templates])
            seen_search = self.stem(search)
        return Batch(
            seen_templates,
            seen_search,
            torch.from_numpy(np.stack([s.edges for s in samples])),
            torch.tensor([s.present for s in samples]),
            None if features is None else torch.from_numpy(features),
        )


def _mirrored(batch: Batch) -> Batch:
    edges = batch.edges.clone()
    edges[:, [0, 2]] = (1 - batch.edges[:, [2, 0]]) * batch.present[:, None]
    return batch._replace(
        templates=batch.templates.flip(3), search=batch.search.flip(2), edges=edges
    )


def batch_loader(
    batches: Batches, first_step: int, last_step: int, workers: int, *, pinned: bool = False
) -> DataLoader[Batch]:
    """Batches first_step .. last_step - 1, made ahead of time by worker processes."""
    return DataLoader(
        batches,
        batch_size=None,
        sampler=range(first_step, last_step),
        num_workers=workers,
        pin_memory=pinned,
        prefetch_factor=max(2, PREFETCHED_BATCHES // workers) if workers else None,
        worker_init_fn=_use_one_thread,
        # Not a fork: libraries that have started threads do not survive one.
        multiprocessing_context="spawn" if workers else None,
    )


def _use_one_thread(worker: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    # Ctrl-C, and a SIGTERM to the group, reach all processes; the main one ends the workers once it
    # has saved.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
