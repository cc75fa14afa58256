"""How this copy was installed: the command that adds to it, and what hides parts of it."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from edge_tracker.errors import EdgeTrackerError

#: Module -> extra that brings it.
EXTRA_OF = {
    "cv2": "opencv-headless",
    "torch": "convert",
    "onnx": "convert",
    "onnxsim": "convert",
    "safetensors": "convert",
    "nncf": "calibrate",
}
#: Packages that are installed beside edge_tracker.
COMPANIONS = ("mixformerv2", "converters", "calibration", "distillation")
_FOLDER = Path(__file__).parents[1]


def is_installed(module: str) -> bool:
    """Without importing it, though the packages around it are."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package around it
        return False


def install_command(extra: str) -> str:
    """The command that brings what an extra of this copy needs.

    A clone is named itself. Of an installed copy nobody knows where its wheel is now, so what the
    extra requires is named.
    """
    if (_FOLDER / "pyproject.toml").is_file():
        wanted = ["-e", f"{_FOLDER}[{extra}]"]
    else:
        wanted = _requirements(extra, metadata.requires("edge-tracker") or ())
    return pip_command("install", *wanted)


def _requirements(extra: str, listed: Sequence[str]) -> list[str]:
    """Those of an extra among the lines `name>=version; extra == "..."`, nested extras resolved."""
    found: list[str] = []
    for line in listed:
        requirement, _, marker = line.partition(";")
        if not re.search(rf"""extra == ["']{re.escape(extra)}["']""", marker):
            continue
        if nested := re.match(r"edge-tracker\[(.*)\]", requirement):
            for name in nested[1].split(","):
                found += _requirements(name.strip(), listed)
        else:
            found.append(requirement.strip())
    return found


def pip_command(*words: str) -> str:
    """For pip of this very Python: while its environment is not active, PATH names another."""
    pip = shutil.which("pip")
    active = pip is not None and Path(pip).parent == Path(sys.executable).parent
    return shlex.join([*(["pip"] if active else [sys.executable, "-m", "pip"]), *words])


def refuse_foreign_companions() -> None:
    """Raise EdgeTrackerError where a package of the same name hides one of this copy's."""
    for name in COMPANIONS:
        spec = importlib.util.find_spec(name)
        if spec is None:
            continue
        found = Path(spec.origin or next(iter(spec.submodule_search_locations or ())))
        if spec.origin and spec.submodule_search_locations:
            found = found.parent
        ours = _FOLDER / name
        if found.resolve() != ours.resolve():
            raise EdgeTrackerError(
                f"{found} hides the package {name} that came with edge-tracker, {ours}: run the "
                "command edge-tracker instead of python -m edge_tracker, run it from another "
                f"folder, or take {found.parent} off PYTHONPATH"
            )
