"""The wheel: what it holds, and that it tracks where there is no PyTorch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edge_tracker.bundle.opening import Bundle
from edge_tracker.cli.rendered_demo import CHECKPOINT
from tests.helpers.places import REPOSITORY

# Imports that a device lacks fail, and the package comes from the wheel, not from the checkout.
TRACK = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "onnx", "onnxsim", "safetensors"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
sys.path.insert(0, sys.argv[1])
import edge_tracker
from edge_tracker import EdgeTracker
from edge_tracker.video.rendered_clip import render_clip

assert edge_tracker.__file__.startswith(sys.argv[1]), edge_tracker.__file__
first, *others = render_clip(frames=4)
with EdgeTracker(sys.argv[2], cache_dir=sys.argv[3]) as tracker:
    tracker.init(first.image, first.box)
    for frame in others:
        print(*tracker.update(frame.image).box)
"""


@pytest.fixture(scope="module")
def wheel_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, unpacked."""
    folder = _build(tmp_path_factory.mktemp("wheel"))
    (wheel,) = folder.glob("edge_tracker-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def test_the_wheel_tracks_without_torch(
    wheel_folder: Path, nano_bundle: Bundle, cache_dir: Path
) -> None:
    command = [sys.executable, "-P", "-c", TRACK]
    if sys.version_info < (3, 11):
        command.remove("-P")
    completed = subprocess.run(
        [*command, str(wheel_folder), str(nano_bundle.path), str(cache_dir)],
        cwd=wheel_folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    assert len(completed.stdout.splitlines()) == 3


def test_the_wheel_holds_the_packages_and_the_shipped_network_but_no_tests(
    wheel_folder: Path,
) -> None:
    top_level = {path.name for path in wheel_folder.iterdir() if path.suffix != ".dist-info"}
    assert {"edge_tracker", "mixformerv2", "converters", "calibration"} <= top_level
    assert not top_level & {"tests", "examples", "benchmarks", "docs"}
    assert (wheel_folder / "edge_tracker" / "py.typed").is_file()
    shipped = wheel_folder / "edge_tracker" / "models"
    numbers = "edge_nano.presence.json"
    assert {path.name for path in shipped.iterdir()} == {"README.md", CHECKPOINT.name, numbers}
    assert (shipped / CHECKPOINT.name).read_bytes() == CHECKPOINT.read_bytes()


def test_a_folder_that_hides_a_part_of_the_wheel_is_named(
    wheel_folder: Path, tmp_path: Path
) -> None:
    """`python -m` looks for packages in the current folder first, the command does not."""
    (tmp_path / "converters").mkdir()
    (tmp_path / "converters" / "__init__.py").touch()
    finished = subprocess.run(
        [sys.executable, "-m", "edge_tracker", "demo", "--frames", "2"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(wheel_folder)},
    )  # fmt: skip
    assert finished.returncode == 1
    assert finished.stderr.startswith(
        f"edge-tracker: error: {tmp_path / 'converters'} hides the package converters"
    )
    assert not (tmp_path / "demo_output").exists()


def test_the_wheel_leaves_the_choice_of_opencv(wheel_folder: Path) -> None:
    """So that any of its builds, or a system's own, leaves `pip check` content."""
    (metadata,) = wheel_folder.glob("edge_tracker-*.dist-info/METADATA")
    required = re.findall(r"^Requires-Dist: (.*)$", metadata.read_text(encoding="utf-8"), re.M)
    assert [line for line in required if "opencv" in line and "extra ==" not in line] == []
    assert [line for line in required if line.startswith("numpy") and "extra" not in line]


def test_a_second_build_gives_the_same_bytes(wheel_folder: Path, tmp_path: Path) -> None:
    """From another folder and at another time."""
    first, second = (next(f.glob("*.whl")) for f in (wheel_folder.parent, _build(tmp_path)))
    assert first.read_bytes() == second.read_bytes()


def test_every_dependency_has_a_lower_bound(wheel_folder: Path) -> None:
    """Without one, `make test-lowest` would take a version that nobody meant."""
    (metadata,) = wheel_folder.glob("edge_tracker-*.dist-info/METADATA")
    required = re.findall(r"^Requires-Dist: (.*)$", metadata.read_text(encoding="utf-8"), re.M)
    others = [line for line in required if not line.startswith("edge-tracker[")]
    assert len(others) > 20
    assert [line for line in others if ">=" not in line] == []


def _build(folder: Path) -> Path:
    """The folder, with the wheel in it."""
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
            *("--no-build-isolation", "--wheel-dir", str(folder), str(_source_copy(folder))),
        ],
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
        check=True,
    )
    return folder


def _source_copy(folder: Path) -> Path:
    """Setuptools writes a build folder beside what it builds."""
    source = folder / "source"
    shutil.copytree(
        REPOSITORY,
        source,
        ignore=shutil.ignore_patterns(
            ".*", "__pycache__", "runs", "build", "demo_output", "*.pth*"
        ),
    )
    return source
