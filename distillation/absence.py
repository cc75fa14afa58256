"""python -m distillation.absence: sequences in which the target goes away and returns.

They are made of annotated ones, so the truth is known. Each change lasts for the second half of a
period, then the footage is as it was; the first period is left alone. Made footage is easier than
real absence in one way (it begins and ends at once) and harder in another (a patch of background
has edges), so figures on it are to be told apart.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from rich.console import Console

from distillation.exit_status import exit_status
from edge_tracker.errors import DatasetError
from edge_tracker.measure.evaluation.ground_truth import AnnotatedSequence, Boxes, read_sequence
from edge_tracker.measure.evaluation.layouts import find_sequences
from edge_tracker.rules.boxes import Box
from edge_tracker.rules.crop import Image

#: Frames from one change to the next; it lasts for half of them.
PERIOD = 60
#: The patch is so much wider and higher than the target, whose annotation may be tight.
PATCH_FACTOR = 1.3
#: A jerk moves the picture by so many sides of the target, sqrt(area).
JERK_SIDES = 3.0
JPEG_QUALITY = 95


@dataclass(frozen=True)
class Footage:
    """Annotated frames. truth_xywh: (frames, 4) float64, NaN where the target is absent; not in the
    first frame. read_frame: (height, width, 3) uint8 BGR, to be written to.
    """

    name: str
    truth_xywh: Boxes
    read_frame: Callable[[int], Image]


def footage_of(sequence: AnnotatedSequence) -> Footage:
    return Footage(sequence.name, sequence.truth_xywh, sequence.read_frame)


@dataclass(frozen=True)
class MadeSequence:
    """Footage and its truth. kind: "real", or how it was made. truth_xywh: (frames, 4) float64, NaN
    where the target is not to be seen. frames: opens it, (height, width, 3) uint8 BGR each.
    """

    name: str
    kind: str
    truth_xywh: Boxes
    frames: Callable[[], Iterator[Image]]


def real(footage: Footage, period: int = PERIOD) -> MadeSequence:
    """The footage as it is."""
    indices = range(len(footage.truth_xywh))
    return MadeSequence(
        footage.name, "real", footage.truth_xywh, lambda: map(footage.read_frame, indices)
    )


def covered(footage: Footage, period: int = PERIOD) -> MadeSequence:
    """The target under a patch of background beside it, where the frame has room for one."""
    changed = [index for index in range(len(footage.truth_xywh)) if _is_changed(index, period)]
    hidden = _with_patches(footage, changed)
    indices = range(len(hidden.truth_xywh))
    return MadeSequence(
        footage.name, "covered", hidden.truth_xywh, lambda: map(hidden.read_frame, indices)
    )


def elsewhere(footage: Footage, period: int = PERIOD) -> MadeSequence:
    """The target covered for a quarter of a period; in the next it is back, half of the frame's
    width away, as the frame's halves have changed places. Cut by the seam, it counts as absent.
    """
    changed = [index for index in range(len(footage.truth_xywh)) if _is_changed(index, period)]
    quarter = period - period // 4
    hidden = _with_patches(footage, [index for index in changed if index % period < quarter])
    moved = {index for index in changed if index % period >= quarter}
    truth = hidden.truth_xywh.copy()
    width = footage.read_frame(0).shape[1]
    for index in moved:
        x = (truth[index, 0] + width // 2) % width
        truth[index, 0] = x
        if x + truth[index, 2] > width:
            truth[index] = np.nan

    def frames() -> Iterator[Image]:
        for index in range(len(truth)):
            frame = hidden.read_frame(index)
            yield np.roll(frame, width // 2, axis=1) if index in moved else frame

    return MadeSequence(footage.name, "elsewhere", truth, frames)


def cut_out(footage: Footage, period: int = PERIOD) -> MadeSequence:
    """Half of the frames left out, in runs: the target jumps, and is never away."""
    kept = [index for index in range(len(footage.truth_xywh)) if not _is_changed(index, period)]
    return MadeSequence(
        footage.name,
        "cut out",
        footage.truth_xywh[kept],
        lambda: (footage.read_frame(index) for index in kept),
    )


def jerked(footage: Footage, period: int = PERIOD) -> MadeSequence:
    """The camera jerks aside, to either side in turn, and back; the border is repeated."""
    truth = footage.truth_xywh.copy()
    height, width = footage.read_frame(0).shape[:2]
    shift_px = np.zeros(len(truth))
    side_px = float(np.sqrt(truth[0, 2] * truth[0, 3]))
    for index in range(len(truth)):
        if _is_changed(index, period):
            shift_px[index] = JERK_SIDES * side_px * (1 if index // period % 2 else -1)
    truth[:, 0] += shift_px
    centre_x = truth[:, 0] + truth[:, 2] / 2
    truth[(centre_x < 0) | (centre_x > width)] = np.nan

    def frames() -> Iterator[Image]:
        for index, x_px in enumerate(shift_px):
            frame = footage.read_frame(index)
            if x_px:
                matrix = np.array([[1, 0, x_px], [0, 1, 0]], np.float64)
                moved = cv2.warpAffine(
                    frame, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE
                )
                frame = np.asarray(moved, np.uint8)
            yield frame

    return MadeSequence(footage.name, "jerked", truth, frames)


#: Kind -> how it is made.
MAKERS: Mapping[str, Callable[[Footage, int], MadeSequence]] = {
    "real": real,
    "covered": covered,
    "cut out": cut_out,
    "jerked": jerked,
    "elsewhere": elsewhere,
}


def _with_patches(footage: Footage, indices: Sequence[int]) -> Footage:
    """The target covered in these frames, where they have room for a patch."""
    truth = footage.truth_xywh.copy()
    height, width = footage.read_frame(0).shape[:2]
    patches: dict[int, tuple[Box, Box]] = {}
    for index in indices:
        if np.isfinite(truth[index]).all():
            target = _grown(truth[index])
            if (beside := _background_beside(target, width, height)) is not None:
                patches[index] = target, beside
                truth[index] = np.nan

    def read_frame(index: int) -> Image:
        frame = footage.read_frame(index)
        if index in patches:
            _cover(frame, *patches[index])
        return frame

    return Footage(footage.name, truth, read_frame)


def _is_changed(index: int, period: int) -> bool:
    return index >= period and index % period >= period // 2


def _grown(box: Boxes) -> Box:
    x, y, w, h = (float(value) for value in box)
    more_w, more_h = (PATCH_FACTOR - 1) * w, (PATCH_FACTOR - 1) * h
    return x - more_w / 2, y - more_h / 2, w + more_w, h + more_h


def _background_beside(target: Box, width: int, height: int) -> Box | None:
    """A box of the target's size beside it and inside the frame."""
    x, y, w, h = target
    for step_x, step_y in ((1, 0), (-1, 0), (0, -1), (0, 1)):
        left, top = x + step_x * (w + 2), y + step_y * (h + 2)
        if left >= 0 and left + w <= width - 1 and top >= 0 and top + h <= height - 1:
            return left, top, w, h
    return None


def _cover(frame: Image, target: Box, beside: Box) -> None:
    height, width = frame.shape[:2]
    offset_x, offset_y = round(beside[0] - target[0]), round(beside[1] - target[1])
    left, top = max(0, round(target[0])), max(0, round(target[1]))
    # Both ends inside the frame, also of what is copied.
    right = min(width, width - offset_x, round(target[0] + target[2]))
    bottom = min(height, height - offset_y, round(target[1] + target[3]))
    left, top = max(left, -offset_x), max(top, -offset_y)
    source = frame[top + offset_y : bottom + offset_y, left + offset_x : right + offset_x]
    frame[top:bottom, left:right] = source.copy()


def write_made(dataset: Path, output: Path, kinds: Sequence[str], max_frames: int | None) -> int:
    """Write a data set of made sequences, NAME.KIND/img/*.jpg and groundtruth.txt (layout "plain");
    -> how many. max_frames: of each sequence, from its start.

    Raises DatasetError for a data set that cannot be read, and where `output` exists.
    """
    if output.exists():
        raise DatasetError(f"output {output} exists already: choose another name")
    count = 0
    with TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as unfinished:
        whole = Path(unfinished) / output.name
        for found in find_sequences(dataset):
            footage = footage_of(read_sequence(found, max_frames))
            for kind in kinds:
                made = MAKERS[kind](footage, PERIOD)
                _write_sequence(made, whole / f"{made.name}.{kind.replace(' ', '_')}")
                count += 1
        whole.rename(output)
    return count


def _write_sequence(made: MadeSequence, folder: Path) -> None:
    (folder / "img").mkdir(parents=True)
    np.savetxt(folder / "groundtruth.txt", made.truth_xywh, fmt="%.3f", delimiter=",")
    for index, frame in enumerate(made.frames()):
        file = folder / "img" / f"{index:06d}.jpg"
        if not cv2.imwrite(str(file), frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
            raise DatasetError(f"{file} cannot be written: make room on the disk")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "dataset", type=Path, help="annotated sequences, as for `edge-tracker eval`"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--kinds", nargs="+", choices=list(MAKERS), default=list(MAKERS)[1:])
    parser.add_argument("--max-frames", type=int, metavar="N")
    options = parser.parse_args(argv)
    count = write_made(options.dataset, options.output, options.kinds, options.max_frames)
    words = f"{count} sequences in {options.output}: edge-tracker eval BUNDLE {options.output}"
    Console().print(words, highlight=False)


if __name__ == "__main__":
    sys.exit(exit_status(main))
