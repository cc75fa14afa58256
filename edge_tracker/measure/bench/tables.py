"""A report's figures as tables of text, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edge_tracker.measure.bench.camera import CameraRun
from edge_tracker.measure.bench.latency import Distribution
from edge_tracker.measure.bench.machine import MachineState
from edge_tracker.measure.bench.report import BenchReport, MeasuredArtefact

Rows = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class TextTable:
    title: str
    columns: tuple[str, ...]
    rows: Rows


#: Of a camera's run over time, so many stretches are shown; all are in the JSON.
COURSE_ROWS = 12
PERCENTILES = ("p50", "p90", "p95", "p99", "min", "max", "std")


def tables_of(report: BenchReport) -> tuple[TextTable, ...]:
    artefacts = report.artefacts
    tables = [TextTable("Machine", ("", ""), tuple(_machine(report)))]
    if artefacts:
        tables += [
            TextTable(
                "update(), ms",
                (
                    "model",
                    *PERCENTILES,
                    "p50, 95 %",
                    "p99, 95 %",
                    "frames/s",
                    "updates",
                    "in stages",
                ),
                tuple(
                    (
                        a.name,
                        *_cells(a.update),
                        _interval(a.update, "p50"),
                        _interval(a.update, "p99"),
                        f"{a.fps:.1f}",
                        str(a.update.count),
                        f"{1 - a.unaccounted:.1%}",
                    )
                    for a in artefacts
                ),
            ),
            TextTable(
                "Stages of update(), ms",
                ("model", "stage", *PERCENTILES, "share", "count"),
                tuple(row for a in artefacts for row in _stage_rows(a)),
            ),
            TextTable(
                "Start and size",
                (
                    "model",
                    "init() ms",
                    "cold start ms",
                    "of which load",
                    "warm start ms",
                    "of which load",
                    "peak memory",
                    "files",
                    "energy per update",
                    "verified",
                ),
                tuple(_start_row(a) for a in artefacts),
            ),
        ]
    if any(a.camera for a in artefacts):
        fps = report.settings.target_fps
        tables.append(
            TextTable(
                f"A camera of {fps:g} frames/s: latency from capture to box, ms",
                (
                    "model",
                    *PERCENTILES,
                    "p99, 95 %",
                    "deadlines missed",
                    "frames dropped",
                    "energy per frame",
                ),
                tuple(_camera_rows(artefacts)),
            )
        )
    if course := tuple(row for a in artefacts if a.camera for row in _course(a.name, a.camera)):
        columns = ("p50", "p95", "frames dropped", "CPU MHz", "GPU MHz", "hottest", "power")
        tables.append(
            TextTable("The camera's run over time: latency, ms", ("model", "at", *columns), course)
        )
    if any(a.several for a in artefacts):
        tables.append(_several_targets(artefacts))
    return tuple(tables)


def _machine(report: BenchReport) -> Iterator[tuple[str, str]]:
    machine, settings, before, after = (
        report.machine,
        report.settings,
        report.before,
        report.after,
    )
    cpu, nvidia = machine.cpu, machine.nvidia
    if machine.board:
        yield "board", machine.board
    yield "CPU", f"{cpu.model}, {cpu.usable_cores} of {cpu.cores} cores usable"
    if features := [feature.flag for feature in cpu.features if feature.present]:
        yield "CPU features", ", ".join(features)
    yield "threads", str(settings.num_threads or "the backend's choice")
    yield "governor", ", ".join(before.governors) or "not told by this system"
    yield "CPU clock", _then_now(_clock(before), _clock(after))
    if before.gpu_mhz is not None:
        locks = {True: ", locked", False: ", not locked (jetson_clocks is off)", None: ""}
        clock = _then_now(before.gpu_mhz, after.gpu_mhz, " MHz")
        yield "GPU clock", clock + locks[before.gpu_clock_locked]
    if report.power_mode is not None:
        yield "nvpmodel", report.power_mode
    if nvidia.l4t is not None:
        yield "Jetson Linux", nvidia.l4t
    for gpu in nvidia.devices:
        yield "GPU", f"{gpu.name} (SM {gpu.compute_capability}), driver {nvidia.driver}"
    yield "load average", _then_now(before.load_average, after.load_average)
    if report.other_load is not None:
        yield "CPU time of others", f"{report.other_load.other_processes:.0%}"
    for name, celsius in before.temperatures_c.items():
        yield f"temperature {name}", _then_now(celsius, after.temperatures_c.get(name), " C")
    for rail, watts in before.power_w.items():
        yield f"power {rail}", _then_now(watts, after.power_w.get(rail), " W")
    yield "system", f"{machine.system}, {machine.architecture}"
    versions = [f"{p.module} {p.version}" for p in machine.packages if p.version]
    yield "versions", ", ".join([f"edge-tracker {machine.edge_tracker}", machine.python, *versions])
    yield "bundle", f"{report.bundle}, checkpoint {report.source_sha256[:12]}"
    yield "frames", f"{settings.frame_width}x{settings.frame_height}, rendered"
    yield "measured", report.created


def _clock(state: MachineState) -> str:
    if state.cpu_mhz is None:
        return "not told by this system"
    most = f" of {state.cpu_max_mhz:.0f}" if state.cpu_max_mhz else ""
    return f"{state.cpu_mhz:.0f}{most} MHz"


def _then_now(then: float | str | None, now: float | str | None, unit: str = "") -> str:
    before, after = (f"{v:.1f}" if isinstance(v, float) else str(v) for v in (then, now))
    return f"{before}{unit}" if before == after else f"{before} to {after}{unit}"


def _cells(values: Distribution) -> tuple[str, ...]:
    return tuple(f"{getattr(values, name):.3f}" for name in PERCENTILES)


def _interval(values: Distribution, percentile: str) -> str:
    ends = values.intervals[percentile]
    return f"{ends[0]:.3f} to {ends[1]:.3f}" if ends is not None else "too few"


def _stage_rows(artefact: MeasuredArtefact) -> Iterator[tuple[str, ...]]:
    for stage, values in artefact.stages.items():
        share = artefact.stage_mean_ms[stage] / artefact.update.mean
        yield (
            artefact.name,
            stage.replace("_", " "),
            *_cells(values),
            f"{share:.1%}",
            str(values.count),
        )
        if stage == "search_graph":
            for direction, times in artefact.copies.items():
                words = f"of it, copy {direction.replace('_', ' ')}"
                share = times.mean / artefact.update.mean
                yield artefact.name, words, *_cells(times), f"{share:.1%}", str(times.count)


def _start_row(artefact: MeasuredArtefact) -> tuple[str, ...]:
    starts = artefact.starts
    times = ("-",) * 5
    if starts is not None:
        peak = starts.peak_memory_bytes
        times = (
            f"{starts.cold.total_ms:.0f}",
            f"{starts.cold.load_ms:.0f}",
            f"{starts.warm.total_ms:.0f}",
            f"{starts.warm.load_ms:.0f}",
            f"{peak / 1e6:.0f} MB" if peak is not None else "-",
        )
    energy = artefact.energy_mj
    return (
        artefact.name,
        f"{artefact.init.p50:.1f}",
        *times,
        f"{artefact.size_bytes / 1e6:.1f} MB",
        f"{energy:.1f} mJ" if energy is not None else "-",
        artefact.verification.status if artefact.verification else "no",
    )


def _camera_rows(artefacts: tuple[MeasuredArtefact, ...]) -> Iterator[tuple[str, ...]]:
    for artefact in artefacts:
        if (camera := artefact.camera) is not None:
            seen = camera.frames - camera.dropped
            yield (
                artefact.name,
                *_cells(camera.latency),
                _interval(camera.latency, "p99"),
                f"{camera.deadline_misses} of {seen}",
                f"{camera.dropped} of {camera.frames}",
                f"{energy:.1f} mJ" if (energy := camera.energy_per_frame_mj) is not None else "-",
            )


def _course(name: str, camera: CameraRun) -> Iterator[tuple[str, ...]]:
    """Of a run long enough to have one: its first and last stretch, and some in between."""
    last = len(camera.course) - 1
    if last < 2:
        return
    shown = {round(last * row / (COURSE_ROWS - 1)) for row in range(COURSE_ROWS)}
    for number in sorted(shown):
        stretch = camera.course[number]
        state = stretch.state
        hottest = max(state.temperatures_c, key=state.temperatures_c.__getitem__, default=None)
        minutes, seconds = divmod(round(stretch.until_s), 60)
        yield (
            name,
            f"{minutes}:{seconds:02d}",
            f"{stretch.latency.p50:.3f}",
            f"{stretch.latency.p95:.3f}",
            str(stretch.dropped),
            f"{state.cpu_mhz:.0f}" if state.cpu_mhz is not None else "-",
            f"{state.gpu_mhz:.0f}" if state.gpu_mhz is not None else "-",
            f"{state.temperatures_c[hottest]:.1f} C {hottest}" if hottest is not None else "-",
            f"{state.total_power_w:.1f} W" if state.total_power_w is not None else "-",
        )


def _several_targets(artefacts: tuple[MeasuredArtefact, ...]) -> TextTable:
    return TextTable(
        "Several targets: update() of all, ms",
        ("model", "targets", *PERCENTILES, "per target", "as single trackers", "ratio"),
        tuple(row for a in artefacts for row in _several_rows(a)),
    )


def _several_rows(artefact: MeasuredArtefact) -> Iterator[tuple[str, ...]]:
    for measured in artefact.several:
        yield (
            artefact.name,
            str(measured.targets),
            *_cells(measured.update),
            f"{measured.update.p50 / measured.targets:.3f}",
            f"{measured.singles.p50:.3f}",
            f"{measured.ratio:.2f}",
        )
