"""Hooks of mkdocs: pages that are generated or lie outside docs/, and links between them."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from docs.site.troubleshooting import troubleshooting_page

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parents[2]
#: Files outside docs/ -> their names in the site.
ELSEWHERE = {
    "README.md": "start.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "edge_tracker/models/README.md": "shipped_network.md",
}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^()\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    from mkdocs.structure.files import File

    pages = {name: (REPOSITORY / path).read_text("utf-8") for path, name in ELSEWHERE.items()}
    pages["troubleshooting.md"] = troubleshooting_page(REPOSITORY)
    pages["api.md"] = api_page()
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return links_in_site(markdown, page.file.src_uri)


def links_in_site(markdown: str, page: str) -> str:
    """The text of a page of the site, its links turned from the repository's folders to the site's.

    A link to a file that is not in the site becomes its words.
    """
    home = {name: path for path, name in ELSEWHERE.items()}.get(page, f"docs/{page}")

    def turned(link: re.Match[str]) -> str:
        mark, words, target = link.groups()
        path, hash_sign, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return link[0]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(home), path))
        in_site = ELSEWHERE.get(there)
        if in_site is None:
            if not there.startswith("docs/"):
                return words
            in_site = there.removeprefix("docs/")
        return f"{mark}[{words}]({in_site}{hash_sign}{anchor})"

    return _LINK.sub(turned, markdown)


def api_page() -> str:
    """Every public name of the package, from its docstring."""
    import edge_tracker

    names = [name for name in edge_tracker.__all__ if name != "__version__"]
    intro = (
        "# API\n\nWhat `edge_tracker` offers. Each states its arrays' shapes, types and units.\n"
    )
    return intro + "".join(f"\n::: edge_tracker.{name}\n" for name in names)
