"""Plots of latencies: their histogram, their course, and the stages of an update."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edge_tracker.measure.axes import Axes
from edge_tracker.measure.bench.latency import Distribution
from edge_tracker.tracker import STAGES

_HEIGHT_PX = 240
_BINS = 48
#: The timeline has no more columns than this; each shows the range of the updates in it.
_COLUMNS = 180


def histogram(values_ms: Sequence[float], figures: Distribution, scale_ms: float) -> str:
    """Counts of latencies from 0 to `scale_ms`, slower ones in the last bar; percentiles marked."""
    shown = np.minimum(np.asarray(values_ms), np.nextafter(scale_ms, 0))
    counts, edges_ms = np.histogram(shown, bins=_BINS, range=(0, scale_ms))
    most = int(counts.max())

    axes = _axes("latency, ms", "updates", scale_ms, most)
    parts = []
    floor_y = axes.place(0, 0)[1]
    for count, low_ms, high_ms in zip(counts, edges_ms[:-1], edges_ms[1:], strict=True):
        if count:
            x, y = axes.place(low_ms, count)
            width = axes.place(high_ms, 0)[0] - x
            label = f"{low_ms:.2f} to {high_ms:.2f} ms: {count}"
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width - 0.6, 0.5):.1f}" '
                f'height="{floor_y - y:.1f}" style="fill:var(--line-0)">'
                f"<title>{label}</title></rect>"
            )
    marks = {name: getattr(figures, name) for name in ("p50", "p95", "p99")}
    xs = {name: axes.place(min(ms, scale_ms), 0)[0] for name, ms in marks.items()}
    anchors = {"p50": "end", "p95": "middle", "p99": "start"}
    if min(xs["p95"] - xs["p50"], xs["p99"] - xs["p95"]) < 18:
        # The outer two always have room, as they lean apart.
        del anchors["p95"]
    for name, ms in marks.items():
        parts.append(
            f'<path d="M{xs[name]:.1f} {floor_y}V{axes.top_px}" stroke-dasharray="3 3" '
            f'style="stroke:var(--line-1);fill:none"><title>{name} {ms:.3f} ms</title></path>'
        )
    parts += [
        f'<text x="{xs[name]:.1f}" y="{axes.top_px - 6}" text-anchor="{anchor}">{name}</text>'
        for name, anchor in anchors.items()
    ]
    return axes.around(parts, "histogram of latencies")


def timeline(values_ms: Sequence[float], refresh_frames: Sequence[int]) -> str:
    """Each update in order; the first ones with a new online template are marked."""
    count, top_ms = len(values_ms), 1.05 * max(values_ms)
    axes = _axes("update", "latency, ms", count, top_ms)
    per_column = math.ceil(count / _COLUMNS)
    stems, ranges = [], []
    for start in range(0, count, per_column):
        column = values_ms[start : start + per_column]
        x, low_y = axes.place(start + len(column) / 2, min(column))
        # A range of no height would not be drawn.
        high_y = min(axes.place(0, max(column))[1], low_y - 1)
        stems.append(f"M{x:.1f} {axes.place(0, 0)[1]:.1f}V{low_y:.1f}")
        ranges.append(f"M{x:.1f} {low_y:.1f}V{high_y:.1f}")
    width = min(4.0, max(1.0, 0.8 * axes.plot_width_px * per_column / count))
    parts = [
        f'<path d="{"".join(lines)}" stroke-width="{width:.1f}" '
        f'style="stroke:var(--line-0);fill:none;opacity:{opacity}"/>'
        for lines, opacity in ((stems, 0.25), (ranges, 1))
    ]
    for frame in refresh_frames:
        x, y = axes.place(frame + 0.5, values_ms[frame])
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" style="fill:var(--line-1)">'
            f"<title>new template, update {frame}: {values_ms[frame]:.2f} ms</title></circle>"
        )
    return axes.around(parts, "latency of each update in order")


def stage_bars(stage_mean_ms: Mapping[str, float], update_ms: float, widest_ms: float) -> str:
    """One bar as long as the mean update, cut into its stages."""
    x, parts = 0.0, []
    rest_ms = max(0.0, update_ms - sum(stage_mean_ms.values()))
    for stage, mean_ms in {**stage_mean_ms, "in no stage": rest_ms}.items():
        width = 1000 * mean_ms / widest_ms
        parts.append(
            f'<rect x="{x:.1f}" y="0" width="{width:.1f}" height="22" '
            f'style="fill:{_colour(stage)}"><title>{stage_words(stage)}: {mean_ms:.3f} ms, '
            f"{mean_ms / update_ms:.1%}</title></rect>"
        )
        x += width
    label = f"mean update {update_ms:.2f} ms by stage"
    return (
        f'<svg viewBox="0 0 1000 22" preserveAspectRatio="none" role="img" '
        'style="display:block;width:100%;height:22px;margin-bottom:.6rem" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def stage_legend() -> str:
    items = "".join(
        '<li><svg viewBox="0 0 12 12" width="12" height="12" aria-hidden="true">'
        f'<rect width="12" height="12" style="fill:{_colour(stage)}"/></svg>'
        f"{stage_words(stage)}</li>"
        for stage in (*STAGES, "in no stage")
    )
    return f'<ul class="legend">{items}</ul>'


def stage_words(stage: str) -> str:
    return stage.replace("_", " ")


def _colour(stage: str) -> str:
    return f"var(--line-{STAGES.index(stage)})" if stage in STAGES else "var(--rule)"


def _axes(x_label: str, y_label: str, x_end: float, y_end: float) -> Axes:
    """From 0 to these ends."""
    return Axes(
        x_label,
        y_label,
        (0, x_end),
        _ticks(x_end),
        (0, y_end),
        _ticks(y_end),
        upright_grid=False,
        height_px=_HEIGHT_PX,
    )


def _ticks(end: float) -> list[float]:
    """Round numbers from 0 to `end`, four to eight of them."""
    power = 10.0 ** math.floor(math.log10(end / 4))
    step = next(size * power for size in (5, 2, 1) if size * power <= end / 4)
    return [float(f"{number * step:g}") for number in range(math.floor(end / step + 1e-9) + 1)]
