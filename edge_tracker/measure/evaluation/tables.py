"""An evaluation as rows of text, as Markdown, and as plain values for JSON."""

from __future__ import annotations

import html
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edge_tracker.files.untrusted import harmless
from edge_tracker.hardware import read_cpu
from edge_tracker.measure.evaluation.long_term import LongTerm
from edge_tracker.measure.evaluation.metrics import (
    CENTRE_THRESHOLDS_PX,
    NORMALISED_THRESHOLDS,
    OVERLAP_THRESHOLDS,
    PairedDifference,
    Scores,
    paired_auc_difference,
)
from edge_tracker.measure.evaluation.result import Evaluation
from edge_tracker.version import __version__

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]

SCORE_COLUMNS = ("success AUC", "precision 20 px", "norm. precision AUC", "AO", "SR0.5", "SR0.75")


def overall_table(evaluation: Evaluation) -> Table:
    """One row per contender; the first is what the others are compared with, sequence by sequence,
    with the 95 % interval of the mean difference.
    """
    columns = ["tracker", *SCORE_COLUMNS, "median ms", "frames/s"]
    first = evaluation.overall(evaluation.contenders[0])
    compared = first is not None and len(evaluation.contenders) > 1
    if compared:
        columns.insert(2, f"AUC vs {evaluation.contenders[0]}")
    if evaluation.camera_fps is not None:
        columns.append("frames skipped")
    rows = []
    for name in evaluation.contenders:
        overall = evaluation.overall(name)
        cells = [name, *_score_cells(overall)]
        if compared and first is not None and overall is not None:
            difference = _difference(evaluation, name)
            cells.insert(2, f"{overall.success_auc - first.success_auc:+.3f}")
            if difference is not None:
                cells[2] += f" ({difference.low:+.3f} to {difference.high:+.3f})"
        cells += _speed_cells(evaluation, name)
        if evaluation.camera_fps is not None:
            cells.append(f"{evaluation.frames_skipped(name)} of {_frames_after_first(evaluation)}")
        rows.append(tuple(cells))
    return tuple(columns), rows


def _difference(evaluation: Evaluation, name: str) -> PairedDifference | None:
    """From the first contender; None for itself."""
    first = evaluation.contenders[0]
    if name == first:
        return None
    return paired_auc_difference(evaluation.scores(name), evaluation.scores(first))


def sequence_table(evaluation: Evaluation) -> Table:
    """One row per sequence: all metrics of a single contender, AO and time of several."""
    single = len(evaluation.contenders) == 1
    columns = ["sequence", "frames"]
    if single:
        columns += [*SCORE_COLUMNS, "median ms", "frames/s"]
    else:
        columns += [f"AO {name}" for name in evaluation.contenders]
        columns += [f"ms {name}" for name in evaluation.contenders]
    scores = {name: evaluation.scores(name) for name in evaluation.contenders}
    rows = []
    for sequence in evaluation.sequences:
        frames = len(evaluation.results[evaluation.contenders[0]][sequence].trajectory.boxes_xywh)
        cells = [sequence, str(frames)]
        if single:
            (name,) = evaluation.contenders
            cells += _score_cells(scores[name].get(sequence))
            cells += _speed_cells(evaluation, name, sequence)
        else:
            cells += [_score_cells(scores[n].get(sequence))[3] for n in evaluation.contenders]
            cells += [_speed_cells(evaluation, n, sequence)[0] for n in evaluation.contenders]
        rows.append(tuple(cells))
    return tuple(columns), rows


def presence_table(evaluation: Evaluation) -> Table | None:
    """One row per contender that tells its confidence: whether it knows that the target is gone,
    and takes it up again. See `long_term.LongTerm`.
    """
    columns = (
        "tracker", "F", "precision", "recall", "ROC AUC", "calibration error", "risk",
        "absent told", "false alarms", "regained", "frames to regain", "false recoveries",
    )  # fmt: skip
    rows = []
    for name in evaluation.contenders:
        found = evaluation.long_term(name)
        if found is not None:
            rows.append((name, *_presence_cells(found)))
    return (columns, rows) if rows else None


def _presence_cells(found: LongTerm) -> list[str]:
    def share(value: float | None) -> str:
        return "none" if value is None else f"{value:.1%}"

    frames_to_regain = found.frames_to_regain
    return [
        f"{found.f_score:.3f}",
        f"{found.precision:.3f}",
        f"{found.recall:.3f}",
        "none" if found.roc_auc is None else f"{found.roc_auc:.3f}",
        f"{found.calibration_error:.3f}",
        f"{found.risk_coverage:.3f}",
        share(found.absent_told),
        share(found.false_alarms),
        f"{found.regained} of {found.returns}",
        "none" if frames_to_regain is None else f"{frames_to_regain:g}",
        f"{found.false_recoveries:.2f} in 1,000",
    ]


def conditions(evaluation: Evaluation) -> str:
    """One line about what was evaluated, where and how."""
    cpu = read_cpu(Path("/"))
    failed = {failure.sequence for failure in evaluation.failures} - set(evaluation.sequences)
    parts = [
        f"{len(evaluation.sequences)} of {len(evaluation.sequences) + len(failed)} sequences, "
        f"layout {evaluation.layout}",
        f"{_frames_after_first(evaluation)} frames after the first ones",
        f"{cpu.model}, cores: {cpu.usable_cores}, threads: {evaluation.num_threads or 'all'}",
        f"edge-tracker {__version__}",
    ]
    if evaluation.camera_fps is not None:
        parts.append(f"camera of {evaluation.camera_fps:g} fps")
    if evaluation.jobs > 1:
        parts.append(
            f"{evaluation.jobs} processes at once, so times are not those of a tracker alone"
        )
    if evaluation.cluster is not None:
        parts.append(f"on the cluster {evaluation.cluster}, so times are those of its machines")
    return "; ".join(parts)


def to_markdown(evaluation: Evaluation) -> str:
    """A page: conditions, both tables, failures."""
    lines = [
        "# One-pass evaluation",
        "",
        markdown_text(conditions(evaluation)) + ".",
        "",
        "## Overall",
        "",
    ]
    lines += [*_markdown_table(overall_table(evaluation)), "", "## Sequences", ""]
    lines += _markdown_table(sequence_table(evaluation))
    presence = presence_table(evaluation)
    if presence is not None:
        lines += ["", "## Presence", "", *_markdown_table(presence)]
    if evaluation.failures:
        lines += ["", "## Not evaluated", ""]
        lines += [f"* {markdown_text(failure.reason)}" for failure in evaluation.failures]
    return "\n".join(lines) + "\n"


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Everything but the boxes, which are in the result files."""
    return {
        "dataset": evaluation.dataset,
        "layout": evaluation.layout,
        "conditions": conditions(evaluation),
        "python": platform.python_version(),
        "camera_fps": evaluation.camera_fps,
        "num_threads": evaluation.num_threads,
        "jobs": evaluation.jobs,
        "cluster": evaluation.cluster,
        "thresholds": {
            "success_curve": OVERLAP_THRESHOLDS.tolist(),
            "precision_curve": CENTRE_THRESHOLDS_PX.tolist(),
            "normalised_precision_curve": NORMALISED_THRESHOLDS.tolist(),
        },
        "trackers": {name: _tracker_json(evaluation, name) for name in evaluation.contenders},
        "failures": [
            {"sequence": f.sequence, "tracker": f.contender, "reason": f.reason}
            for f in evaluation.failures
        ],
    }


def _tracker_json(evaluation: Evaluation, name: str) -> dict[str, Any]:
    scores = evaluation.scores(name)
    difference = _difference(evaluation, name)
    presence = evaluation.long_term(name)
    return {
        "presence": asdict(presence) if presence is not None else None,
        "auc_difference": asdict(difference) if difference is not None else None,
        "mean_over_sequences": _scores_json(evaluation.overall(name)),
        "mean_over_frames": _scores_json(evaluation.overall(name, by_frames=True)),
        **_speed_json(evaluation, name),
        "frames_skipped": evaluation.frames_skipped(name),
        "sequences": {
            sequence: {
                **(_scores_json(scores.get(sequence)) or {}),
                **_speed_json(evaluation, name, sequence),
            }
            for sequence in evaluation.sequences
        },
    }


def _scores_json(scores: Scores | None) -> dict[str, Any] | None:
    if scores is None:
        return None
    return {
        "success_auc": scores.success_auc,
        "precision_20px": scores.precision_20px,
        "normalised_precision_auc": scores.normalised_precision_auc,
        "ao": scores.ao,
        "sr_50": scores.sr_50,
        "sr_75": scores.sr_75,
        "frames": scores.frames,
        "success_curve": scores.success_curve.tolist(),
        "precision_curve": scores.precision_curve.tolist(),
        "normalised_precision_curve": scores.normalised_precision_curve.tolist(),
    }


def _speed_json(
    evaluation: Evaluation, contender: str, sequence: str | None = None
) -> dict[str, float | None]:
    times_ms = evaluation.update_times_ms(contender, sequence)
    if not times_ms.size:
        return {"update_ms_median": None, "update_ms_mean": None, "fps": None}
    mean_ms = float(times_ms.mean())
    return {
        "update_ms_median": float(np.median(times_ms)),
        "update_ms_mean": mean_ms,
        "fps": 1000 / mean_ms,
    }


def _score_cells(scores: Scores | None) -> list[str]:
    if scores is None:
        return ["withheld"] * len(SCORE_COLUMNS)
    values = (
        scores.success_auc,
        scores.precision_20px,
        scores.normalised_precision_auc,
        scores.ao,
        scores.sr_50,
        scores.sr_75,
    )
    return [f"{value:.3f}" for value in values]


def _speed_cells(evaluation: Evaluation, contender: str, sequence: str | None = None) -> list[str]:
    speed = _speed_json(evaluation, contender, sequence)
    if speed["update_ms_median"] is None or speed["fps"] is None:
        return ["none", "none"]
    return [f"{speed['update_ms_median']:.1f}", f"{speed['fps']:.1f}"]


def _frames_after_first(evaluation: Evaluation) -> int:
    results = evaluation.results[evaluation.contenders[0]]
    return sum(len(results[name].trajectory.times_s) - 1 for name in evaluation.sequences)


def _markdown_table(table: Table) -> Sequence[str]:
    columns, rows = table
    rule = ["---"] + ["---:"] * (len(columns) - 1)
    texts = [[markdown_text(cell) for cell in cells] for cells in (columns, *rows)]
    return [f"| {' | '.join(cells)} |" for cells in (texts[0], rule, *texts[1:])]


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is: no HTML, link, column, heading or emphasis in it."""
    shown = html.escape(harmless(text), quote=False)
    return re.sub(r"([\\`*\[\]|#])", r"\\\1", shown)
