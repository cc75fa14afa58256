"""Latency of a bundle's artefacts on this machine, measured in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from itertools import product
from pathlib import Path

from edge_tracker.backends.choice import backend_of, checked_placement
from edge_tracker.backends.record import row_name
from edge_tracker.bundle.manifest import Artefact
from edge_tracker.bundle.opening import Bundle, open_bundle
from edge_tracker.errors import EdgeTrackerError
from edge_tracker.measure.bench.advice import recommend, warnings_about
from edge_tracker.measure.bench.camera import CameraRun, play_camera
from edge_tracker.measure.bench.cold_start import FreshProcesses, measure_cold_start
from edge_tracker.measure.bench.latency import (
    Clock,
    Pace,
    StageTimer,
    distribution_of,
    timing_overhead_us,
)
from edge_tracker.measure.bench.machine import (
    CpuSeconds,
    MachineState,
    read_cpu_seconds,
    read_power_mode,
    read_state,
    with_nvidia_smi,
)
from edge_tracker.measure.bench.report import (
    BenchReport,
    BenchSettings,
    Failure,
    MeasuredArtefact,
    OtherLoad,
    SeveralTargets,
)
from edge_tracker.measure.bench.rounds import Subject, measure_in_turns
from edge_tracker.measure.bench.several import measure_several
from edge_tracker.measure.doctor import diagnose
from edge_tracker.measure.rows import rows_to_measure
from edge_tracker.measure.verify import ArtefactVerification, Verification, verify
from edge_tracker.options import (
    OnProgress,
    checked_function,
    checked_list,
    checked_whole,
    tell_nobody,
)
from edge_tracker.tracker import STAGES, EdgeTracker
from edge_tracker.video.rendered_clip import render_clip

CLIP_FRAMES = 24


def benchmark(
    bundle: str | Path | Bundle,
    *,
    backends: Sequence[str] | None = None,
    precisions: Sequence[str] | None = None,
    computes: Sequence[str | None] | None = None,
    device: str | None = None,
    num_threads: int | None = None,
    cache_dir: str | Path | None = None,
    duration_s: float = 10.0,
    iterations: int | None = None,
    frame_width: int = 640,
    frame_height: int = 480,
    target_fps: float | None = None,
    camera_s: float | None = None,
    targets: Sequence[int] = (),
    cold_starts: int = 3,
    on_progress: OnProgress = tell_nobody,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> BenchReport:
    """Measure `init` and `update` of each artefact that can run here, in turns.

    backends, precisions: which artefacts, all by default. computes: in which types of arithmetic,
    as for `rows_to_measure`. device, num_threads, cache_dir: as for EdgeTracker. duration_s:
    seconds of updates per row, or their number by `iterations`. target_fps: also play a camera of
    this rate, for `camera_s` seconds per row if not for as long as the updates. targets: also track
    so many at once, with one MultiTracker and with as many EdgeTrackers. cold_starts: fresh
    processes with cold and with warm caches, each; 0 leaves them out. The frames are a rendered
    clip. The online template changes at the end of every interval, the most that a real target can
    cause.

    An artefact that fails is reported, not raised. Raises BundleError for a bad bundle, ValueError
    or TypeError for bad arguments or if no artefact is asked for.

    So many parameters because each is an option of `edge-tracker bench`, or a clock of the tests.
    """
    settings = BenchSettings(
        frame_width,
        frame_height,
        device,
        num_threads,
        duration_s,
        iterations,
        target_fps,
        camera_s,
        checked_list("targets", targets, "[1, 4]"),
    )
    bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    placement = checked_placement(device, num_threads, cache_dir, None)
    rows = rows_to_measure(bundle, backends, precisions, computes, placement)
    checked_whole("cold_starts", cold_starts, 0)
    for name, function in (("on_progress", on_progress), ("clock", clock), ("sleep", sleep)):
        checked_function(name, function)
    clip = list(render_clip(CLIP_FRAMES, frame_width, frame_height))
    pace = Pace([frame.image for frame in clip], clip[0].box)
    verified = verify(
        bundle,
        backends=backends,
        precisions=precisions,
        computes=computes,
        device=device,
        num_threads=num_threads,
        cache_dir=cache_dir,
        on_progress=lambda done, total, name: on_progress(done, total, f"verifying {name}"),
    )
    run = _Run(bundle, settings, pace, on_progress)
    with ExitStack() as trackers:
        for index, (artefact, compute) in enumerate(rows):
            on_progress(index, len(rows), f"loading {row_name(artefact, compute)}")
            backend = backend_of(artefact, backends)
            tracker = partial(EdgeTracker, bundle, backend=backend, cache_dir=cache_dir)
            run.open(artefact, compute, tracker, StageTimer(clock), trackers)
        circumstances = run.measure()
        run.play_cameras(clock, sleep)
        run.track_several(clock)
    run.start_afresh(cold_starts)
    return run.report(circumstances, verified, timing_overhead_us(clock))


@dataclass(frozen=True)
class _Circumstances:
    """What else the machine did meanwhile."""

    before: MachineState
    after: MachineState
    other_load: OtherLoad | None


@dataclass
class _Run:
    """The phases of one benchmark, and what they have found so far."""

    bundle: Bundle
    settings: BenchSettings
    pace: Pace
    on_progress: OnProgress
    subjects: list[Subject] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    cameras: dict[str, CameraRun] = field(default_factory=dict)
    several: dict[str, list[SeveralTargets]] = field(default_factory=dict)
    starts: dict[str, FreshProcesses] = field(default_factory=dict)

    def open(
        self,
        artefact: Artefact,
        compute: str | None,
        tracker: Callable[..., EdgeTracker],
        timer: StageTimer,
        trackers: ExitStack,
    ) -> None:
        """Load one artefact, to be closed with `trackers`."""
        try:
            opened = tracker(
                precision=artefact.precision,
                device=self.settings.device,
                num_threads=self.settings.num_threads,
                compute=compute,
                options=replace(self.bundle.tracker_defaults, update_score=0.0),
                on_stage=timer,
            )
        except EdgeTrackerError as error:
            self.failures.append(Failure(row_name(artefact, compute), str(error)))
        else:
            self.subjects.append(Subject(artefact, compute, trackers.enter_context(opened), timer))

    def measure(self) -> _Circumstances:
        """All artefacts in turns, and what the machine did meanwhile."""
        before, cpu_before = with_nvidia_smi(read_state()), read_cpu_seconds()
        own_s = time.process_time()
        self.failures += measure_in_turns(self.subjects, self.pace, self.settings, self.on_progress)
        own_s = time.process_time() - own_s
        cpu_after, after = read_cpu_seconds(), with_nvidia_smi(read_state())
        return _Circumstances(before, after, _other_load(cpu_before, cpu_after, own_s))

    def play_cameras(self, clock: Clock, sleep: Callable[[float], None]) -> None:
        """A camera to each artefact, if one is wanted."""
        fps = self.settings.target_fps
        if fps is None:
            return
        seconds = self.settings.camera_s or self.settings.duration_s
        frames = max(1, round(seconds * fps))
        if self.settings.iterations is not None and self.settings.camera_s is None:
            frames = self.settings.iterations
        for subject in self.subjects:
            name, tracker = subject.name, subject.tracker

            def observe(passed: int, words: str = f"camera to {name}") -> MachineState:
                self.on_progress(passed, frames, words)
                return read_state()

            try:
                tracker.init(self.pace.frame(0), self.pace.first_box)
                self.cameras[name] = play_camera(
                    tracker.update, self.pace, fps, frames, clock, sleep, observe
                )
            except EdgeTrackerError as error:
                self.failures.append(Failure(f"{name}, camera", str(error)))

    def track_several(self, clock: Clock) -> None:
        """Each number of targets on each artefact, if any are wanted."""
        for subject, targets in product(self.subjects, self.settings.targets):
            name = subject.name
            words = f"{targets} targets on {name}"
            self.on_progress(len(self.several), len(self.subjects), words)
            try:
                measured = measure_several(
                    subject.tracker, targets, self.pace, self.settings, clock
                )
            except EdgeTrackerError as error:
                self.failures.append(Failure(f"{name}, {targets} targets", str(error)))
            else:
                self.several.setdefault(name, []).append(measured)

    def start_afresh(self, runs: int) -> None:
        """Fresh processes of each artefact, if any are wanted."""
        for subject in self.subjects if runs else ():
            name = subject.name
            self.on_progress(len(self.starts), len(self.subjects), f"starting {name} afresh")
            try:
                self.starts[name] = measure_cold_start(
                    self.bundle,
                    subject.artefact,
                    subject.tracker.choice.backend,
                    device=self.settings.device,
                    num_threads=self.settings.num_threads,
                    compute=subject.compute,
                    runs=runs,
                )
            except EdgeTrackerError as error:
                self.failures.append(Failure(f"{name}, cold start", str(error)))

    def report(
        self, circumstances: _Circumstances, verification: Verification, overhead_us: float
    ) -> BenchReport:
        verified = {result.artefact: result for result in verification.artefacts}
        measured = tuple(
            _describe(
                subject,
                self.cameras.get(subject.name),
                self.several.get(subject.name, ()),
                self.starts.get(subject.name),
                verified.get(subject.name),
            )
            for subject in self.subjects
            if subject.updates
        )
        machine = diagnose()
        warnings = warnings_about(
            measured,
            num_threads=self.settings.num_threads,
            usable_cores=machine.cpu.usable_cores,
            before=circumstances.before,
            after=circumstances.after,
            other_load=circumstances.other_load,
            overhead_us=overhead_us,
        )
        return BenchReport(
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            bundle=str(self.bundle.path),
            source_sha256=self.bundle.source.sha256,
            settings=self.settings,
            machine=machine,
            power_mode=read_power_mode(),
            before=circumstances.before,
            after=circumstances.after,
            other_load=circumstances.other_load,
            overhead_us=overhead_us,
            artefacts=measured,
            failures=tuple(self.failures),
            warnings=warnings,
            recommendation=recommend(measured, warnings),
        )


def _describe(
    subject: Subject,
    camera: CameraRun | None,
    several: Sequence[SeveralTargets],
    starts: FreshProcesses | None,
    verification: ArtefactVerification | None,
) -> MeasuredArtefact:
    updates, copies, choice = subject.updates, subject.copies, subject.tracker.choice
    total_ms = sum(update.elapsed_ms for update in updates)
    stage_ms = {
        stage: [u.stages_ms[stage] for u in updates if stage in u.stages_ms] for stage in STAGES
    }
    power_w = [turn.state.total_power_w for turn in subject.rounds]
    known_w = [watts for watts in power_w if watts is not None]
    return MeasuredArtefact(
        name=subject.name,
        backend=choice.backend,
        device=choice.device,
        precision=subject.artefact.precision,
        compute=choice.compute,
        size_bytes=subject.artefact.size_bytes,
        update=distribution_of([update.elapsed_ms for update in updates]),
        stages={stage: distribution_of(values) for stage, values in stage_ms.items() if values},
        stage_mean_ms={stage: sum(values) / len(updates) for stage, values in stage_ms.items()},
        unaccounted=1 - sum(map(sum, stage_ms.values())) / total_ms,
        copies={
            direction: distribution_of([getattr(times, f"{direction}_ms") for times in copies])
            for direction in ("to_device", "from_device")
            if copies
        },
        init=distribution_of(subject.init_ms),
        rounds=tuple(subject.rounds),
        energy_mj=sum(known_w) / len(known_w) * total_ms / len(updates) if known_w else None,
        camera=camera,
        several=tuple(several),
        starts=starts,
        verification=verification,
        updates_ms=tuple(round(update.elapsed_ms, 4) for update in updates),
        refresh_frames=tuple(i for i, update in enumerate(updates) if update.after_refresh),
    )


def _other_load(
    before: CpuSeconds | None, after: CpuSeconds | None, own_s: float
) -> OtherLoad | None:
    if before is None or after is None or after.total <= before.total:
        return None
    total_s = after.total - before.total
    others_s = max(0.0, after.busy - before.busy - own_s)
    return OtherLoad(others_s / total_s, (after.stolen - before.stolen) / total_s)
