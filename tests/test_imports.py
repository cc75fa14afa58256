"""What importing the runtime loads, and which way its imports point."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.places import REPOSITORY

RUNTIME_FILES = sorted((REPOSITORY / "edge_tracker").rglob("*.py"))
#: What a subcommand imports inside the function that needs it.
COMMANDS = REPOSITORY / "edge_tracker" / "cli"
ABOVE_THE_RUNTIME = {"mixformerv2", "converters", "calibration", "distillation"}
BACKEND_PACKAGES = {"openvino", "onnxruntime", "tensorrt", "tensorrt_rtx", "pycuda", "cuda"}


def modules_loaded_by(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*sys.modules)"
    command = [sys.executable, "-c", script]
    output = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in output.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import edge_tracker",
        "from edge_tracker import EdgeTracker, TrackerOptions, open_bundle, BundleError",
    ],
)
def test_importing_the_runtime_loads_neither_torch_nor_a_backend(statement: str) -> None:
    # Packages may come with a start-up file of their own, as some versions of cuda-bindings do.
    loaded = modules_loaded_by(statement) - modules_loaded_by("pass")
    assert "edge_tracker" in loaded
    heavy = {"torch", "onnx", "onnxsim", "safetensors", "matplotlib", "sklearn", "nncf", "rich"}
    assert loaded & (heavy | BACKEND_PACKAGES | ABOVE_THE_RUNTIME) == set()


def test_importing_the_package_alone_loads_no_numpy_and_no_opencv() -> None:
    assert modules_loaded_by("import edge_tracker") & {"numpy", "cv2"} == set()


def imported_by(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            names.add(str(node.module).split(".")[0])
    return names


@pytest.mark.parametrize("path", RUNTIME_FILES, ids=lambda path: path.name)
def test_runtime_never_imports_torch_nor_what_stands_above_it(path: Path) -> None:
    assert "torch" not in imported_by(path)
    if COMMANDS not in path.parents:
        assert imported_by(path) & ABOVE_THE_RUNTIME == set()


@pytest.mark.parametrize("path", sorted(COMMANDS.glob("*.py")), ids=lambda path: path.name)
def test_subcommands_import_what_stands_above_the_runtime_inside_a_function(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    at_the_top = {
        str(node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert at_the_top & ABOVE_THE_RUNTIME == set()


@pytest.mark.parametrize(
    "path",
    [path for path in RUNTIME_FILES if "backends" not in path.parts],
    ids=lambda path: path.name,
)
def test_only_a_backend_s_own_file_imports_its_package_at_the_top(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    at_the_top = {
        alias.name.split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert at_the_top & BACKEND_PACKAGES == set()


def test_every_public_name_is_there() -> None:
    import edge_tracker

    for name in edge_tracker.__all__:
        assert getattr(edge_tracker, name) is not None
    assert set(edge_tracker.__all__) <= set(dir(edge_tracker))
    with pytest.raises(AttributeError, match="no attribute 'Tracker'"):
        edge_tracker.Tracker  # noqa: B018
