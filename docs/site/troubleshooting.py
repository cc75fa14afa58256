"""The page of error messages, read from the source: each `raise` of each named error."""

from __future__ import annotations

import ast
import builtins
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("edge_tracker", "mixformerv2", "converters", "calibration", "distillation")


@dataclass(frozen=True)
class NamedError:
    name: str
    base: str
    meaning: str


@dataclass(frozen=True)
class Message:
    """words: with `{expression}` for what is filled in; None if they are made elsewhere."""

    error: str
    words: str | None
    place: str


def named_errors(repository: Path) -> list[NamedError]:
    """Every kind of exception that the packages define, EdgeTrackerError and its tree first."""
    first = repository / "edge_tracker" / "errors.py"
    classes = [
        node
        for file in [first, *(file for file in _sources(repository) if file != first)]
        for node in _tree(file).body
        if isinstance(node, ast.ClassDef) and node.bases
    ]
    known = {name for name, value in vars(builtins).items() if _is_exception(value)}
    found: dict[str, NamedError] = {}
    while new := [node for node in classes if node.name not in found and _base(node) in known]:
        for node in new:
            meaning = " ".join((ast.get_docstring(node) or "").split())
            found[node.name] = NamedError(node.name, _base(node), meaning)
            known.add(node.name)
    return list(found.values())


def messages(repository: Path) -> list[Message]:
    """Of every place that makes a named error, in order of files and lines."""
    errors = {error.name for error in named_errors(repository)}
    found: list[Message] = []
    for file in _sources(repository):
        place = file.relative_to(repository).as_posix()
        for node in ast.walk(_tree(file)):
            if isinstance(node, ast.Call) and _last_name(node.func) in errors:
                words = _words(node.args[0]) if node.args else None
                found.append(Message(_last_name(node.func), words, place))
    return found


def troubleshooting_page(repository: Path) -> str:
    """Markdown: a section for each named error, with its messages by the file that says them."""
    all_messages = messages(repository)
    lines = [
        "# Troubleshooting",
        "",
        "Every message of every named error, as the source has it; `{ }` stands for what is filled "
        "in. Search this page for words of yours. A message says what was wrong, with its value, "
        "and what to do. `edge-tracker doctor` says what this machine can run, and `--debug` "
        "prints where an error came from.",
        "",
        "Wrong arguments raise the built-in ValueError or TypeError and are not listed.",
    ]
    for error in named_errors(repository):
        kind = "" if hasattr(builtins, error.base) else f" A kind of {error.base}."
        lines += ["", f"## {error.name}", "", f"{html.escape(error.meaning, quote=False)}{kind}"]
        of_this = [message for message in all_messages if message.error == error.name]
        for place in dict.fromkeys(message.place for message in of_this):
            here = [message.words for message in of_this if message.place == place]
            lines += ["", f"`{place}`", ""]
            lines += [
                f"* {html.escape(_markdown(words), quote=False)}"
                for words in here
                if words is not None
            ]
            if None in here:
                lines.append("* A message that is put together from parts, or passed on.")
    return "\n".join(lines) + "\n"


def _sources(repository: Path) -> list[Path]:
    return [file for name in PACKAGES for file in sorted((repository / name).rglob("*.py"))]


def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _base(node: ast.ClassDef) -> str:
    return _last_name(node.bases[0])


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _last_name(called: ast.expr) -> str:
    return ast.unparse(called).rpartition(".")[2]


def _words(message: ast.expr) -> str | None:
    """Of a text in the source, f-string or not; None for anything else."""
    parts = list(_parts(message))
    return None if not any(parts) or all(part.startswith("{") for part in parts) else "".join(parts)


def _parts(message: ast.expr) -> Iterator[str]:
    if isinstance(message, ast.Constant) and isinstance(message.value, str):
        yield message.value
    elif isinstance(message, ast.JoinedStr):
        for value in message.values:
            yield from _parts(value)
    elif isinstance(message, ast.FormattedValue):
        yield _filled(message.value)
    elif isinstance(message, ast.BinOp) and isinstance(message.op, ast.Add):
        yield from _parts(message.left)
        yield from _parts(message.right)
    else:
        yield _filled(message)


def _filled(value: ast.expr) -> str:
    """Names as they are; the rest would be code."""
    if isinstance(value, (ast.Name, ast.Attribute)):
        return "{" + _last_name(value).strip("_").replace("_", " ") + "}"
    return "{...}"


def _markdown(words: str) -> str:
    """One line in which Markdown finds nothing to set."""
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", " ".join(words.split()))
