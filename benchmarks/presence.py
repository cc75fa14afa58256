"""Whether the target is there: what the score alone tells, and what a frame tells besides.

Tracks annotated sequences, and sequences made of them (benchmarks/absence.py), and fits a logistic
regression on what each frame gives anyway. Cross-validated by sequence. Found: IoU above 0.5.
Needs scikit-learn.

    python -m benchmarks.presence BUNDLE DATASET [--max-frames 500] [--same-footage a,b ...]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.absence import MAKERS, MadeSequence
from edge_tracker import EdgeTracker
from edge_tracker.measure.evaluation.ground_truth import read_sequence
from edge_tracker.measure.evaluation.layouts import find_sequences
from edge_tracker.rules.boxes import Box, box_iou
from edge_tracker.rules.crop import Image, crop_square

Floats = NDArray[np.float64]
FEATURES = ("logit", "spread", "jump", "scale jump", "similarity", "colours")
FALSE_ALARMS = 0.05
#: Overlap that stands for an absent target.
ABSENT = -1.0
#: The target's own part of a template crop of this side is its middle half.
LOOK_PX = 32


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--max-frames", type=int)
    parser.add_argument("--same-footage", nargs="*", default=[], metavar="A,B")
    arguments = parser.parse_args(argv)

    group_of = {name: names for names in arguments.same_footage for name in names.split(",")}
    groups, kinds, rows, overlaps = [], [], [], []
    with EdgeTracker(arguments.bundle, backend=arguments.backend, num_threads=1) as tracker:
        for found in find_sequences(arguments.dataset):
            for make in MAKERS.values():
                made = make(read_sequence(found, arguments.max_frames))
                features, overlap = frames_of(tracker, made)
                rows.append(features)
                overlaps.append(overlap)
                groups += [group_of.get(made.name, made.name)] * len(overlap)
                kinds += [made.kind] * len(overlap)
    features, overlap = np.concatenate(rows), np.concatenate(overlaps)
    fitted = cross_validated(features, overlap, np.array(groups))
    print(f"{len(overlap)} frames, features: {', '.join(FEATURES)}")
    for kind in ("all", *MAKERS):
        chosen = np.array([kind in ("all", of) for of in kinds])
        print(f"  {kind}: {int((overlap[chosen] == ABSENT).sum())} absent")
        for name, values in (("score alone", features[:, 0]), ("presence", fitted)):
            print(f"    {name}: {describe(values[chosen], overlap[chosen])}")


def frames_of(tracker: EdgeTracker, made: MadeSequence) -> tuple[Floats, Floats]:
    """-> (frames - 1, len(FEATURES)), and the overlap with the truth, ABSENT where there is none.

    The tracker starts in the first frame, from the truth.
    """
    rows: list[list[float]] = []
    overlaps: list[float] = []
    before: Box
    for index, (frame, truth) in enumerate(zip(made.frames(), made.truth_xywh, strict=True)):
        if index == 0:
            x, y, w, h = (float(value) for value in truth)
            before = (x, y, w, h)
            tracker.init(frame, before)
            first_look = look(frame, before)
            continue
        result = tracker.update(frame)
        score = min(max(result.score, 1e-6), 1 - 1e-6)
        left, top, right, bottom = result.edge_std_px
        spread = max(max(left, right) / result.box[2], max(top, bottom) / result.box[3])
        now = look(frame, result.box)
        rows.append(
            [
                float(np.log(score / (1 - score))),
                float(np.log(spread + 1e-3)),
                *motion(before, result.box),
                similarity(now, first_look),
                float(np.sqrt(colours(now) * colours(first_look)).sum()),
            ]
        )
        absent = bool(np.isnan(truth).any())
        overlaps.append(ABSENT if absent else box_iou(result.box, truth))
        before = result.box
    return np.array(rows), np.array(overlaps)


def look(frame: Image, box: Box) -> Image:
    """The target itself, (LOOK_PX / 2, LOOK_PX / 2, 3)."""
    quarter = LOOK_PX // 4
    crop = crop_square(frame, box, 2.0, LOOK_PX)[0]
    return crop[quarter:-quarter, quarter:-quarter]


def motion(before: Box, now: Box) -> tuple[float, float]:
    """Logarithms of the centre's way in sides of the box, and of the change of its area."""
    (x0, y0, w0, h0), (x, y, w, h) = before, now
    way = np.hypot(x + w / 2 - x0 - w0 / 2, y + h / 2 - y0 - h0 / 2) / np.sqrt(w0 * h0)
    return float(np.log(way + 0.01)), float(np.log(abs(np.log(w * h / (w0 * h0))) + 0.01))


def similarity(one: Image, other: Image) -> float:
    """Normalised cross-correlation, -1 to 1."""
    a, b = (image - image.mean(axis=(0, 1)) for image in (one.astype(float), other.astype(float)))
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum() + 1e-9))


def colours(image: Image) -> Floats:
    """Shares of 216 colours."""
    steps = image.astype(int) // 43
    counts = np.bincount((steps @ np.array([36, 6, 1])).ravel(), minlength=216)
    return counts / counts.sum()


def cross_validated(features: Floats, overlap: Floats, groups: NDArray[np.str_]) -> Floats:
    """Log-odds that the target is found, of each frame by a fit without its group; groups weigh by
    the root of their frames.
    """
    found = overlap > 0.5
    weights = np.zeros(len(found))
    for group in np.unique(groups):
        for label in (False, True):
            members = (groups == group) & (found == label)
            weights[members] = 1 / np.sqrt(max(1, members.sum()))
    presence = np.zeros(len(found))
    for group in np.unique(groups):
        rest = groups != group
        model = make_pipeline(StandardScaler(), LogisticRegression())
        model.fit(features[rest], found[rest], logisticregression__sample_weight=weights[rest])
        presence[~rest] = model.decision_function(features[~rest])
    return presence


def describe(values: Floats, overlap: Floats) -> str:
    """ROC AUC of found against the rest, and how many absent frames a threshold with FALSE_ALARMS
    among the found ones tells.
    """
    found, absent = overlap > 0.5, overlap == ABSENT
    if found.all() or not found.any():
        return "found in all frames or none"
    words = f"ROC AUC {roc_auc_score(found, values):.3f}"
    if absent.any():
        threshold = np.quantile(values[found], FALSE_ALARMS)
        share = (values[absent] < threshold).mean()
        words += f", {share:.1%} of absent frames told at {FALSE_ALARMS:.0%} false alarms"
    return words


if __name__ == "__main__":
    main()
