"""python -m distillation.presence: the numbers by which a bundle tells whether the target is there.

Tracks annotated footage, and footage made of it in which the target goes away, and fits a logistic
regression to what each frame shows: does the box overlap the target by more than half? It is
cross-validated by group of footage. The network must not have been trained on the footage, or it is
too sure of itself there: of real tracks, those that training keeps out are taken.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from distillation.absence import (
    PERIOD,
    Footage,
    MadeSequence,
    covered,
    cut_out,
    footage_of,
    jerked,
    real,
)
from distillation.data.tracks import DecodedFrames, Track, read_tracks
from distillation.exit_status import exit_status
from edge_tracker.bundle.manifest import parse_presence, presence_content
from edge_tracker.errors import DatasetError
from edge_tracker.files.atomic_file import replacing
from edge_tracker.files.untrusted import read_json
from edge_tracker.measure.evaluation.ground_truth import read_sequence
from edge_tracker.measure.evaluation.layouts import find_sequences
from edge_tracker.measure.evaluation.long_term import FOUND_IOU, LOST_IOU
from edge_tracker.rules.boxes import Box, box_iou
from edge_tracker.rules.presence import PresenceFeatures
from edge_tracker.rules.presence_model import PresenceModel
from edge_tracker.tracker import EdgeTracker

Floats = NDArray[np.float64]
MADE = (real, covered, cut_out, jerked)
FALSE_ALARMS = 0.05
#: Share of the frames without the target in which recovery would take something else for it.
FALSE_RECOVERIES = 0.01
#: Overlap that stands for an absent target.
ABSENT = -1.0
#: Frames from one change to the next in tracks, which are short and thinned.
TRACK_PERIOD = 16
FOLDS = 10


class Frames(NamedTuple):
    """A row for each frame: FEATURES, (frames, len(FEATURES)); overlap with the target, ABSENT
    where there is none; which footage, of one target or several; how it was made.
    """

    features: Floats
    overlaps: Floats
    groups: NDArray[np.str_]
    kinds: NDArray[np.str_]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--tracks", type=Path, metavar="FOLDER", help="real tracks; those that training keeps out"
    )
    source.add_argument(
        "--sequences", type=Path, metavar="DATASET", help="as for `edge-tracker eval`"
    )
    parser.add_argument("--max-frames", type=int, metavar="N", help="of each sequence")
    parser.add_argument("--backend", default="auto")
    purpose = parser.add_mutually_exclusive_group(required=True)
    purpose.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="JSON",
        help="NAME.presence.json beside the checkpoint NAME.*, where `convert` finds it",
    )
    purpose.add_argument(
        "--judge", type=Path, metavar="JSON", help="say how well these numbers tell, and fit none"
    )
    options = parser.parse_args(argv)
    if options.tracks is not None:
        footage = footage_of_tracks(read_tracks(options.tracks, "validation"))
    else:
        footage = footage_of_sequences(options.sequences, options.max_frames)
    console = Console()
    with EdgeTracker(
        options.bundle, backend=options.backend, num_threads=1, compute=None
    ) as tracker:
        frames = record(tracker, footage)
    if options.judge is not None:
        model = parse_presence(read_json(options.judge))
        told = np.array([model(row) for row in frames.features.tolist()])
        for line in describe(frames, told):
            console.print(line, highlight=False)
        return
    for line in describe(frames, cross_validated(frames)):
        console.print(line, highlight=False)
    with replacing(options.output) as temporary:
        content = presence_content(fit(frames))
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def footage_of_tracks(tracks: Sequence[Track]) -> Iterator[tuple[str, MadeSequence]]:
    """Group, and what is made of a track of it, from the first frame that shows the target on."""
    decoded = DecodedFrames()
    for track in tracks:
        first = int(np.argmax(track.visible))

        def read_frame(index: int, track: Track = track, first: int = first) -> NDArray[np.uint8]:
            return decoded.read(track, first + index).copy()

        part = Footage(track.name, track.boxes_xywh[first:], read_frame)
        yield from ((track.group, make(part, TRACK_PERIOD)) for make in MADE)


def footage_of_sequences(
    dataset: Path, max_frames: int | None
) -> Iterator[tuple[str, MadeSequence]]:
    """Each sequence is a group of its own. Raises DatasetError."""
    for found in find_sequences(dataset):
        part = footage_of(read_sequence(found, max_frames))
        yield from ((part.name, make(part, PERIOD)) for make in MADE)


def record(tracker: EdgeTracker, footage: Iterator[tuple[str, MadeSequence]]) -> Frames:
    """Track everything from its first box."""
    rows: list[tuple[float, ...]] = []
    overlaps: list[float] = []
    groups: list[str] = []
    kinds: list[str] = []
    for group, made in footage:
        for features, overlap in _frames_of(tracker, made):
            rows.append(features)
            overlaps.append(overlap)
            groups.append(group)
            kinds.append(made.kind)
    return Frames(np.array(rows), np.array(overlaps), np.array(groups), np.array(kinds))


def _frames_of(
    tracker: EdgeTracker, made: MadeSequence
) -> Iterator[tuple[tuple[float, ...], float]]:
    for index, (frame, truth) in enumerate(zip(made.frames(), made.truth_xywh, strict=True)):
        box: Box = tuple(truth.tolist())
        if index == 0:
            tracker.init(frame, box)
            measuring = PresenceFeatures(frame, box)
            continue
        result = tracker.update(frame)
        features = measuring.measure(frame, result.box, result.score, result.edge_std_px)
        yield features, ABSENT if np.isnan(truth).any() else box_iou(result.box, box)


def fit(frames: Frames) -> PresenceModel:
    """Raises DatasetError where the tracker finds its target always, or never."""
    found = _found(frames)
    scaler, regression = _fitted(frames, np.ones(len(found), bool)).named_steps.values()
    weights = regression.coef_[0] / scaler.scale_
    intercept = float(regression.intercept_[0] - weights @ scaler.mean_)
    presence = 1 / (1 + np.exp(-(frames.features @ weights + intercept)))
    return PresenceModel(
        intercept=intercept,
        weights=tuple(weights.tolist()),
        found_presence=float(np.quantile(presence[found], FALSE_ALARMS)),
        false_alarms=FALSE_ALARMS,
        regained_presence=float(
            np.quantile(presence[frames.overlaps <= LOST_IOU], 1 - FALSE_RECOVERIES)
        ),
    )


def cross_validated(frames: Frames) -> Floats:
    """Log-odds that the target is found, (frames,), each by a fit without its group."""
    log_odds = np.zeros(len(frames.overlaps))
    folds = GroupKFold(min(FOLDS, len(np.unique(frames.groups))))
    for rest, chosen in folds.split(frames.features, groups=frames.groups):
        members = np.zeros(len(log_odds), bool)
        members[rest] = True
        log_odds[chosen] = _fitted(frames, members).decision_function(frames.features[chosen])
    return log_odds


def describe(frames: Frames, presence: Floats) -> Iterator[str]:
    """What the score tells alone, and what presence does, (frames,)."""
    yield f"{len(frames.overlaps)} frames of {len(np.unique(frames.groups))} groups"
    for kind in ("all", *np.unique(frames.kinds)):
        chosen = np.full(len(presence), kind == "all") | (frames.kinds == kind)
        yield f"  {kind}: {int((frames.overlaps[chosen] == ABSENT).sum())} without the target"
        for name, values in (("score alone", frames.features[:, 0]), ("presence", presence)):
            yield f"    {name}: {_separation(values[chosen], frames.overlaps[chosen])}"


def _separation(values: Floats, overlaps: Floats) -> str:
    """ROC AUC of found against the rest, and how many frames without the target a threshold with
    FALSE_ALARMS among the found ones tells.
    """
    found, absent = overlaps > FOUND_IOU, overlaps == ABSENT
    if found.all() or not found.any():
        return "found in all frames or none"
    words = f"ROC AUC {roc_auc_score(found, values):.3f}"
    if absent.any():
        told = (values[absent] < np.quantile(values[found], FALSE_ALARMS)).mean()
        words += f", {told:.1%} of them told at {FALSE_ALARMS:.0%} false alarms"
    return words


def _found(frames: Frames) -> NDArray[np.bool_]:
    found = frames.overlaps > FOUND_IOU
    if found.all() or not found.any():
        raise DatasetError(
            "the tracker finds its target in all frames or in none: there is nothing to tell apart"
        )
    return found


def _fitted(frames: Frames, members: NDArray[np.bool_]) -> Pipeline:
    """Groups weigh by the root of their frames, found ones and others for themselves."""
    found = _found(frames)
    weights = np.zeros(len(found))
    for group in np.unique(frames.groups[members]):
        for label in (False, True):
            alike = members & (frames.groups == group) & (found == label)
            weights[alike] = 1 / np.sqrt(max(1, alike.sum()))
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(
        frames.features[members],
        found[members],
        logisticregression__sample_weight=weights[members],
    )
    return model


if __name__ == "__main__":
    sys.exit(exit_status(main))
