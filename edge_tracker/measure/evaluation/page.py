"""An evaluation as one self-contained page: tables, curves, and the worst sequences in pictures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tracker.measure.axes import Axes
from edge_tracker.measure.evaluation.ground_truth import AnnotatedSequence
from edge_tracker.measure.evaluation.line_plot import legend, line_plot
from edge_tracker.measure.evaluation.metrics import (
    CENTRE_THRESHOLDS_PX,
    NORMALISED_THRESHOLDS,
    OVERLAP_THRESHOLDS,
    Scores,
    box_overlaps,
)
from edge_tracker.measure.evaluation.result import Evaluation
from edge_tracker.measure.evaluation.tables import (
    conditions,
    overall_table,
    presence_table,
    sequence_table,
)
from edge_tracker.measure.html_page import html_page, html_table
from edge_tracker.rules.boxes import Box
from edge_tracker.rules.crop import Image
from edge_tracker.video.draw import line_width_px, mark_truth

WORST_SEQUENCES = 5
FRAMES_SHOWN = 8
PICTURE_WIDTH_PX = 360
JPEG_QUALITY = 80

# The plots' colours, for boxes in video: on light and dark scenes alike, with a dark rim.
_BOX_COLOURS_BGR = (
    (255, 182, 108), (87, 154, 255), (162, 211, 79),
    (213, 139, 240), (92, 212, 211), (255, 168, 176),
)  # fmt: skip
_RIM_BGR = (20, 20, 20)


def to_html(evaluation: Evaluation) -> str:
    """The page; it reads the frames of the worst sequences again."""
    parts = [f'<p class="soft">{escape(conditions(evaluation))}.</p>']
    columns, rows = overall_table(evaluation)
    # A column per tracker: metrics side by side do not fit on a phone.
    turned = list(zip(columns, *rows, strict=True))
    parts += ["<h2>Overall</h2>", html_table(turned[0], turned[1:])]
    parts.append('<p class="soft">Means over sequences, each counting alike.</p>')
    overall = {
        name: scores
        for name in evaluation.contenders
        if (scores := evaluation.overall(name)) is not None
    }
    if overall:
        parts += ["<h2>Curves</h2>", _curves(overall)]
    presence = presence_table(evaluation)
    if presence is not None:
        turned = list(zip(presence[0], *presence[1], strict=True))
        parts += ["<h2>Presence</h2>", html_table(turned[0], turned[1:])]
    parts += ["<h2>Sequences</h2>", html_table(*sequence_table(evaluation))]
    if overall:
        parts.append(_worst(evaluation))
    if evaluation.failures:
        reasons = "".join(f"<li>{escape(failure.reason)}</li>" for failure in evaluation.failures)
        parts.append(f'<h2>Not evaluated</h2><ul class="failures">{reasons}</ul>')
    name = Path(evaluation.dataset).resolve().name
    return html_page(f"One-pass evaluation: {name}", "\n".join(parts))


def _curves(overall: dict[str, Scores]) -> str:
    success = Axes("overlap threshold", "success rate", (0, 1), (0, 0.25, 0.5, 0.75, 1))
    precision = Axes("centre error in px", "precision", (0, 50), (0, 10, 20, 30, 40, 50))
    normalised = Axes(
        "centre error / target size", "precision", (0, 0.5), (0, 0.1, 0.2, 0.3, 0.4, 0.5)
    )
    cards = (
        ("Success, with AUC", success, OVERLAP_THRESHOLDS,
         {n: (s.success_curve, s.success_auc) for n, s in overall.items()}),
        ("Precision, at 20 px", precision, CENTRE_THRESHOLDS_PX,
         {n: (s.precision_curve, s.precision_20px) for n, s in overall.items()}),
        ("Normalised precision, with AUC", normalised, NORMALISED_THRESHOLDS,
         {n: (s.normalised_precision_curve, s.normalised_precision_auc)
          for n, s in overall.items()}),
    )  # fmt: skip
    figures = []
    for title, axes, thresholds, curves in cards:
        lines = {
            name: list(zip(thresholds.tolist(), curve.tolist(), strict=True))
            for name, (curve, _) in curves.items()
        }
        words = {name: f"{score:.3f}" for name, (_, score) in curves.items()}
        figures.append(
            _card(title, f'<div class="plot">{line_plot(axes, lines)}{legend(words)}</div>')
        )
    return f'<div class="plots">{"".join(figures)}</div>'


def _worst(evaluation: Evaluation) -> str:
    first = evaluation.contenders[0]
    scores = evaluation.scores(first)
    worst = sorted(scores, key=lambda name: scores[name].ao)[:WORST_SEQUENCES]
    parts = [
        f"<h2>Worst for {escape(first)}</h2>",
        '<p class="soft">White corners are the ground truth, coloured boxes the trackers. The plot '
        "is the overlap of each with the truth, frame by frame.</p>",
    ]
    return "\n".join([*parts, *(_sequence_card(evaluation, name) for name in worst)])


def _sequence_card(evaluation: Evaluation, name: str) -> str:
    results = [evaluation.results[contender][name] for contender in evaluation.contenders]
    sequence = results[0].sequence
    boxes = [result.trajectory.boxes_xywh for result in results]
    overlaps = [
        box_overlaps(part, sequence.truth_xywh, sequence.overlap_bound_xyxy) for part in boxes
    ]
    last = len(sequence.frames) - 1
    ticks = sorted({round(last * share) for share in (0, 0.25, 0.5, 0.75, 1)})
    axes = Axes("frame", "overlap", (0, last), ticks, y_ticks=(0, 0.5, 1), height_px=230)
    lines = {
        result.contender: [(float(x), float(y)) for x, y in enumerate(overlap)]
        for result, overlap in zip(results, overlaps, strict=True)
    }
    words = {result.contender: f"AO {result.scores.ao:.3f}" for result in results if result.scores}
    plot = line_plot(axes, lines)
    shown = np.linspace(0, last, min(FRAMES_SHOWN, last + 1)).round().astype(int).tolist()
    figures = "".join(_figure(sequence, index, boxes, overlaps[0]) for index in shown)
    plot_and_legend = f'<div class="plot">{plot}{legend(words)}</div>'
    return _card(
        name, f'<div class="beside">{plot_and_legend}<div class="strip">{figures}</div></div>'
    )


def _figure(
    sequence: AnnotatedSequence,
    index: int,
    boxes: Sequence[NDArray[np.float64]],
    overlaps: NDArray[np.float64],
) -> str:
    frame = sequence.read_frame(index)
    absent = bool(np.isnan(sequence.truth_xywh[index]).any())
    for number in reversed(range(len(boxes))):
        frame = _with_box(frame, _as_box(boxes[number][index]), number)
    if not absent:
        frame = mark_truth(frame, _as_box(sequence.truth_xywh[index]))
    words = "target absent" if absent else f"overlap {overlaps[index]:.2f}"
    caption = f"frame {index}, {words}"
    return (
        f'<figure><img src="{_jpeg_url(frame)}" alt="{caption}" loading="lazy">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _with_box(frame: Image, box: Box, number: int) -> Image:
    canvas: Image = frame.copy()
    line_px = line_width_px(canvas)
    low = (round(box[0]), round(box[1]))
    high = (round(box[0] + box[2]), round(box[1] + box[3]))
    colour = _BOX_COLOURS_BGR[number % len(_BOX_COLOURS_BGR)]
    for line_colour, thickness in ((_RIM_BGR, 3 * line_px), (colour, line_px)):
        cv2.rectangle(canvas, low, high, line_colour, thickness, cv2.LINE_AA)
    return canvas


def _jpeg_url(frame: Image) -> str:
    height, width = frame.shape[:2]
    scale = PICTURE_WIDTH_PX / width
    smaller = cv2.resize(
        frame,
        (PICTURE_WIDTH_PX, max(1, round(height * scale))),
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
    )
    _, encoded = cv2.imencode(".jpg", smaller, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def _as_box(row_xywh: NDArray[np.float64]) -> Box:
    x, y, w, h = (float(value) for value in row_xywh)
    return x, y, w, h


def _card(title: str, content: str) -> str:
    return f'<section class="card"><h3>{escape(title)}</h3>{content}</section>'
