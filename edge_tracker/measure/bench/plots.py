"""Plots of latencies as inline SVG that take their colours from the page around them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from edge_tracker.measure.bench.latency import Distribution
from edge_tracker.tracker import STAGES

_WIDTH, _HEIGHT = 420, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 20, 22, 40
_BINS = 48
#: The timeline has no more columns than this; each shows the range of the updates in it.
_COLUMNS = 180


def histogram(values_ms: Sequence[float], figures: Distribution, scale_ms: float) -> str:
    """Counts of latencies from 0 to `scale_ms`, slower ones in the last bar; percentiles marked."""
    shown = np.minimum(np.asarray(values_ms), np.nextafter(scale_ms, 0))
    counts, edges_ms = np.histogram(shown, bins=_BINS, range=(0, scale_ms))
    most = int(counts.max())

    def place(ms: float, count: float) -> tuple[float, float]:
        return _place(ms / scale_ms, count / most)

    parts = [*_frame("latency, ms", "updates", _ticks(scale_ms), scale_ms, _ticks(most), most)]
    floor_y = _place(0, 0)[1]
    for count, low_ms, high_ms in zip(counts, edges_ms[:-1], edges_ms[1:], strict=True):
        if count:
            x, y = place(low_ms, count)
            width = place(high_ms, 0)[0] - x
            label = f"{low_ms:.2f} to {high_ms:.2f} ms: {count}"
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width - 0.6, 0.5):.1f}" '
                f'height="{floor_y - y:.1f}" style="fill:var(--line-0)">'
                f"<title>{label}</title></rect>"
            )
    marks = {name: getattr(figures, name) for name in ("p50", "p95", "p99")}
    xs = {name: place(min(ms, scale_ms), 0)[0] for name, ms in marks.items()}
    anchors = {"p50": "end", "p95": "middle", "p99": "start"}
    if min(xs["p95"] - xs["p50"], xs["p99"] - xs["p95"]) < 18:
        # The outer two always have room, as they lean apart.
        del anchors["p95"]
    for name, ms in marks.items():
        parts.append(
            f'<path d="M{xs[name]:.1f} {floor_y}V{_TOP}" stroke-dasharray="3 3" '
            f'style="stroke:var(--line-1);fill:none"><title>{name} {ms:.3f} ms</title></path>'
        )
    parts += [
        f'<text x="{xs[name]:.1f}" y="{_TOP - 6}" text-anchor="{anchor}">{name}</text>'
        for name, anchor in anchors.items()
    ]
    return _svg("histogram of latencies", parts)


def timeline(values_ms: Sequence[float], refresh_frames: Sequence[int]) -> str:
    """Each update in order; the first ones with a new online template are marked."""
    count, top_ms = len(values_ms), 1.05 * max(values_ms)
    parts = [*_frame("update", "latency, ms", _ticks(count), count, _ticks(top_ms), top_ms)]
    per_column = math.ceil(count / _COLUMNS)
    stems, ranges = [], []
    for start in range(0, count, per_column):
        column = values_ms[start : start + per_column]
        x, low_y = _place((start + len(column) / 2) / count, min(column) / top_ms)
        # A range of no height would not be drawn.
        high_y = min(_place(0, max(column) / top_ms)[1], low_y - 1)
        stems.append(f"M{x:.1f} {_place(0, 0)[1]:.1f}V{low_y:.1f}")
        ranges.append(f"M{x:.1f} {low_y:.1f}V{high_y:.1f}")
    width = min(4.0, max(1.0, 0.8 * (_WIDTH - _LEFT - _RIGHT) * per_column / count))
    parts += [
        f'<path d="{"".join(lines)}" stroke-width="{width:.1f}" '
        f'style="stroke:var(--line-0);fill:none;opacity:{opacity}"/>'
        for lines, opacity in ((stems, 0.25), (ranges, 1))
    ]
    for frame in refresh_frames:
        x, y = _place((frame + 0.5) / count, values_ms[frame] / top_ms)
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" style="fill:var(--line-1)">'
            f"<title>new template, update {frame}: {values_ms[frame]:.2f} ms</title></circle>"
        )
    return _svg("latency of each update in order", parts)


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


def _place(x_share: float, y_share: float) -> tuple[float, float]:
    return (
        _LEFT + x_share * (_WIDTH - _LEFT - _RIGHT),
        _HEIGHT - _BOTTOM - y_share * (_HEIGHT - _TOP - _BOTTOM),
    )


def _frame(
    x_label: str,
    y_label: str,
    x_ticks: Sequence[float],
    x_end: float,
    y_ticks: Sequence[float],
    y_end: float,
) -> list[str]:
    parts = []
    for tick in y_ticks:
        x, y = _place(0, tick / y_end)
        parts.append(f'<path class="grid" d="M{x:.1f} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        x, y = _place(tick / x_end, 0)
        parts.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{tick:g}</text>')
    middle_x, middle_y = _place(0.5, 0.5)
    parts.append(
        f'<text x="{middle_x:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text transform="translate(12 {middle_y:.1f}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    return parts


def _ticks(end: float) -> list[float]:
    """Round numbers from 0 to `end`, four to eight of them."""
    power = 10.0 ** math.floor(math.log10(end / 4))
    step = next(size * power for size in (5, 2, 1) if size * power <= end / 4)
    return [float(f"{number * step:g}") for number in range(math.floor(end / step + 1e-9) + 1)]


def _svg(label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )
