"""Figures of artefacts as if they had been measured on a quiet machine."""

from __future__ import annotations

from collections.abc import Sequence

from edge_tracker.backends.parity import LIMITS
from edge_tracker.bundle.manifest import Parity
from edge_tracker.measure.bench.latency import distribution_of
from edge_tracker.measure.bench.machine import MachineState
from edge_tracker.measure.bench.report import MeasuredArtefact, Round
from edge_tracker.measure.verify import ArtefactVerification, Status

QUIET = MachineState(
    governors=("performance",),
    cpu_mhz=2000.0,
    cpu_max_mhz=2000.0,
    throttle_events=0,
    load_average=0.1,
    temperatures_c={},
    power_w={},
    energy={},
    gpu_mhz=None,
    gpu_clock_locked=None,
)


def measured(
    name: str,
    p50_ms: float,
    *,
    status: Status | None = "passed",
    updates: int = 600,
    rounds_ms: Sequence[float] = (),
    unaccounted: float = 0.0,
) -> MeasuredArtefact:
    precision = name.split("/")[1]
    verification = None
    if status is not None:
        verification = ArtefactVerification(
            artefact=name,
            compute="f32",
            backend="openvino",
            device="CPU",
            status=status,
            reasons=("box error 1 px, limit 0.25 px",) if status == "failed" else (),
            parity=Parity(0.003, 1e-5, 1e-6),
            parity_limits=LIMITS[precision],
            closed_loop=None,
        )
    figures = distribution_of([p50_ms] * updates)
    return MeasuredArtefact(
        name=name,
        backend="openvino",
        device="CPU",
        precision=precision,
        compute="f32",
        size_bytes=10**6,
        update=figures,
        stages={"search_graph": figures},
        stage_mean_ms={"search_graph": p50_ms},
        unaccounted=unaccounted,
        copies={},
        init=distribution_of([2.0]),
        rounds=tuple(Round(ms, 50, QUIET) for ms in rounds_ms or [p50_ms] * 6),
        energy_mj=None,
        camera=None,
        several=(),
        starts=None,
        verification=verification,
        updates_ms=(p50_ms,) * updates,
        refresh_frames=(),
    )
