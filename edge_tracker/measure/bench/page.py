"""The measurement as one page that opens from disk: plots, tables, warnings, recommendation."""

from __future__ import annotations

from html import escape

from edge_tracker.measure.bench.plots import histogram, stage_bars, stage_legend, timeline
from edge_tracker.measure.bench.report import BenchReport, MeasuredArtefact
from edge_tracker.measure.bench.tables import tables_of
from edge_tracker.measure.html_page import html_page, html_table


def bench_page(report: BenchReport) -> str:
    """A whole HTML document without references to anything outside it."""
    machine, settings = report.machine, report.settings
    place = machine.board or machine.cpu.model
    parts = [
        f'<p class="soft">{escape(place)}, {settings.frame_width}x{settings.frame_height} frames, '
        f"{escape(report.created)}</p>",
        *_advice(report),
    ]
    if report.artefacts:
        widest_ms = max(artefact.update.mean for artefact in report.artefacts)
        bars = "".join(
            f'<h3>{escape(artefact.name)} <span class="soft">{artefact.update.mean:.2f} ms</span>'
            "</h3>"
            f"{stage_bars(artefact.stage_mean_ms, artefact.update.mean, widest_ms)}"
            for artefact in report.artefacts
        )
        parts.append(
            "<h2>Where the time goes</h2>"
            '<p class="soft">Mean milliseconds of one update() in each of its stages.</p>'
            f'<div class="card">{bars}{stage_legend()}</div>'
        )
        # One scale for all, set by the tails but not by single outliers.
        scale_ms = 1.15 * max(artefact.update.p99 for artefact in report.artefacts)
        parts.append(
            "<h2>Latency of update()</h2>"
            '<p class="soft">Left: how often each latency was seen, on one scale for all models; '
            "what is slower than the scale is counted in the last bar. Right: every update in "
            "order, from the fastest to the slowest of neighbours. Dots mark the first update with "
            "a new online template.</p>"
        )
        parts += [_plots(artefact, scale_ms) for artefact in report.artefacts]
    machine_table, *tables = tables_of(report)
    lines = "".join(
        f"<p><b>{escape(name)}</b> {escape(value)}</p>" for name, value in machine_table.rows
    )
    for table in tables:
        parts.append(f"<h2>{escape(table.title)}</h2>{html_table(table.columns, table.rows)}")
    parts.append(f'<h2>{escape(machine_table.title)}</h2><div class="card failures">{lines}</div>')
    parts.append(
        f'<p class="soft">Measuring adds {report.overhead_us:.1f} µs to an update. Times are of '
        "this machine as described above; copies into and out of the search graph are part of "
        "it.</p>"
    )
    return html_page("Latency of an edge_tracker bundle", "\n".join(parts))


def _advice(report: BenchReport) -> list[str]:
    chosen = report.recommendation
    parts = [
        '<div class="card"><h3>Recommended: '
        f"{escape(chosen.artefact or 'none')}</h3><p>{escape(chosen.reason)}</p></div>"
    ]
    doubts = [f"Warning: {warning}" for warning in report.warnings]
    doubts += [f"Not measured: {failure.what}: {failure.reason}" for failure in report.failures]
    if doubts:
        items = "".join(f"<li>{escape(doubt)}</li>" for doubt in doubts)
        parts.append(
            f'<div class="card failures"><h3>Before you quote these figures</h3><ul>{items}</ul>'
            "</div>"
        )
    return parts


def _plots(artefact: MeasuredArtefact, scale_ms: float) -> str:
    update = artefact.update
    facts = f"p50 {update.p50:.2f} ms, p99 {update.p99:.2f} ms, {artefact.fps:.0f} frames/s"
    name = escape(artefact.name)
    return (
        f'<section style="margin-top:1.2rem"><h3>{name} <span class="soft">{facts}</span></h3>'
        '<div class="plots">'
        f'<div class="card plot">{histogram(artefact.updates_ms, update, scale_ms)}</div>'
        f'<div class="card plot">{timeline(artefact.updates_ms, artefact.refresh_frames)}</div>'
        "</div></section>"
    )
