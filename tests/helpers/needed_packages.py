"""What a file needs to be imported: the packages that its top-level imports lead to."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.helpers.places import REPOSITORY

#: What converts, calibrates and trains, and is not there on a device.
NOT_ON_A_DEVICE = frozenset({"torch", "onnx", "onnxsim", "safetensors", "nncf", "sklearn"})


@cache
def needed_packages(path: Path) -> frozenset[str]:
    """Top-level names of packages outside the repository; two files may not import each other."""
    found: set[str] = set()
    for module in _imported_modules(path):
        inside = _file_of(module)
        found |= needed_packages(inside) if inside else {module.split(".")[0]}
    return frozenset(found)


def _imported_modules(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if _file_of(inner) else node.module


def _file_of(module: str) -> Path | None:
    place = REPOSITORY.joinpath(*module.split("."))
    files = (place.with_suffix(".py"), place / "__init__.py")
    return next((file for file in files if file.is_file()), None)
