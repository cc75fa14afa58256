"""Axes of plots as inline SVG that takes its colours from the page around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 20, 22, 40


@dataclass(frozen=True)
class Axes:
    """Labels, and the ranges that fill the plot; ticks are labelled with the numbers given, and
    have lines across the plot: those of y always, those of x if `upright_grid`.
    """

    x_label: str
    y_label: str
    x_range: tuple[float, float]
    x_ticks: Sequence[float]
    y_range: tuple[float, float] = (0.0, 1.0)
    y_ticks: Sequence[float] = (0, 0.25, 0.5, 0.75, 1)
    upright_grid: bool = True
    width_px: int = 420
    height_px: int = 280

    @property
    def top_px(self) -> float:
        """Of the plot's area; above it is room for a line of text."""
        return _TOP

    @property
    def plot_width_px(self) -> float:
        return self.width_px - _LEFT - _RIGHT

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where values are drawn, in pixels from the top left."""
        (x_low, x_high), (y_low, y_high) = self.x_range, self.y_range
        plot_height_px = self.height_px - _TOP - _BOTTOM
        return (
            _LEFT + (x - x_low) / (x_high - x_low) * self.plot_width_px,
            self.height_px - _BOTTOM - (y - y_low) / (y_high - y_low) * plot_height_px,
        )

    def around(self, content: Sequence[str], label: str) -> str:
        """An SVG element of the axes and what is drawn over them; it scales to the width it is
        given. label: what a screen reader says.
        """
        return (
            f'<svg viewBox="0 0 {self.width_px} {self.height_px}" role="img" '
            f'aria-label="{escape(label)}">{"".join([*self._drawn(), *content])}</svg>'
        )

    def _drawn(self) -> list[str]:
        parts = []
        for tick in self.y_ticks:
            x, y = self.place(self.x_range[0], tick)
            parts.append(f'<path class="grid" d="M{x:.1f} {y:.1f}H{self.width_px - _RIGHT}"/>')
            parts.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        for tick in self.x_ticks:
            x, y = self.place(tick, self.y_range[0])
            if self.upright_grid:
                parts.append(f'<path class="grid" d="M{x:.1f} {y:.1f}V{_TOP}"/>')
            parts.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{tick:g}</text>')
        middle_x, middle_y = (
            (low + high) / 2
            for low, high in ((_LEFT, self.width_px - _RIGHT), (_TOP, self.height_px - _BOTTOM))
        )
        parts.append(
            f'<text x="{middle_x:.1f}" y="{self.height_px - 6}" text-anchor="middle">'
            f"{escape(self.x_label)}</text>"
            f'<text transform="translate(12 {middle_y:.1f}) rotate(-90)" text-anchor="middle">'
            f"{escape(self.y_label)}</text>"
        )
        return parts
