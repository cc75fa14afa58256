"""Boxes, times and confidences of a sequence, in the files that the official toolkits read."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tracker.errors import DatasetError
from edge_tracker.files.atomic_file import replacing
from edge_tracker.files.untrusted import read_json, reading
from edge_tracker.measure.evaluation.ground_truth import FIRST_PIXEL, AnnotatedSequence
from edge_tracker.measure.evaluation.one_pass import (
    CONFIDENCE_DECIMALS,
    RESULT_DECIMALS,
    Trajectory,
)
from edge_tracker.rules.boxes import MOST_PX

CONDITIONS = "conditions.json"


def result_paths(folder: Path, layout: str, sequence: str) -> tuple[Path, Path]:
    """The files of boxes and of times, in the folder of one tracker.

    GOT-10k: NAME/NAME_001.txt, NAME/NAME_time.txt. VOT: unsupervised/NAME/NAME_001.txt,
    NAME_001_time.value. All others: NAME.txt, times/NAME_time.txt.
    """
    if layout == "got10k":
        inner = folder / sequence
        return inner / f"{sequence}_001.txt", inner / f"{sequence}_time.txt"
    if layout == "vot":
        inner = folder / "unsupervised" / sequence
        return inner / f"{sequence}_001.txt", inner / f"{sequence}_001_time.value"
    return folder / f"{sequence}.txt", folder / "times" / f"{sequence}_time.txt"


def write_results(folder: Path, sequence: AnnotatedSequence, trajectory: Trajectory) -> None:
    """Write both files, pixels counted as the layout counts them; the boxes last.

    A file of boxes is thus a sign that the sequence is finished. In VOT's files the first line is
    the code 1, for a start.
    """
    boxes = trajectory.boxes_xywh.copy()
    boxes[:, :2] += FIRST_PIXEL[sequence.layout]
    text = StringIO()
    np.savetxt(text, boxes, fmt=f"%.{RESULT_DECIMALS}f", delimiter=",")
    lines = text.getvalue().splitlines()
    if sequence.layout == "vot":
        lines[0] = "1"
    boxes_file, times_file = result_paths(folder, sequence.layout, sequence.name)
    times = [f"{seconds:.8f}" for seconds in trajectory.times_s]
    files = [(times_file, times), (boxes_file, lines)]
    if trajectory.confidences is not None and trajectory.found is not None:
        told = zip(trajectory.confidences, trajectory.found, strict=True)
        rows = [f"{confidence:.{CONFIDENCE_DECIMALS}f},{found:d}" for confidence, found in told]
        files.insert(0, (_told_path(boxes_file), rows))
    for file, content in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            temporary.write_text("\n".join(content) + "\n", encoding="ascii")


def read_results(folder: Path, sequence: AnnotatedSequence) -> Trajectory | None:
    """What `write_results` wrote; None if this sequence is not finished.

    Raises DatasetError for files that are not of this sequence.
    """
    boxes_file, times_file = result_paths(folder, sequence.layout, sequence.name)
    if not boxes_file.is_file():
        return None
    skipped = 1 if sequence.layout == "vot" else 0
    tells_more = _told_path(boxes_file).is_file()
    with (
        reading(f"sequence {sequence.name}: result {boxes_file}", "delete it", DatasetError),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")  # of files without lines
        boxes = np.loadtxt(boxes_file, delimiter=",", ndmin=2, skiprows=skipped)
        times_s = np.loadtxt(times_file, ndmin=1)
        told = np.loadtxt(_told_path(boxes_file), delimiter=",", ndmin=2) if tells_more else None
        if told is not None and (told.shape != (len(times_s), 2) or not _are_shares(told)):
            raise ValueError("numbers that are not confidences")
        if not (np.abs(boxes) <= MOST_PX).all() or not ((times_s >= 0) & (times_s < 1e6)).all():
            raise ValueError("numbers that are not boxes or times")
    boxes[:, :2] -= FIRST_PIXEL[sequence.layout]
    if skipped:
        boxes = np.vstack([sequence.first_box, boxes])
    if boxes.shape != (len(sequence.frames), 4) or len(times_s) != len(boxes):
        raise DatasetError(
            f"sequence {sequence.name}: result {boxes_file} has {len(boxes)} boxes for "
            f"{len(sequence.frames)} frames: it is of another version of the data; delete it"
        )
    rounded = boxes.round(RESULT_DECIMALS)
    if told is None:
        return Trajectory(rounded, times_s)
    return Trajectory(rounded, times_s, told[:, 0], told[:, 1] == 1)


def _told_path(boxes_file: Path) -> Path:
    """Confidence, and 1 where the target counts as found: of trackers that tell them."""
    return boxes_file.with_name(f"{boxes_file.stem}_confidence.csv")


def _are_shares(numbers: NDArray[np.float64]) -> bool:
    return bool(((numbers >= 0) & (numbers <= 1)).all())


def claim_folder(folder: Path, conditions: Mapping[str, object]) -> None:
    """Make a tracker's folder of results, or check that what is there was made the same way.

    Raises ValueError saying what differs: going on would mix results of two trackers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / CONDITIONS
    if file.is_file():
        remedy = "give another --results folder, or delete this one"
        with reading(f"conditions of results {file}", remedy, DatasetError):
            before = dict(read_json(file))
        differing = [name for name in conditions if before.get(name) != conditions[name]]
        if differing:
            name = differing[0]
            raise ValueError(
                f"results in {folder} were made with {name} {before.get(name)!r:.60}, not "
                f"{conditions[name]!r}: give another --results folder, or delete this one"
            )
        return
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(conditions, indent=2) + "\n", encoding="utf-8")
