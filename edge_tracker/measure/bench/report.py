"""What a measurement on one machine found, as it is printed, drawn and written to JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_tracker.measure.bench.camera import CameraRun
from edge_tracker.measure.bench.cold_start import FreshProcesses
from edge_tracker.measure.bench.latency import Distribution
from edge_tracker.measure.bench.machine import MachineState
from edge_tracker.measure.doctor import Diagnosis
from edge_tracker.measure.verify import ArtefactVerification
from edge_tracker.options import RENDERED_SIDES_PX, checked_positive, checked_whole


@dataclass(frozen=True)
class BenchSettings:
    """What was measured. `iterations`, where given, counts instead of `duration_s`; both per
    artefact. `num_threads` and `device` are None where the backend chooses. The camera, if
    there is a `target_fps`, plays for `camera_s`, or as long as the updates are measured.
    targets: so many are tracked at once too.

    Raises ValueError or TypeError for a number that cannot be, ValueError for a `camera_s` without
    a `target_fps`.
    """

    frame_width: int
    frame_height: int
    device: str | None
    num_threads: int | None
    duration_s: float
    iterations: int | None
    target_fps: float | None
    camera_s: float | None = None
    targets: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("frame_width", "frame_height"):
            checked_whole(name, getattr(self, name), *RENDERED_SIDES_PX)
        if self.iterations is not None:
            checked_whole("iterations", self.iterations, 1)
        for name in ("duration_s", "target_fps", "camera_s"):
            if name == "duration_s" or getattr(self, name) is not None:
                checked_positive(name, getattr(self, name))
        if self.camera_s is not None and self.target_fps is None:
            raise ValueError("camera_s without target_fps: at how many frames per second?")
        for count in self.targets:
            checked_whole("targets", count, 1)


@dataclass(frozen=True)
class SeveralTargets:
    """update: of `MultiTracker.update()` with so many targets. singles: of as many
    `EdgeTracker.update()`, summed, on the same frame. ratio: median over frames of one over the
    other.
    """

    targets: int
    update: Distribution
    singles: Distribution
    ratio: float


@dataclass(frozen=True)
class Round:
    """One turn of one artefact. state: of the machine just after it."""

    p50_ms: float
    frames: int
    state: MachineState


@dataclass(frozen=True)
class MeasuredArtefact:
    """Figures of one artefact.

    stages: over the updates in which the stage happened. stage_mean_ms: per update over all of
    them, so that these add up to `update.mean`, but for `unaccounted`, the share that no stage
    covers. copies: to and from the device, timed by themselves; part of the search graph's time,
    and empty where nothing is copied. updates_ms: each update in order; refresh_frames: indices in
    it of the first updates with a new online template. energy_mj: per update, from the power at
    the end of each round.
    starts and verification: None where they were left out or failed.
    """

    name: str
    backend: str
    device: str
    precision: str
    compute: str
    size_bytes: int
    update: Distribution
    stages: Mapping[str, Distribution]
    stage_mean_ms: Mapping[str, float]
    unaccounted: float
    copies: Mapping[str, Distribution]
    init: Distribution
    rounds: tuple[Round, ...]
    energy_mj: float | None
    camera: CameraRun | None
    several: tuple[SeveralTargets, ...]
    starts: FreshProcesses | None
    verification: ArtefactVerification | None
    updates_ms: tuple[float, ...]
    refresh_frames: tuple[int, ...]

    @property
    def fps(self) -> float:
        return 1e3 / self.update.mean


@dataclass(frozen=True)
class Failure:
    """What could not be measured, and why."""

    what: str
    reason: str


@dataclass(frozen=True)
class OtherLoad:
    """Shares of the CPU time of all cores that went elsewhere during the rounds."""

    other_processes: float
    other_machines: float


@dataclass(frozen=True)
class Recommendation:
    """artefact: None where none can be recommended."""

    artefact: str | None
    reason: str


@dataclass(frozen=True)
class BenchReport:
    """before, after: the machine at both ends of the rounds. overhead_us: what measuring adds to
    one update. warnings: why the figures may not be trusted.
    """

    created: str
    bundle: str
    source_sha256: str
    settings: BenchSettings
    machine: Diagnosis
    power_mode: str | None
    before: MachineState
    after: MachineState
    other_load: OtherLoad | None
    overhead_us: float
    artefacts: tuple[MeasuredArtefact, ...]
    failures: tuple[Failure, ...]
    warnings: tuple[str, ...]
    recommendation: Recommendation
