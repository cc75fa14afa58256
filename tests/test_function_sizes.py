"""Functions that are long or take many parameters say why in their docstring, or their class's."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.places import REPOSITORY

MOST_LINES = 80
MOST_PARAMETERS = 6
PACKAGES = ("edge_tracker", "mixformerv2", "converters", "calibration", "distillation")
FILES = sorted(file for package in PACKAGES for file in (REPOSITORY / package).rglob("*.py"))


def unexplained(tree: ast.AST, class_words: str = "") -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        words = class_words
        if isinstance(node, ast.ClassDef):
            words = ast.get_docstring(node) or ""
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            words += ast.get_docstring(node) or ""
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            given = node.args
            names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            if lines > MOST_LINES and "ong because" not in words:
                yield f"{node.name}: {lines} lines"
            if count > MOST_PARAMETERS and "o many parameters because" not in words:
                yield f"{node.name}: {count} parameters"
        yield from unexplained(node, words)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_functions_are_short_or_say_why_not(path: Path) -> None:
    assert list(unexplained(ast.parse(path.read_text(encoding="utf-8")))) == []


def test_what_is_too_large_is_noticed() -> None:
    long = "def f(a, b, c, d, e, f, *, g):\n" + "    x = 1\n" * MOST_LINES
    assert list(unexplained(ast.parse(long))) == ["f: 81 lines", "f: 7 parameters"]
    explained = long.replace(":\n", ':\n    """Long because. So many parameters because."""\n', 1)
    assert list(unexplained(ast.parse(explained))) == []
