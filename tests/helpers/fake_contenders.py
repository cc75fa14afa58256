"""Trackers for evaluations whose outcome is known beforehand. Importable, so that they can be sent
to other processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge_tracker.errors import EdgeTrackerError
from edge_tracker.rules.boxes import Box

WIDTH, HEIGHT = 64, 48
#: Side of the target; it moves one pixel to the right a frame, and its position is in the pixels.
SIDE = 10


def make_sequence(root: Path, name: str, frames: int = 6, shift: int = 0) -> Path:
    """A plain sequence in which frame i is filled with the grey value of the target's left edge."""
    folder = root / name
    (folder / "img").mkdir(parents=True)
    lines = []
    for index in range(frames):
        left = 1 + index + shift
        image = np.full((HEIGHT, WIDTH, 3), left, np.uint8)
        cv2.imwrite(str(folder / "img" / f"{index + 1:06d}.png"), image)
        lines.append(f"{left},5,{SIDE},{SIDE}")
    (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    return folder


@dataclass(frozen=True)
class Seer:
    """Reads the target's place from the pixels, and misses it by `error_px` to the right.

    log: a file to which each sequence it starts on adds a line. fails_at: the left edge at which
    it raises; interrupted_at: likewise, as by Ctrl-C.
    """

    name: str = "seer"
    error_px: float = 0.0
    log: Path | None = None
    fails_at: int | None = None
    interrupted_at: int | None = None

    def identity(self) -> dict[str, str]:
        return {"tracker": self.name, "error_px": str(self.error_px)}

    def open(self) -> OpenSeer:
        if self.log is not None:
            with self.log.open("a") as file:
                file.write("opened\n")
        return OpenSeer(self)


class OpenSeer:
    def __init__(self, seer: Seer) -> None:
        self._seer = seer

    def init(self, frame: np.ndarray, box: Box) -> None:
        assert frame[0, 0, 0] == box[0]

    def update(self, frame: np.ndarray) -> Box:
        left = int(frame[0, 0, 0])
        if left == self._seer.fails_at:
            raise EdgeTrackerError("the network returned no numbers")
        if left == self._seer.interrupted_at:
            raise KeyboardInterrupt
        return left + self._seer.error_px, 5.0, float(SIDE), float(SIDE)

    def close(self) -> None:
        pass
