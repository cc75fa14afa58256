"""What calibrates int8 and what judges it: found at once, recorded when there is a tracker."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.footage import Source, find_sources, has_sequences, sequence_source
from calibration.recording import record_sources
from calibration.samples import FACTORS, MIN_SAMPLES, CalibrationSamples, load_samples
from edge_tracker.errors import CalibrationError
from edge_tracker.measure.evaluation.layouts import SequenceFolder, find_sequences
from edge_tracker.options import OnProgress
from edge_tracker.tracker import EdgeTracker

#: Crops of the judging sequences that both networks are compared on.
NUM_JUDGED_CROPS = 128


@dataclass(frozen=True)
class FoundMaterial:
    """samples: of a file; None where they are to be recorded from `sources`. judges: annotated
    sequences of `dataset`; if there are none, `videos`, without ground truth.
    """

    calibration: Path
    samples: CalibrationSamples | None
    sources: tuple[Source, ...]
    dataset: Path
    judges: tuple[SequenceFolder, ...]
    videos: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Material:
    """What calibrates and what judges: `crops` are of the sequences `judges` of `dataset`, or of
    `videos`.
    """

    samples: CalibrationSamples
    dataset: Path
    judges: tuple[str, ...]
    videos: tuple[Source, ...]
    crops: CalibrationSamples


def find_material(calibration: str | Path, judged_on: str | Path | None) -> FoundMaterial:
    """calibration: a folder as for `find_sources`, or a file of samples.

    judged_on: a data set, or a folder of videos; without one, every second annotated sequence of
    the folder judges, and is left out of `sources`. With fewer than two, every second sequence or
    video does, without ground truth.

    Raises CalibrationError or DatasetError for what cannot calibrate or judge.
    """
    calibration = Path(calibration)
    judged_on = Path(judged_on) if judged_on is not None else None
    if calibration.is_file():
        samples = load_samples(calibration)
        if len(samples) < MIN_SAMPLES:
            raise CalibrationError(
                f"{calibration} holds {len(samples)} calibration samples, at least {MIN_SAMPLES} "
                "are needed: record more with edge-tracker calibrate"
            )
        if judged_on is None:
            raise CalibrationError(
                f"{calibration} holds samples without ground truth: name annotated sequences, or "
                "videos, that they are not from, on which int8 is judged, with --judge-on"
            )
        return FoundMaterial(calibration, samples, (), judged_on, *_judges_of(judged_on))
    sources = find_sources(calibration)
    if judged_on is not None:
        return FoundMaterial(calibration, None, tuple(sources), judged_on, *_judges_of(judged_on))
    annotated = {source.name for source in sources if source.kind == "sequence"}
    if len(annotated) < 2:
        moving = [source for source in sources if source.kind != "image"]
        videos = tuple(moving[1::2])
        if not videos:
            raise CalibrationError(
                f"{calibration} has too few sequences and videos ({len(moving)} of {len(sources)} "
                "sources): every second one judges int8, so at least 2 are needed, or a data set "
                "for --judge-on"
            )
        left = tuple(source for source in sources if source not in videos)
        return FoundMaterial(calibration, None, left, calibration, (), videos)
    judges = tuple([s for s in find_sequences(calibration) if s.name in annotated][1::2])
    held_back = {judge.name for judge in judges}
    left = tuple(s for s in sources if s.kind != "sequence" or s.name not in held_back)
    return FoundMaterial(calibration, None, left, calibration, judges)


def record_material(
    tracker: EdgeTracker,
    found: FoundMaterial,
    *,
    num_samples: int,
    seed: int,
    on_progress: OnProgress,
) -> Material:
    """Samples and crops, with a tracker that runs in fp32.

    Raises CalibrationError for samples that are not this tracker's, or too few.
    """
    samples = found.samples
    if samples is None:
        samples = record_sources(
            tracker,
            found.sources,
            str(found.calibration),
            num_samples=num_samples,
            seed=seed,
            on_progress=on_progress,
        )
    else:
        samples.check_sizes(tracker.bundle.spec, found.calibration)
        _check_factors(samples, tracker, found.calibration)
    sources = found.videos or [sequence_source(judge) for judge in found.judges]
    judges = _not_recorded(sources, samples, found.dataset)
    crops = record_sources(
        tracker,
        judges,
        str(found.dataset),
        num_samples=NUM_JUDGED_CROPS,
        seed=seed,
    )
    names = tuple(crops.provenance["sources"])
    videos = tuple(judge for judge in judges if judge.name in names) if found.videos else ()
    return Material(samples, found.dataset, names, videos, crops)


def _judges_of(folder: Path) -> tuple[tuple[SequenceFolder, ...], tuple[Source, ...]]:
    """The annotated sequences of a folder, else its videos."""
    videos: tuple[Source, ...] = ()
    if folder.is_dir() and not has_sequences(folder):
        videos = tuple(source for source in find_sources(folder) if source.kind == "video")
    return ((), videos) if videos else (tuple(find_sequences(folder)), ())


def _check_factors(samples: CalibrationSamples, tracker: EdgeTracker, calibration: Path) -> None:
    """Crops of another scale than the tracker's would calibrate for what it never sees."""
    for name in FACTORS:
        recorded, wanted = samples.provenance["tracker"][name], getattr(tracker.options, name)
        if recorded != wanted:
            raise CalibrationError(
                f"{calibration} was recorded with a {name} of {recorded:g}, this network is "
                f"tracked with {wanted:g}: record samples with a bundle of this network"
            )


def _not_recorded(
    judges: Sequence[Source], samples: CalibrationSamples, dataset: Path
) -> list[Source]:
    """The sequences and videos that samples are not from: int8 would do too well on the others."""
    recorded = samples.provenance["sources"]
    unseen = [judge for judge in judges if judge.name not in recorded]
    if not unseen:
        raise CalibrationError(
            f"samples were recorded from every sequence of {dataset} ({len(judges)}): int8 is "
            "judged on others, name a data set of them with --judge-on"
        )
    if len(unseen) < len(judges):
        warnings.warn(
            f"{len(judges) - len(unseen)} of {len(judges)} sequences of {dataset} do not judge "
            "int8, as samples are from them",
            RuntimeWarning,
            stacklevel=2,
        )
    return unseen
