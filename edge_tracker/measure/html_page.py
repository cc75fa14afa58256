"""The page around a report: one file, no network, light and dark, phone and laptop."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark;
  --page: #fbfbfa; --card: #ffffff; --ink: #1d2126; --soft: #5c6670; --rule: #dfe3e7;
  --line-0: #0a66b5; --line-1: #c2500a; --line-2: #0b7a54; --line-3: #a03a86; --line-4: #6b6f00;
  --line-5: #5b50c8; }
@media (prefers-color-scheme: dark) { :root {
  --page: #15181c; --card: #1d2126; --ink: #e8eaed; --soft: #a4adb6; --rule: #343b43;
  --line-0: #6cb6ff; --line-1: #ff9a57; --line-2: #4fd3a2; --line-3: #f08bd5; --line-4: #d3d45c;
  --line-5: #b0a8ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 1.25rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .7rem; }
h3 { font-size: 1rem; margin: 0 0 .4rem; }
p { margin: .3rem 0; max-width: 75ch; }
.soft, figcaption, svg text { color: var(--soft); fill: var(--soft); }
.plots { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: .9rem;
  margin-bottom: 1rem; min-width: 0; }
.plots .card { margin: 0; }
.plot > svg { display: block; width: 100%; height: auto; }
svg text { font-size: 12px; }
.grid { stroke: var(--rule); fill: none; }
.line { fill: none; stroke-width: 2; }
.line-0 { stroke: var(--line-0); } .line-1 { stroke: var(--line-1); }
.line-2 { stroke: var(--line-2); } .line-3 { stroke: var(--line-3); }
.line-4 { stroke: var(--line-4); } .line-5 { stroke: var(--line-5); }
.legend { list-style: none; margin: .5rem 0 0; padding: 0; display: flex; flex-wrap: wrap;
  gap: .15rem 1.1rem; font-size: .9rem; }
.legend svg { margin-right: .4rem; vertical-align: middle; }
.scroll { overflow-x: auto; border: 1px solid var(--rule); border-radius: 8px;
  background: var(--card); }
table { border-collapse: collapse; width: 100%; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .7rem; text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal; }
td { border-top: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0;
  background: var(--card); }
.beside { display: grid; gap: 1rem; grid-template-columns: minmax(0, 1fr); align-items: start; }
.strip { display: grid; gap: .6rem;
  grid-template-columns: repeat(auto-fill, minmax(min(10rem, 45%), 1fr)); }
figure { margin: 0; } figure img { width: 100%; height: auto; display: block; border-radius: 4px; }
figcaption { font-size: .82rem; margin-top: .2rem; }
@media (min-width: 60rem) { .beside { grid-template-columns: 25rem minmax(0, 1fr); } }
@media (max-width: 40rem) { th, td { padding: .4rem .5rem; } table { font-size: .85rem; } }
.failures li { overflow-wrap: anywhere; }
"""


def html_page(title: str, body: str) -> str:
    """A whole document. title: plain text. body: HTML, of this file's classes."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{escape(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def html_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are plain text. In a narrow window it scrolls sideways, and the first column stays."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{lines}</tbody></table></div>"
    )
