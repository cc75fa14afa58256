"""Pictures of runs: their losses, and what validation measured, over the steps."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from distillation.recipes.recipe import RecipeError
from edge_tracker.files.atomic_file import replacing
from edge_tracker.files.untrusted import reading

#: In a log line, these are neither losses nor measurements.
OTHER_KEYS = ("step", "learning_rate_factor", "samples_per_s")
#: The rest of a log line's names with this prefix was measured on held-out samples.
VALIDATION_PREFIX = "validation_"


def draw_curves(log: Path, picture: Path) -> None:
    """Read a log of JSON lines, write a PNG; does nothing while the log is empty."""
    lines = read_log(log)
    if not lines:
        return
    figure = _figure()
    losses, measured = figure.subplots(1, 2)
    for name in sorted({key for line in lines for key in line} - set(OTHER_KEYS)):
        is_measured = name.startswith(VALIDATION_PREFIX)
        axes = measured if is_measured else losses
        _plot(axes, lines, name, name.removeprefix(VALIDATION_PREFIX))
    losses.set(title="training", xlabel="step", ylabel="weighted loss", yscale="log")
    measured.set(title="validation", xlabel="step", ylim=(0, 1))
    _write(figure, picture)


def draw_comparison(groups: dict[str, dict[str, Path]], name: str, picture: Path) -> None:
    """One panel for each group of logs, with the named value of each log as a line."""
    figure = _figure()
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axes, (title, logs) in zip(panels, groups.items(), strict=True):
        for label, log in logs.items():
            _plot(axes, read_log(log), name, label)
        axes.set(title=title, xlabel="step")
    panels[0].set(ylabel=name.replace("_", " "))
    _write(figure, picture)


def read_log(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    with reading(f"the log {path} of a run", "remove it", RecipeError):
        return [json.loads(line) for line in path.read_text().splitlines()]


def _figure() -> Figure:
    # Made of its parts: pyplot would choose a window system and keep figures alive.
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _plot(axes: Axes, lines: list[dict[str, float]], name: str, label: str) -> None:
    points = [(line["step"], line[name]) for line in lines if name in line]
    axes.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 60 else "")


def _write(figure: Figure, picture: Path) -> None:
    for axes in figure.axes:
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    with replacing(picture) as temporary:
        figure.savefig(temporary, dpi=110)
