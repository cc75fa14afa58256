"""The picture of a run: each loss, and what validation measured, over the steps."""

from __future__ import annotations

import json
from pathlib import Path

from edge_tracker.atomic_file import replacing

#: In a log line, these are neither losses nor measurements.
OTHER_KEYS = ("step", "learning_rate_factor", "samples_per_s")
#: The rest of a log line's names with this prefix was measured on held-out samples.
VALIDATION_PREFIX = "validation_"


def draw_curves(log: Path, picture: Path) -> None:
    """Read a log of JSON lines, write a PNG; does nothing while the log is empty."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    if not lines:
        return
    # Made of its parts: pyplot would choose a window system and keep figures alive.
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    losses, measured = figure.subplots(1, 2)
    for name in sorted({key for line in lines for key in line} - set(OTHER_KEYS)):
        points = [(line["step"], line[name]) for line in lines if name in line]
        steps, values = zip(*points, strict=True)
        if name.startswith(VALIDATION_PREFIX):
            measured.plot(steps, values, marker=".", label=name.removeprefix(VALIDATION_PREFIX))
        else:
            losses.plot(steps, values, label=name, linewidth=1)
    losses.set(title="training", xlabel="step", ylabel="weighted loss", yscale="log")
    measured.set(title="validation", xlabel="step", ylim=(0, 1))
    for axes in (losses, measured):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    with replacing(picture) as temporary:
        figure.savefig(temporary, dpi=110)
