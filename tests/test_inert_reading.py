"""No code that reads what users bring calls a reader that could run code out of a file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
CODE = ("edge_tracker", "mixformerv2", "converters", "calibration", "distillation")
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib.numpy_pickle",
                     "shelve", "marshal"}  # fmt: skip
#: Calls that may run what a file says, by the last parts of their names.
FORBIDDEN_CALLS = {
    "torch.load", "torch.jit.load", "torch.package.PackageImporter", "torch.export.load",
    "pickle.load", "pickle.loads", "joblib.load", "torch.hub.load_state_dict_from_url",
    "eval", "exec",
}  # fmt: skip


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def faults(tree: ast.Module) -> Iterator[tuple[int, str]]:
    aliases = {"np": "numpy"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            aliases.update({alias.asname or alias.name: alias.name for alias in node.names})
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            aliases.update(
                {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            )
        else:
            continue
        yield from ((node.lineno, f"imports {name}") for name in names if name in FORBIDDEN_MODULES)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        first, _, rest = dotted(node.func).partition(".")
        name = ".".join(filter(None, (aliases.get(first, first), rest)))
        options = {word.arg: word.value for word in node.keywords}
        if name == "torch.load" and is_constant(options.get("weights_only"), True):
            yield node.lineno, "torch.load(weights_only=True)"
        elif name in FORBIDDEN_CALLS:
            yield node.lineno, f"calls {name}"
        elif name == "numpy.load" and not is_constant(options.get("allow_pickle"), False):
            yield node.lineno, "calls numpy.load without allow_pickle=False"


def is_constant(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_nothing_that_reads_files_could_run_them() -> None:
    found = {
        f"{path.relative_to(REPOSITORY)}: {what}"
        for folder in CODE
        for path in (REPOSITORY / folder).rglob("*.py")
        for _, what in faults(ast.parse(path.read_text(encoding="utf-8")))
    }
    # A training's own state, which only the run that wrote it reads: see there.
    (allowed,) = [fault for fault in found if fault.endswith("torch.load(weights_only=True)")]
    assert allowed.startswith("distillation/")
    assert found == {allowed}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load(p)",
        "import torch\ntorch.load(p, weights_only=False)",
        "import torch\ntorch.load(p, weights_only=flag)",
        "from torch import load\nload(p)",
        "import torch as t\nt.jit.load(p)",
        "import numpy as np\nnp.load(p)",
        "import numpy as np\nnp.load(p, allow_pickle=True)",
        "import numpy\nnumpy.load(p, None, True)",
        "eval(text)",
    ],
)
def test_each_such_line_is_seen(line: str) -> None:
    assert list(faults(ast.parse(line)))
