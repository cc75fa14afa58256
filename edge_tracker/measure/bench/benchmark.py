"""Latency of a bundle's artefacts on this machine, measured in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from edge_tracker.backends.choice import backend_of, matching_artefacts
from edge_tracker.bundle.opening import Bundle, open_bundle
from edge_tracker.errors import EdgeTrackerError
from edge_tracker.measure.bench.advice import recommend, warnings_about
from edge_tracker.measure.bench.cold_start import FreshProcesses, measure_cold_start
from edge_tracker.measure.bench.latency import (
    CameraRun,
    Clock,
    Pace,
    StageTimer,
    distribution_of,
    play_camera,
    timing_overhead_us,
)
from edge_tracker.measure.bench.machine import (
    CpuSeconds,
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
)
from edge_tracker.measure.bench.rounds import OnStep, Subject, measure_in_turns
from edge_tracker.measure.doctor import diagnose
from edge_tracker.measure.verify import ArtefactVerification, verify
from edge_tracker.tracker import STAGES, EdgeTracker
from edge_tracker.video.rendered_clip import render_clip

CLIP_FRAMES = 24


def benchmark(
    bundle: str | Path | Bundle,
    *,
    backends: Sequence[str] | None = None,
    precisions: Sequence[str] | None = None,
    device: str | None = None,
    num_threads: int | None = None,
    cache_dir: str | Path | None = None,
    duration_s: float = 10.0,
    iterations: int | None = None,
    frame_width: int = 640,
    frame_height: int = 480,
    target_fps: float | None = None,
    cold_starts: int = 3,
    on_step: OnStep | None = None,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> BenchReport:
    """Measure `init` and `update` of each artefact that can run here, in turns.

    backends, precisions: which artefacts, all by default. device, num_threads, cache_dir: as for
    EdgeTracker. duration_s: seconds of updates per artefact, or their number by `iterations`.
    target_fps: also play a camera of this rate. cold_starts: fresh processes with cold and with
    warm caches, each; 0 leaves them out. The frames are a rendered clip. The online template
    changes at the end of every interval, the most that a real target can cause.

    An artefact that fails is reported, not raised. Raises BundleError for a bad bundle, ValueError
    for bad arguments or if no artefact is asked for.
    """
    settings = BenchSettings(
        frame_width, frame_height, device, num_threads, duration_s, iterations, target_fps
    )
    bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    chosen = matching_artefacts(bundle, backends, precisions)
    clip = list(render_clip(CLIP_FRAMES, frame_width, frame_height))
    pace = Pace([frame.image for frame in clip], clip[0].box)
    step = on_step or (lambda words, done, total: None)

    verification = verify(
        bundle,
        backends=backends,
        precisions=precisions,
        device=device,
        num_threads=num_threads,
        cache_dir=cache_dir,
        on_step=lambda name, done, total: step(f"verifying {name}", done, total),
    )
    verified = {result.artefact: result for result in verification.artefacts}

    with ExitStack() as trackers:
        subjects: list[Subject] = []
        failures: list[Failure] = []
        for index, artefact in enumerate(chosen):
            step(f"loading {artefact.name}", index, len(chosen))
            timer = StageTimer(clock)
            try:
                tracker = EdgeTracker(
                    bundle,
                    backend=backend_of(artefact, backends),
                    precision=artefact.precision,
                    device=device,
                    num_threads=num_threads,
                    cache_dir=cache_dir,
                    options=replace(bundle.tracker_defaults, update_score=0.0),
                    on_stage=timer,
                )
            except EdgeTrackerError as error:
                failures.append(Failure(artefact.name, str(error)))
                continue
            subjects.append(Subject(artefact, trackers.enter_context(tracker), timer))

        before, cpu_before = with_nvidia_smi(read_state()), read_cpu_seconds()
        own_s = time.process_time()
        failures += measure_in_turns(subjects, pace, settings, step)
        own_s = time.process_time() - own_s
        cpu_after, after = read_cpu_seconds(), with_nvidia_smi(read_state())

        cameras: dict[str, CameraRun] = {}
        if target_fps is not None:
            frames = iterations or max(1, round(duration_s * target_fps))
            for subject in subjects:
                step(f"camera to {subject.artefact.name}", len(cameras), len(subjects))
                try:
                    subject.tracker.init(pace.frame(0), pace.first_box)
                    cameras[subject.artefact.name] = play_camera(
                        subject.tracker.update, pace, target_fps, frames, clock, sleep
                    )
                except EdgeTrackerError as error:
                    failures.append(Failure(f"{subject.artefact.name}, camera", str(error)))

    starts: dict[str, FreshProcesses] = {}
    for subject in subjects if cold_starts else ():
        step(f"starting {subject.artefact.name} afresh", len(starts), len(subjects))
        try:
            starts[subject.artefact.name] = measure_cold_start(
                bundle,
                subject.artefact,
                subject.tracker.choice.backend,
                device=device,
                num_threads=num_threads,
                runs=cold_starts,
            )
        except EdgeTrackerError as error:
            failures.append(Failure(f"{subject.artefact.name}, cold start", str(error)))
    measured = tuple(
        _describe(
            subject,
            cameras.get(subject.artefact.name),
            starts.get(subject.artefact.name),
            verified.get(subject.artefact.name),
        )
        for subject in subjects
        if subject.updates
    )
    other_load = _other_load(cpu_before, cpu_after, own_s)
    overhead_us = timing_overhead_us(clock)
    machine = diagnose()
    warnings = warnings_about(
        measured,
        num_threads=num_threads,
        usable_cores=machine.cpu.usable_cores,
        before=before,
        after=after,
        other_load=other_load,
        overhead_us=overhead_us,
    )
    return BenchReport(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        bundle=str(bundle.path),
        source_sha256=str(bundle.manifest["source"]["sha256"]),
        settings=settings,
        machine=machine,
        power_mode=read_power_mode(),
        before=before,
        after=after,
        other_load=other_load,
        overhead_us=overhead_us,
        artefacts=measured,
        failures=tuple(failures),
        warnings=warnings,
        recommendation=recommend(measured, warnings),
    )


def _describe(
    subject: Subject,
    camera: CameraRun | None,
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
        name=subject.artefact.name,
        backend=choice.backend,
        device=choice.device,
        precision=subject.artefact.precision,
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
