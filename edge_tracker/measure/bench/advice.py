"""What to make of measured figures: whether to trust them, and which artefact to use."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_tracker.backends import choice
from edge_tracker.backends.record import COMPUTES
from edge_tracker.bundle.manifest import PRECISIONS
from edge_tracker.errors import EdgeTrackerError
from edge_tracker.files.untrusted import short
from edge_tracker.measure.bench.machine import MachineState
from edge_tracker.measure.bench.report import (
    BenchReport,
    MeasuredArtefact,
    OtherLoad,
    Recommendation,
)

#: Of a p99, so many samples have to lie above it.
TAIL_SAMPLES = 5
#: Differences below this are taken for chance.
NOISE = 0.05


def recommend(artefacts: Sequence[MeasuredArtefact], warnings: Sequence[str]) -> Recommendation:
    """The lowest median `update()` among those verified here; the more exact one of equals.

    warnings: of these figures; where there are any, the recommendation is called provisional.
    """
    sound = [a for a in artefacts if a.verification and a.verification.status == "passed"]
    unsound = [a for a in artefacts if a not in sound]
    if not sound:
        reason = "no artefact was measured"
        if artefacts:
            reason = "none of the measured artefacts passed verification: " + "; ".join(
                f"{a.name} {_verdict(a)}" for a in artefacts
            )
        return Recommendation(None, reason)
    fastest = min(sound, key=lambda a: a.update.p50)
    equals = [a for a in sound if a.update.p50 <= (1 + NOISE) * fastest.update.p50]
    # The sort is stable: of the same precision, the fastest stays first.
    equals.sort(key=lambda a: a.update.p50)
    best = min(equals, key=lambda a: (PRECISIONS.index(a.precision), COMPUTES.index(a.compute)))
    parity = best.verification.parity if best.verification else None
    parts = [f"{best.update.p50:.2f} ms median, {best.update.p99:.2f} ms p99"]
    if parity is not None:
        parts.append(f"its box error of {parity.box_px:.2g} px is within the limit")
    if best is not fastest:
        parts.append(
            f"{fastest.name} is {1 - fastest.update.p50 / best.update.p50:.0%} faster, which "
            "chance alone can do, and less exact"
        )
    slower = [a for a in sound if a not in equals]
    if slower:
        parts.append(
            ", ".join(
                f"{a.name} takes {a.update.p50 / best.update.p50:.2f} times as long{_error(a)}"
                for a in slower
            )
        )
    tied = [a.name for a in equals if a not in (best, fastest)]
    if best is fastest and len(equals) > 1:
        parts.append(f"{', '.join(tied)} within {NOISE:.0%} of it")
    parts += [f"{a.name} is left out: {_verdict(a)}" for a in unsound]
    if warnings:
        parts.append("provisional, as there are warnings about these figures")
    return Recommendation(best.name, "; ".join(parts))


def _error(artefact: MeasuredArtefact) -> str:
    parity = artefact.verification.parity if artefact.verification else None
    return f" ({parity.box_px:.2g} px)" if parity is not None else ""


def _verdict(artefact: MeasuredArtefact) -> str:
    if artefact.verification is None:
        return "was not verified"
    return f"{artefact.verification.status} ({', '.join(artefact.verification.reasons)})"


def warnings_about(
    artefacts: Sequence[MeasuredArtefact],
    *,
    num_threads: int | None,
    usable_cores: int,
    before: MachineState,
    after: MachineState,
    other_load: OtherLoad | None,
    overhead_us: float,
) -> tuple[str, ...]:
    """Why these figures may not be trusted, a sentence each.

    So many parameters because each is a figure that a sentence is about.
    """
    several_threads = usable_cores > 1 and num_threads != 1
    names_by_warning: dict[str, list[str]] = {}
    for artefact in artefacts:
        for warning in _about_artefact(artefact, several_threads, overhead_us):
            names_by_warning.setdefault(warning, []).append(artefact.name)
    return (
        *_about_machine(before, after, other_load),
        *(f"{', '.join(names)}: {warning}" for warning, names in names_by_warning.items()),
    )


def _about_machine(
    before: MachineState, after: MachineState, other_load: OtherLoad | None
) -> Iterator[str]:
    if other_load is not None and other_load.other_processes > 0.05:
        yield (
            f"other processes used {other_load.other_processes:.0%} of the CPU time while this was "
            "measured: stop them and measure again"
        )
    if other_load is not None and other_load.other_machines > 0.01:
        yield (
            f"other virtual machines took {other_load.other_machines:.0%} of the CPU time: "
            "measure on a machine of your own"
        )
    if before.throttle_events is not None and after.throttle_events is not None:
        events = after.throttle_events - before.throttle_events
        if events > 0:
            yield f"the CPU throttled {events} times: cool it, or accept these figures as its own"
    if slow := [name for name in before.governors if name != "performance"]:
        yield (
            f"the CPU governor is {', '.join(slow)}: frequencies vary; compare with "
            "sudo cpupower frequency-set -g performance"
        )
    if before.gpu_clock_locked is False:
        yield "the GPU's clock is not locked: run sudo jetson_clocks and measure again"


def _about_artefact(
    artefact: MeasuredArtefact, several_threads: bool, overhead_us: float
) -> Iterator[str]:
    count = artefact.update.count
    if count < 100 * TAIL_SAMPLES:
        yield (
            f"only {count} updates, p99 rests on {count // 100} of them; "
            f"measure at least {100 * TAIL_SAMPLES}"
        )
    medians = [turn.p50_ms for turn in artefact.rounds]
    third = len(medians) // 3
    slowdown = (
        statistics.median(medians[-third:]) / statistics.median(medians[:third]) if third else 1
    )
    middle = statistics.median(medians)
    spread = (max(medians) - min(medians)) / middle
    if slowdown > 1.1:
        yield (
            f"{slowdown - 1:.0%} slower in the last third of the rounds than in the first, "
            "as from throttling or growing load"
        )
    elif spread > 0.1:
        hint = ""
        if several_threads and artefact.device == "CPU":
            hint = "; on a virtual machine, compare with one thread"
        yield f"the rounds' medians spread by {spread:.0%}, from {min(medians):.2f} ms{hint}"
    clocks = [turn.state.cpu_mhz for turn in artefact.rounds if turn.state.cpu_mhz]
    if clocks and min(clocks) < 0.9 * max(clocks):
        yield f"the CPU clock fell from {max(clocks):.0f} to {min(clocks):.0f} MHz"
    if artefact.unaccounted > NOISE:
        yield f"{artefact.unaccounted:.0%} of update() is in none of its stages"
    share = overhead_us / 1e3 / artefact.update.p50
    if share > 0.01:
        yield f"measuring adds {share:.1%} to each update"


@dataclass(frozen=True)
class Ratio:
    """One figure in an old and a new report."""

    artefact: str
    figure: str
    old: float
    new: float

    @property
    def ratio(self) -> float:
        return self.new / self.old


@dataclass(frozen=True)
class Comparison:
    """differences: of the two measurements' circumstances, which the ratios then contain too."""

    ratios: tuple[Ratio, ...]
    differences: tuple[str, ...]


def _that_compute() -> set[str]:
    """Packages whose version changes latency."""
    return {"numpy", "cv2"}.union(*(backend.packages for backend in choice.BACKENDS))


def compare_reports(old: Mapping[str, Any], new: BenchReport) -> Comparison:
    """Set a report against an older one's JSON, artefact by artefact.

    Raises EdgeTrackerError if `old` is no such report or has no artefact in common.
    """
    try:
        old_by_name = {entry["name"]: entry for entry in old["artefacts"]}
        ratios = [
            Ratio(artefact.name, f"{part} {figure}",
                  old=float(old_by_name[artefact.name][part][figure]),
                  new=getattr(getattr(artefact, part), figure))
            for artefact in new.artefacts
            if artefact.name in old_by_name
            for part, figure in (("update", "p50"), ("update", "p95"), ("update", "p99"),
                                 ("init", "p50"))
        ]  # fmt: skip
        circumstances = [
            ("CPU", old["machine"]["cpu"]["model"], new.machine.cpu.model),
            ("usable cores", old["machine"]["cpu"]["usable_cores"], new.machine.cpu.usable_cores),
            ("threads", old["settings"]["num_threads"], new.settings.num_threads),
            ("frame", *(f"{w}x{h}" for w, h in (
                (old["settings"]["frame_width"], old["settings"]["frame_height"]),
                (new.settings.frame_width, new.settings.frame_height)))),
            ("checkpoint", old["source_sha256"][:12], new.source_sha256[:12]),
            ("power mode", old["power_mode"], new.power_mode),
            ("edge-tracker", old["machine"]["edge_tracker"], new.machine.edge_tracker),
        ]  # fmt: skip
        old_versions = {entry["module"]: entry["version"] for entry in old["machine"]["packages"]}
    except Exception as error:  # what is in a wrong place may be of any type
        raise EdgeTrackerError(
            "the older report was not written by bench --json "
            f"({type(error).__name__}: {short(str(error))})"
        ) from error
    if not ratios:
        raise EdgeTrackerError(
            f"the reports have no artefact in common: {', '.join(old_by_name) or 'none'} then, "
            f"{', '.join(artefact.name for artefact in new.artefacts) or 'none'} now"
        )
    circumstances += [
        (package.module, old_versions.get(package.module), package.version)
        for package in new.machine.packages
        if package.module in _that_compute()
    ]
    return Comparison(
        tuple(ratios),
        tuple(
            f"{name}: {then} then, {now} now" for name, then, now in circumstances if then != now
        ),
    )
