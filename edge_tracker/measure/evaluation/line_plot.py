"""Lines over axes, and the legend that tells them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from edge_tracker.measure.axes import Axes

#: Lines are told apart by colour (`--line-0` ... of the page) and by their dashes.
DASHES = ("", "7 4", "2 3", "10 3 2 3", "5 2", "1 2")


def line_plot(axes: Axes, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """An SVG element; it scales to the width it is given. lines: points x, y by name, in order.

    A point with NaN leaves a gap.
    """
    drawn = []
    for number, (name, points) in enumerate(lines.items()):
        path = _path([axes.place(x, y) for x, y in points])
        drawn.append(f'<path {line_style(number)} d="{path}"><title>{escape(name)}</title></path>')
    return axes.around(drawn, f"{axes.y_label} over {axes.x_label}")


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
