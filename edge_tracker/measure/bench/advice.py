"""What to make of measured figures: whether to trust them, and which artefact to use."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from edge_tracker.backends.record import COMPUTES
from edge_tracker.bundle.manifest import PRECISIONS
from edge_tracker.measure.bench.latency import least_count
from edge_tracker.measure.bench.machine import MachineState
from edge_tracker.measure.bench.report import (
    MeasuredArtefact,
    OtherLoad,
    Recommendation,
)

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
    if artefact.update.intervals["p99"] is None:
        yield (
            f"{artefact.update.count} updates are too few for a p99, whose 95 % interval has no "
            f"upper end: measure at least {least_count(99)}"
        )
    medians = [turn.p50_ms for turn in artefact.rounds]
    slowdown = _slowdown(medians)
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
    if artefact.camera is not None:
        course = artefact.camera.course
        slowdown = _slowdown([stretch.latency.p50 for stretch in course])
        if slowdown > 1.1:
            yield (
                f"behind the camera {slowdown - 1:.0%} slower in the last third of "
                f"{course[-1].until_s:.0f} s than in the first, as from throttling or growing load"
            )
    if artefact.unaccounted > NOISE:
        yield f"{artefact.unaccounted:.0%} of update() is in none of its stages"
    share = overhead_us / 1e3 / artefact.update.p50
    if share > 0.01:
        yield f"measuring adds {share:.1%} to each update"


def _slowdown(medians_ms: Sequence[float]) -> float:
    """Of the last third against the first; 1 of fewer than three."""
    third = len(medians_ms) // 3
    if not third:
        return 1.0
    return statistics.median(medians_ms[-third:]) / statistics.median(medians_ms[:third])
