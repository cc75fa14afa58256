"""What an evaluation can compare: a bundle's artefacts, and trackers that are not of this package.

A contender is a description that can be sent to another process; opened, it is a tracker.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2

from edge_tracker.backends.choice import artefacts_for, open_graphs
from edge_tracker.bundle.manifest import Artefact
from edge_tracker.bundle.opening import open_bundle, sha256_of
from edge_tracker.errors import BackendUnavailable
from edge_tracker.options import TrackerOptions
from edge_tracker.rules.boxes import Box
from edge_tracker.rules.crop import Image
from edge_tracker.tracker import EdgeTracker, TrackResult


class OpenTracker(Protocol):
    """A tracker in use: boxes are x, y, width, height in frame pixels, frames uint8 BGR.

    One that tells more of a frame than the box gives a TrackResult.
    """

    def init(self, frame: Image, box: Box) -> None: ...

    def update(self, frame: Image) -> Box | TrackResult: ...

    def close(self) -> None: ...


class Contender(Protocol):
    @property
    def name(self) -> str:
        """Short, for tables and as a folder's name."""
        ...

    def identity(self) -> dict[str, str]:
        """All that its boxes depend on, so that results of something else are not taken for its."""
        ...

    def open(self) -> OpenTracker: ...


@dataclass(frozen=True)
class BundleContender:
    """One artefact of a bundle, on one backend, "auto" or its name; compute as for EdgeTracker,
    recovery as for TrackerOptions.
    """

    bundle: Path
    backend: str = "auto"
    precision: str | None = None
    device: str | None = None
    num_threads: int | None = None
    cache_dir: Path | None = None
    compute: str | None = None
    recovery: str | None = None

    @property
    def name(self) -> str:
        parts = [self.backend, self.device and self.device.lower(), self.precision, self.compute]
        parts.append(self.recovery and f"recovery-{self.recovery}")
        return "-".join(part for part in parts if part)

    def resolved(self) -> BundleContender:
        """The same with the backend, precision and type that this machine runs; raises as
        EdgeTracker.
        """
        graphs = open_graphs(
            open_bundle(self.bundle),
            backend=self.backend,
            device=self.device,
            precision=self.precision,
            num_threads=self.num_threads,
            cache_dir=self.cache_dir,
            compute=self.compute,
        )
        graphs.close()
        choice = graphs.choice
        return replace(
            self,
            backend=choice.backend,
            precision=choice.precision,
            compute=None if self.compute is None else choice.compute,
        )

    def artefacts(self) -> list[Artefact]:
        """The bundle's that a resolved contender may open."""
        return artefacts_for(open_bundle(self.bundle), self.backend, self.precision)

    def identity(self) -> dict[str, str]:
        bundle = open_bundle(self.bundle)
        hashes = [
            bundle.files[path].sha256 for artefact in self.artefacts() for path in artefact.files()
        ]
        return {
            "tracker": self.name,
            "checkpoint": bundle.source.sha256,
            "files": hashlib.sha256("".join(hashes).encode()).hexdigest(),
            "options": str(asdict(self._options())),
            "presence": str(bundle.presence),
        }

    def open(self) -> OpenTracker:
        return EdgeTracker(
            self.bundle,
            backend=self.backend,
            device=self.device,
            precision=self.precision,
            num_threads=self.num_threads,
            cache_dir=self.cache_dir,
            compute=self.compute,
            options=self._options(),
        )

    def _options(self) -> TrackerOptions:
        defaults = open_bundle(self.bundle).tracker_defaults
        return defaults if self.recovery is None else replace(defaults, recovery=self.recovery)


@dataclass(frozen=True)
class NanoTrackContender:
    """OpenCV's own `cv2.TrackerNano` with the NanoTrack v2 files of a folder."""

    folder: Path

    @property
    def name(self) -> str:
        return "nanotrack"

    def identity(self) -> dict[str, str]:
        backbone, head = self._files()
        return {
            "tracker": self.name,
            "files": sha256_of(backbone) + sha256_of(head),
            "opencv": cv2.__version__,
        }

    def open(self) -> OpenTracker:
        if not hasattr(cv2, "TrackerNano"):
            raise BackendUnavailable(
                f"peer nanotrack needs OpenCV's TrackerNano, which OpenCV {cv2.__version__} here "
                "lacks: install a newer one"
            )
        backbone, head = self._files()
        parameters = cv2.TrackerNano.Params()
        parameters.backbone, parameters.neckhead = str(backbone), str(head)
        return _OpenNanoTrack(cv2.TrackerNano.create(parameters))

    def _files(self) -> tuple[Path, Path]:
        """Raises BackendUnavailable naming what is missing."""
        found = []
        for part in ("backbone", "head"):
            files = sorted(self.folder.glob(f"*{part}*.onnx"))
            if len(files) != 1:
                raise BackendUnavailable(
                    f"peer nanotrack needs one *{part}*.onnx in {self.folder}, found {len(files)}"
                )
            found.append(files[0])
        return found[0], found[1]


class _OpenNanoTrack:
    def __init__(self, tracker: cv2.TrackerNano) -> None:
        self._tracker = tracker

    def init(self, frame: Image, box: Box) -> None:
        x, y, w, h = (round(value) for value in box)
        self._tracker.init(frame, (x, y, max(1, w), max(1, h)))

    def update(self, frame: Image) -> Box:
        _, (x, y, w, h) = self._tracker.update(frame)
        return float(x), float(y), float(w), float(h)

    def close(self) -> None:
        pass
