"""Recording calibration samples from the tracker itself, so that they are exactly what it feeds."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, cast

import cv2
import numpy as np

from calibration.footage import Source, find_sources
from calibration.samples import MIN_SAMPLES, CalibrationSamples
from calibration.shares import Recorded, Sample, still_to_record
from edge_tracker.backends.choice import artefacts_for
from edge_tracker.bundle.opening import Bundle
from edge_tracker.errors import CalibrationError, EdgeTrackerError
from edge_tracker.measure.evaluation.cluster import Cluster, open_cluster
from edge_tracker.options import OnProgress, tell_nobody
from edge_tracker.rules.boxes import Box, box_iou, checked_box
from edge_tracker.rules.crop import Image, crop_square, crop_template
from edge_tracker.rules.online_template import OnlineTemplate
from edge_tracker.tracker import EdgeTracker

NUM_SAMPLES = 256
#: Half of the search crops are moved and scaled as in training, smaller than there: by so many
#: roots of the box's area, and by exp of so much; standard deviations.
JITTER_CENTRE = 0.3
JITTER_SIZE = 0.2
#: Where the true box is known, a tracker that overlaps it less has lost it, and starts anew.
LOST_IOU = 0.1


class _Moment(NamedTuple):
    """A frame, the box around which the target is looked for in it, and both templates."""

    frame: Image
    box: Box
    templates: Image


#: Sources, and how many samples some of them are asked for, by their numbers -> what was recorded
#: of some of these, by number.
_Record = Callable[[Sequence[Source], Mapping[int, int]], Iterator[tuple[int, Recorded]]]


def record_samples(
    bundle: str | Path | Bundle,
    folder: str | Path,
    *,
    num_samples: int = NUM_SAMPLES,
    seed: int = 0,
    backend: str = "auto",
    num_threads: int | None = None,
    cluster: str | None = None,
    on_progress: OnProgress = tell_nobody,
) -> CalibrationSamples:
    """Track everything in a folder with the bundle's fp32 artefact, and keep what its graphs took.

    folder: see `footage.find_sources`. num_samples: in all, the same number from each source as far
    as it has frames, drawn evenly over its length; memory does not grow with the videos. The same
    seed, folder and bundle give the same samples. cluster: address of a Dask scheduler, whose
    workers take a source each; they are sent the bundle, and the folder must have the same path on
    all machines. on_progress: called before each source with its number, how many there are, and
    its name; on a cluster, after each. A source that cannot be used is left out with a
    RuntimeWarning.

    Raises CalibrationError for a folder with nothing usable, or too few frames; ValueError for too
    few samples asked for or a negative seed; what EdgeTracker raises if there is no fp32 artefact
    that runs here, and `open_cluster` if the cluster is of no use.

    So many parameters because each is an option of `edge-tracker calibrate`.
    """
    sources = find_sources(Path(folder) if cluster is None else Path(folder).absolute())
    with (
        EdgeTracker(
            bundle, backend=backend, precision="fp32", num_threads=num_threads, compute="f32"
        ) as tracker,
        ExitStack() as stack,
    ):
        record: _Record | None = None
        if cluster is not None:
            backend = tracker.choice.backend
            used = artefacts_for(tracker.bundle, backend, "fp32")
            workers = stack.enter_context(open_cluster(cluster, tracker.bundle, used))
            task = _OnWorker(backend, num_threads, seed)
            record = partial(_record_on, workers, task, on_progress)
        return record_sources(
            tracker,
            sources,
            str(folder),
            num_samples=num_samples,
            seed=seed,
            record=record,
            on_progress=on_progress,
        )


def record_sources(
    tracker: EdgeTracker,
    sources: Sequence[Source],
    origin: str,
    *,
    num_samples: int = NUM_SAMPLES,
    seed: int = 0,
    record: _Record | None = None,
    on_progress: OnProgress = tell_nobody,
) -> CalibrationSamples:
    """As `record_samples`, from these sources, with a tracker that runs in fp32.

    origin: names the sources in messages. record: records in the tracker's place.

    So many parameters because most are options that are handed on.
    """
    if num_samples < MIN_SAMPLES:
        raise ValueError(
            f"{num_samples} samples are asked for: calibration needs at least {MIN_SAMPLES}"
        )
    if seed < 0:
        raise ValueError(f"seed {seed} is negative: give a whole number from 0")
    # What one source falls short of, those after it make up for; an image has a sample or two.
    sources = sorted(sources, key=lambda source: source.kind != "image")
    record = record or partial(_record_here, tracker, seed, on_progress)
    recorded: dict[int, Recorded] = {}
    while asked := still_to_record(len(sources), num_samples, recorded):
        for index, outcome in record(sources, asked):
            recorded[index] = outcome
            if outcome.fault is not None:
                words = f"{sources[index].name} is left out: {outcome.fault}"
                warnings.warn(words, RuntimeWarning, stacklevel=2)
    usable = {i: recorded[i] for i in sorted(recorded) if recorded[i].fault is None}
    kept = [sample for outcome in usable.values() for sample in outcome.samples]
    counts = {sources[index].name: len(outcome.samples) for index, outcome in usable.items()}
    if len(kept) < MIN_SAMPLES:
        raise CalibrationError(
            f"{origin} gives {len(kept)} samples from {len(counts)} of {len(sources)} "
            f"sequences, videos and images: at least {MIN_SAMPLES} are needed, {NUM_SAMPLES} are "
            "good; add more, or longer ones"
        )
    return CalibrationSamples(
        templates=np.stack([sample.templates for sample in kept]),
        search=np.stack([sample.search for sample in kept]),
        provenance={
            "checkpoint_sha256": tracker.bundle.source.sha256,
            "edge_tracker": version("edge-tracker"),
            "seed": seed,
            "sources": counts,
            "tracker": asdict(tracker.options),
        },
    )


def _record_here(
    tracker: EdgeTracker,
    seed: int,
    on_progress: OnProgress,
    sources: Sequence[Source],
    asked: Mapping[int, int],
) -> Iterator[tuple[int, Recorded]]:
    """The first alone: what it has decides how much the next ones are asked for."""
    index, share = next(iter(asked.items()))
    on_progress(index, len(sources), sources[index].name)
    yield index, _record(tracker, sources[index], share, seed)


def _record_on(
    cluster: Cluster,
    task: _OnWorker,
    on_progress: OnProgress,
    sources: Sequence[Source],
    asked: Mapping[int, int],
) -> Iterator[tuple[int, Recorded]]:
    """All of them."""
    items = [(index, sources[index], share) for index, share in asked.items()]
    known = len(sources) - len(asked)
    for done, (index, outcome) in enumerate(cluster.run(task, _lost, items), 1):
        on_progress(known + done, len(sources), sources[index].name)
        yield index, outcome


def _lost(item: tuple[int, Source, int], reason: str) -> tuple[int, Recorded]:
    index, _, share = item
    return index, Recorded(share, [], reason)


@dataclass(frozen=True)
class _OnWorker:
    """Records a source with a tracker of its own."""

    backend: str
    num_threads: int | None
    seed: int

    def __call__(self, item: tuple[int, Source, int], bundle: Path | None) -> tuple[int, Recorded]:
        index, source, share = item
        with EdgeTracker(
            cast(Path, bundle),
            backend=self.backend,
            precision="fp32",
            num_threads=self.num_threads,
            compute="f32",
        ) as tracker:
            return index, _record(tracker, source, share, self.seed)


def _record(tracker: EdgeTracker, source: Source, share: int, seed: int) -> Recorded:
    try:
        return Recorded(share, _record_source(tracker, source, share, seed))
    except (EdgeTrackerError, ValueError, cv2.error) as error:
        return Recorded(share, [], str(error))


def _record_source(tracker: EdgeTracker, source: Source, count: int, seed: int) -> list[Sample]:
    """`count` samples of a source or all it has: a reservoir, so that each frame has the same
    chance and no more than `count` are held.
    """
    rng = np.random.default_rng((seed, zlib.crc32(source.name.encode())))
    reservoir: dict[int, Sample] = {}
    moments = _still_moments if source.kind == "image" else _tracked_moments
    for number, moment in enumerate(moments(tracker, source)):
        slot = number if number < count else int(rng.integers(number + 1))
        # Drawn for every moment, so that what is kept does not depend on what others look like.
        jitter = rng.normal(0, (JITTER_CENTRE, JITTER_CENTRE, JITTER_SIZE))
        is_moved = rng.random() < 0.5
        if slot < count:
            around = _moved(moment.box, *jitter) if is_moved else moment.box
            reservoir[slot] = Sample(moment.templates, _search(tracker, moment.frame, around))
    return [reservoir[slot] for slot in sorted(reservoir)]


def _tracked_moments(tracker: EdgeTracker, source: Source) -> Iterator[_Moment]:
    """Each frame after the first, with the box around which the tracker searches it."""
    options = tracker.options
    box: Box | None = None
    for frame, true_box in source.frames():
        if box is None:
            if true_box is not None:
                box = true_box
                tracker.init(frame, box)
                template = _template(tracker, frame, box)
                online = OnlineTemplate(template, options.update_interval, options.update_score)
            continue
        yield _Moment(frame, box, np.stack([template, online.current]))
        result = tracker.update(frame)
        box = result.box
        online.observe(result.score, partial(_template, tracker, frame, box))
        if true_box is not None and box_iou(box, true_box) < LOST_IOU:
            box = None


def _still_moments(tracker: EdgeTracker, source: Source) -> Iterator[_Moment]:
    """Each target of an image, looked for in the same image."""
    for frame, box in source.frames():
        if box is not None:
            box = checked_box(box, *frame.shape[:2])
            template = _template(tracker, frame, box)
            yield _Moment(frame, box, np.stack([template, template]))


def _template(tracker: EdgeTracker, frame: Image, box: Box) -> Image:
    return crop_template(frame, box, tracker.options, tracker.bundle.spec.template_size_px)


def _search(tracker: EdgeTracker, frame: Image, box: Box) -> Image:
    factor, size_px = tracker.options.search_factor, tracker.bundle.spec.search_size_px
    return crop_square(frame, box, factor, size_px)[0]


def _moved(box: Box, right: float, down: float, log_scale: float) -> Box:
    """Moved by so many roots of the box's area, and scaled about its centre."""
    x, y, w, h = box
    unit, scale = (w * h) ** 0.5, float(np.exp(log_scale))
    centre_x, centre_y = x + w / 2 + right * unit, y + h / 2 + down * unit
    w, h = w * scale, h * scale
    return centre_x - w / 2, centre_y - h / 2, w, h
