"""Commands that install what is missing, and packages that hide this copy's."""

from __future__ import annotations

import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from edge_tracker import EdgeTrackerError, installing
from edge_tracker.installing import EXTRA_OF, install_command, refuse_foreign_companions
from tests.helpers.command_line import run_as_program
from tests.helpers.places import REPOSITORY

LISTED = [
    "numpy>=1.22",
    'onnxruntime>=1.23; extra == "onnxruntime"',
    'openvino>=2026.0; extra == "openvino"',
    'edge-tracker[onnxruntime,openvino]; extra == "convert"',
    'torch>=2.4; extra == "convert"',
    "opencv-python>=4.6; extra == 'opencv'",
    "opencv-python-headless>=4.6; extra == 'opencv-headless'",
]


def test_a_clone_is_named_itself() -> None:
    assert install_command("convert").endswith(shlex.join(["-e", f"{REPOSITORY}[convert]"]))


@pytest.mark.parametrize(
    ("extra", "requirements"),
    [
        ("openvino", ["openvino>=2026.0"]),
        ("convert", ["onnxruntime>=1.23", "openvino>=2026.0", "torch>=2.4"]),
        ("opencv", ["opencv-python>=4.6"]),
    ],
)
def test_of_a_wheel_what_the_extra_requires_is_named(
    extra: str, requirements: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installing, "_FOLDER", tmp_path)
    monkeypatch.setattr(metadata, "requires", lambda name: LISTED)
    words = shlex.split(install_command(extra))
    assert words[words.index("install") + 1 :] == requirements


@pytest.mark.parametrize("active", [True, False])
def test_pip_is_the_one_of_this_python(
    active: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, mode in (("python", 0o755), ("pip", 0o755)):
        (tmp_path / name).touch(mode)
    python = tmp_path / "python" if active else tmp_path / "other" / "python"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(python))
    command = install_command("openvino")
    assert command.startswith("pip install" if active else f"{python} -m pip install")


def test_every_extra_that_is_named_exists() -> None:
    declared = (REPOSITORY / "pyproject.toml").read_text()
    for extra in {*EXTRA_OF.values(), "openvino", "onnxruntime", "eval"}:
        assert f"\n{extra} = [" in declared


def test_without_opencv_its_name_and_the_command_are_said() -> None:
    program = "import sys; sys.modules['cv2'] = None; from edge_tracker import EdgeTracker"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    command = install_command("opencv-headless")
    assert done.stderr.endswith(f"EdgeTracker needs OpenCV: {command}\n")
    finished = run_as_program(
        "track", "b", "v", "--box", "1,2,3,4", prelude="sys.modules['cv2'] = None"
    )
    assert finished.returncode == 1
    assert finished.stderr == (
        f"edge-tracker: error: track needs the Python package cv2: {command}\n"
    )


@pytest.mark.parametrize("package", [True, False])
def test_a_folder_in_front_of_a_companion_is_refused(package: bool, tmp_path: Path) -> None:
    """Only a package hides one: a plain folder comes after all of them."""
    hiding = tmp_path / "converters"
    hiding.mkdir()
    if package:
        (hiding / "__init__.py").touch()
    program = "from edge_tracker.installing import refuse_foreign_companions as r; r()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"},
    )  # fmt: skip
    if package:
        assert f"{hiding} hides the package converters that came" in done.stderr
    else:
        assert done.returncode == 0, done.stderr


def test_a_module_in_front_of_a_companion_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "calibration.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "calibration"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(EdgeTrackerError, match=r"calibration\.py hides the package calibration"):
        refuse_foreign_companions()
