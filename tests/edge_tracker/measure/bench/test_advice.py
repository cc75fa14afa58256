"""Whether figures are to be trusted, and which artefact to use."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edge_tracker.measure.bench.advice import recommend, warnings_about
from edge_tracker.measure.bench.camera import CameraRun, Stretch
from edge_tracker.measure.bench.latency import distribution_of
from edge_tracker.measure.bench.machine import MachineState
from edge_tracker.measure.bench.report import (
    MeasuredArtefact,
    OtherLoad,
    Round,
)
from edge_tracker.measure.verify import Status
from tests.helpers.measured_artefacts import QUIET, measured


@pytest.mark.parametrize(
    ("artefacts", "best", "words"),
    [
        ([], None, "no artefact was measured"),
        ([("a/fp32", 5.0, "failed")], None, "a/fp32 failed (box error 1 px, limit 0.25 px)"),
        ([("a/fp32", 5.0, None)], None, "a/fp32 was not verified"),
        ([("a/fp32", 9.0, "passed"), ("a/fp16", 5.0, "passed")], "a/fp16", "1.80 times as long"),
        ([("a/fp32", 9.0, "passed"), ("a/int8", 5.0, "failed")], "a/fp32", "a/int8 is left out"),
        ([("a/fp32", 5.1, "passed"), ("a/int8", 5.0, "passed")], "a/fp32", "a/int8 is 2% faster"),
        ([("a/fp32", 5.1, "passed"), ("b/fp32", 5.0, "passed")], "b/fp32", "a/fp32 within 5%"),
        ([("a/fp16", 5.0, "passed"), ("b/fp32", 5.3, "passed")], "a/fp16", "b/fp32 takes 1.06"),
    ],
)
def test_the_fastest_that_is_right_is_recommended(
    artefacts: list[tuple[str, float, Status | None]], best: str | None, words: str
) -> None:
    chosen = recommend([measured(name, ms, status=status) for name, ms, status in artefacts], ())
    assert chosen.artefact == best
    assert words in chosen.reason
    if best is not None:
        assert "its box error of 0.003 px is within the limit" in chosen.reason


def test_a_recommendation_on_doubtful_figures_is_provisional() -> None:
    artefacts = [measured("a/fp32", 5.0)]
    assert "provisional" not in recommend(artefacts, ()).reason
    assert "provisional" in recommend(artefacts, ("other load",)).reason


def warn(
    artefact: MeasuredArtefact,
    before: MachineState = QUIET,
    after: MachineState = QUIET,
    other_load: OtherLoad | None = None,
    overhead_us: float = 1.0,
    num_threads: int | None = 2,
    usable_cores: int = 2,
) -> tuple[str, ...]:
    return warnings_about(
        [artefact],
        num_threads=num_threads,
        usable_cores=usable_cores,
        before=before,
        after=after,
        other_load=other_load,
        overhead_us=overhead_us,
    )


def test_a_quiet_machine_gives_no_cause_for_doubt() -> None:
    assert warn(measured("a/fp32", 5.0), other_load=OtherLoad(0.02, 0.0)) == ()


def hot(mhz: float) -> MachineState:
    return replace(QUIET, cpu_mhz=mhz)


@pytest.mark.parametrize(
    ("circumstances", "words"),
    [
        ({"other_load": OtherLoad(0.3, 0.0)}, "other processes used 30% of the CPU time"),
        ({"other_load": OtherLoad(0.0, 0.02)}, "other virtual machines took 2%"),
        ({"after": replace(QUIET, throttle_events=4)}, "the CPU throttled 4 times"),
        ({"before": replace(QUIET, governors=("powersave",))}, "governor is powersave"),
        ({"before": replace(QUIET, gpu_clock_locked=False)}, "sudo jetson_clocks"),
        ({"artefact": {"updates": 300}}, "a/fp32: 300 updates are too few for a p99"),
        ({"artefact": {"rounds_ms": (5, 5, 5, 5, 6, 6)}}, "20% slower in the last third"),
        ({"artefact": {"rounds_ms": (5, 5, 6, 5, 5, 5)}}, "medians spread by 20%"),
        ({"artefact": {"unaccounted": 0.08}}, "8% of update() is in none of its stages"),
        ({"overhead_us": 100.0}, "measuring adds 2.0% to each update"),
    ],
)
def test_each_cause_for_doubt_is_named(circumstances: dict[str, Any], words: str) -> None:
    artefact = measured("a/fp32", 5.0, **circumstances.pop("artefact", {}))
    (warning,) = warn(artefact, **circumstances)
    assert words in warning


@pytest.mark.parametrize(
    ("device", "num_threads", "usable_cores", "proposed"),
    [
        ("CPU", None, 2, True),
        ("CPU", 2, 2, True),
        ("CPU", 1, 2, False),
        ("CPU", None, 1, False),
        ("GPU", None, 2, False),
        ("CUDA 0 (Orin)", 2, 2, False),
    ],
)
def test_one_thread_is_proposed_where_several_on_the_cpu_vary(
    device: str, num_threads: int | None, usable_cores: int, proposed: bool
) -> None:
    varying = measured("a/fp32", 5.0, rounds_ms=(5, 5, 6, 5, 5, 5))
    (warning,) = warn(
        replace(varying, device=device), num_threads=num_threads, usable_cores=usable_cores
    )
    assert ("compare with one thread" in warning) is proposed


def test_a_falling_clock_is_named() -> None:
    artefact = measured("a/fp32", 5.0)
    rounds = tuple(Round(5.0, 50, hot(mhz)) for mhz in (2000.0, 1900.0, 1500.0))
    (warning,) = warn(replace(artefact, rounds=rounds))
    assert "CPU clock fell from 2000 to 1500 MHz" in warning


@pytest.mark.parametrize(("last_ms", "slower"), [(6.0, True), (5.1, False)])
def test_slowing_down_behind_a_camera_is_named(last_ms: float, slower: bool) -> None:
    course = tuple(
        Stretch(5.0 * number, distribution_of([ms]), 0, None, QUIET)
        for number, ms in enumerate((5.0, 5.0, 5.0, 5.0, last_ms, last_ms), start=1)
    )
    camera = CameraRun(30.0, 900, 0, 0, distribution_of([5.0]), course)
    warnings = warn(replace(measured("a/fp32", 5.0), camera=camera))
    words = "a/fp32: behind the camera 20% slower in the last third of 30 s"
    assert any(warning.startswith(words) for warning in warnings) is slower
    assert len(warnings) == slower


def test_what_is_said_of_several_is_said_once() -> None:
    artefacts = [measured(name, 5.0, updates=100) for name in ("a/fp32", "b/fp32")]
    (warning,) = warnings_about(
        artefacts,
        num_threads=1,
        usable_cores=2,
        before=QUIET,
        after=QUIET,
        other_load=None,
        overhead_us=1.0,
    )
    assert warning.startswith("a/fp32, b/fp32: 100 updates are too few")
