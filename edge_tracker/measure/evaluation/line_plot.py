"""Line plots as inline SVG that take their colours from the page around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

#: Lines are told apart by colour (`--line-0` ... of the page) and by their dashes.
DASHES = ("", "7 4", "2 3", "10 3 2 3", "5 2", "1 2")


@dataclass(frozen=True)
class Axes:
    """Labels, and the ranges that fill the plot; ticks are labelled with the numbers given."""

    x_label: str
    y_label: str
    x_range: tuple[float, float]
    x_ticks: Sequence[float]
    y_range: tuple[float, float] = (0.0, 1.0)
    y_ticks: Sequence[float] = (0, 0.25, 0.5, 0.75, 1)


def line_plot(
    axes: Axes,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    *,
    width_px: int = 420,
    height_px: int = 280,
) -> str:
    """An SVG element; it scales to the width it is given. lines: points x, y by name, in order.

    A point with NaN leaves a gap.
    """
    left, right, top, bottom = 46, 12, 10, 40
    x_low, x_high = axes.x_range
    y_low, y_high = axes.y_range

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - x_low) / (x_high - x_low) * (width_px - left - right),
            height_px - bottom - (y - y_low) / (y_high - y_low) * (height_px - top - bottom),
        )

    parts = [
        f'<svg viewBox="0 0 {width_px} {height_px}" role="img" '
        f'aria-label="{escape(axes.y_label)} over {escape(axes.x_label)}">'
    ]
    for tick in axes.y_ticks:
        x, y = place(x_low, tick)
        parts.append(f'<path class="grid" d="M{x:.1f} {y:.1f}H{width_px - right}"/>')
        parts.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in axes.x_ticks:
        x, y = place(tick, y_low)
        parts.append(f'<path class="grid" d="M{x:.1f} {y:.1f}V{top}"/>')
        parts.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{tick:g}</text>')
    middle_x, middle_y = (left + width_px - right) / 2, (top + height_px - bottom) / 2
    parts.append(
        f'<text x="{middle_x:.1f}" y="{height_px - 6}" text-anchor="middle">'
        f"{escape(axes.x_label)}</text>"
        f'<text transform="translate(12 {middle_y:.1f}) rotate(-90)" text-anchor="middle">'
        f"{escape(axes.y_label)}</text>"
    )
    for number, (name, points) in enumerate(lines.items()):
        path = _path([place(x, y) for x, y in points])
        parts.append(f'<path {line_style(number)} d="{path}"><title>{escape(name)}</title></path>')
    return "".join(parts) + "</svg>"


def line_style(number: int) -> str:
    """Attributes of the line with this number, also for a legend."""
    dash = DASHES[number % len(DASHES)]
    return f'class="line line-{number % len(DASHES)}" stroke-dasharray="{dash}"'


def legend(entries: Mapping[str, str]) -> str:
    """What each line is; entries: words by name, in the order of the lines."""
    items = "".join(
        f'<li><svg viewBox="0 0 28 8" width="28" height="8" aria-hidden="true">'
        f'<path {line_style(number)} d="M0 4H28"/></svg>{escape(name)} <b>{escape(words)}</b></li>'
        for number, (name, words) in enumerate(entries.items())
    )
    return f'<ul class="legend">{items}</ul>'


def _path(points: Sequence[tuple[float, float]]) -> str:
    commands, pen = [], "M"
    for x, y in points:
        if y != y:  # NaN
            pen = "M"
            continue
        commands.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return "".join(commands)
