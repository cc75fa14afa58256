"""The site of docs/: links turned, every error message listed, built without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import edge_tracker
from docs.site.pages import api_page, links_in_site
from docs.site.troubleshooting import messages, named_errors, troubleshooting_page
from tests.helpers.places import REPOSITORY


@pytest.mark.parametrize(
    ("page", "link", "in_site"),
    [
        ("cpp.md", "[a](bundle_format.md#x)", "[a](bundle_format.md#x)"),
        ("README.md", "[a](../CONTRIBUTING.md)", "[a](contributing.md)"),
        ("start.md", "[a](docs/measuring.md)", "[a](measuring.md)"),
        ("start.md", "![a](docs/demo_filmstrip.png)", "![a](demo_filmstrip.png)"),
        ("start.md", "[a](#b)", "[a](#b)"),
        ("start.md", "[a](https://x.org/y)", "[a](https://x.org/y)"),
        ("cpp.md", "[`a`](../examples/cpp)", "`a`"),
        ("shipped_network.md", "[NOTICE](../../NOTICE)", "NOTICE"),
    ],
)
def test_links_are_turned(page: str, link: str, in_site: str) -> None:
    assert links_in_site(f"x {link} y", page) == f"x {in_site} y"


def test_errors_of_the_whole_tree_are_listed() -> None:
    names = [error.name for error in named_errors(REPOSITORY)]
    assert names[0] == "EdgeTrackerError"
    public = {n for n in edge_tracker.__all__ if isinstance(getattr(edge_tracker, n), type)}
    public = {n for n in public if issubclass(getattr(edge_tracker, n), Exception)}
    assert public < set(names)
    # Of another package, and derived from a derived one.
    assert {"RecipeError", "EngineMismatch"} < set(names)


def test_messages_are_whole(tmp_path: Path) -> None:
    package = tmp_path / "edge_tracker"
    package.mkdir()
    (package / "errors.py").write_text(
        "class EdgeTrackerError(Exception):\n    '''Base.'''\n"
        "class VideoError(EdgeTrackerError):\n    '''No <frames>.'''\n"
    )
    (package / "a.py").write_text(
        "raise VideoError(f'video {self._path}: *no* {len(x)} ' 'frames')\n"
        "raise errors.VideoError('one' + more_words)\n"
        "raise VideoError(reason)\nraise ValueError('not listed')\n"
    )
    words = [message.words for message in messages(tmp_path)]
    assert words == ["video {path}: *no* {...} frames", "one{more words}", None]
    page = troubleshooting_page(tmp_path)
    assert "* video {path}: \\*no\\* {...} frames\n* one{more words}\n* A message that is" in page
    assert "No &lt;frames&gt;. A kind of EdgeTrackerError." in page
    assert "not listed')" not in page


def test_the_reference_has_every_public_name() -> None:
    listed = re.findall(r"::: edge_tracker\.(\w+)", api_page())
    assert [*listed, "__version__"] == [n for n in edge_tracker.__all__ if n[0] != "_"] + [
        "__version__"
    ]


class Links(HTMLParser):
    def __init__(self, page: Path) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.targets: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.names.add(given.get("id") or "")
        self.targets += [given[key] or "" for key in ("href", "src") if key in given]


def test_it_is_built_without_a_warning_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs edge-tracker[docs]")
    pytest.importorskip("mkdocstrings", reason="needs edge-tracker[docs]")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    pages = {page: Links(page) for page in tmp_path.glob("*.html") if page.name != "404.html"}
    assert len(pages) > 15
    for page, links in pages.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme:
                continue
            there = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            there = there / "index.html" if there.is_dir() else there
            assert there.exists(), f"{page.name}: {target}"
            if parts.fragment and there in pages:
                assert unquote(parts.fragment) in pages[there].names, f"{page.name}: {target}"
