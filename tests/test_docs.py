"""Every command of README and docs: run where a test can, else taken apart by the command's own
parser, else listed with the reason. Programs on the pages are run in tests/examples.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import pytest

from edge_tracker.bundle.opening import Bundle
from edge_tracker.cli.arguments import boxes_in_one
from edge_tracker.cli.main import main, make_parser
from edge_tracker.video.recording import frame_writer
from edge_tracker.video.rendered_clip import render_clip
from mixformerv2.checkpoint import read_checkpoint
from tests.helpers.places import REPOSITORY

PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md"]
PAGES += sorted(f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md"))
PROGRAMS = {
    *("edge-tracker", "make", "pip", "python", "python3", "pytest", "head", "source", "export"),
    *("sudo", "docker", "rsync", "nvcc", "cmake", "build/cpp/track", "benchmark_app"),
    *(".venv/bin/python", ".venv-cpp/bin/pip", ".venv-gst/bin/pip", "/usr/bin/python3"),
    *("gst-inspect-1.0", "gst-launch-1.0"),
}
#: Beginning of a command -> why no test runs it.
NOT_RUN = {
    "sudo": "changes the system",
    "docker": "needs a Jetson",
    "rsync": "needs a second machine",
    "nvcc": "needs CUDA's toolkit",
    "export PATH=/usr/local/cuda": "needs CUDA's toolkit",
    "source ~/tracker": "the environment of the page's own",
    "python3 -m venv": "an environment of the page's own",
    'python3 -c "import tensorrt': "needs TensorRT",
    'python3 -c "import cv2': "asks the system's Python",
    "pip uninstall": "swaps packages under the tests",
    "pip install opencv-python": "swaps packages under the tests",
    "pip install --upgrade pip": "needs the network",
    "pip install pycuda": "needs CUDA's toolkit",
    "pip install cvat-cli": "needs the network",
    "pip install 'cuda-bindings": "needs CUDA",
    "pip install cuda-bindings": "needs CUDA",
    "pip install tensorrt_rtx": "needs the network",
    ".venv-cpp/bin/pip": "tests/examples/test_cpp.py builds with the OpenVINO that is there",
    "cmake": "run in tests/examples/test_cpp.py",
    "/usr/bin/python3 -m venv": "an environment of the page's own",
    ".venv-gst/bin/pip": "tests/examples/test_gstreamer.py takes the packages that are there",
    "export GST_PLUGIN_PATH": "set in tests/examples/test_gstreamer.py",
    "export PYTHONPATH": "set in tests/examples/test_gstreamer.py",
    "gst-": "run in tests/examples/test_gstreamer.py",
    "build/cpp/track": "run in tests/examples/test_cpp.py",
    "benchmark_app": "comes with another package",
    "head": "what it shows is compared in test_the_commands_of_the_readme_run",
}


def commands_of(page: str) -> Iterator[str]:
    """Of its indented blocks, continued lines joined, comments and prompts removed."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M).replace("\\\n", " ")
    for line in re.findall(r"^ {4,}(?:\$ )?(\S.*)$", text, re.M):
        command = re.split(r"\s{2,}#|\s{4,}\(", line)[0].strip()
        if command.split()[0] in PROGRAMS:
            yield from (part.strip() for part in command.split(" && "))


COMMANDS = [(page, command) for page in PAGES for command in commands_of(page)]


def in_backticks() -> list[tuple[str, str]]:
    named = r"`((?:edge-tracker|make|python -m) [^`]+)`"
    return [
        (page, " ".join(command.split()))
        for page in PAGES
        for command in re.findall(named, (REPOSITORY / page).read_text(encoding="utf-8"))
    ]


def make_targets() -> set[str]:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([\w-]+):", makefile, re.M))


def extras() -> set[str]:
    declared = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    table = declared.split("[project.optional-dependencies]")[1].split("\n[")[0]
    return set(re.findall(r"^([\w-]+) = \[", table, re.M))


def check(command: str) -> None:
    """Fails for a command that could not run as it stands."""
    words = shlex.split(command)
    if words[0] == "edge-tracker":
        make_parser().parse_args(boxes_in_one(words[1:]))
    elif words[0] == "make":
        assert {word for word in words[1:] if "=" not in word} <= make_targets()
    elif words[:2] == ["pip", "install"] and (wanted := re.search(r"\.\[(.*)\]", command)):
        assert set(wanted[1].split(",")) <= extras()
    elif words[1:3] == ["-m", "pytest"]:
        assert all((REPOSITORY / word).exists() for word in words if word.startswith("tests"))
    elif words[0] == "python" and words[1] == "-m":
        assert find_spec(words[2]) is not None
    elif words[:2] == ["pip", "install"] and words[-1] == ".":
        assert (REPOSITORY / "pyproject.toml").is_file()
    else:
        raise AssertionError(f"nothing is known of {command}: add a rule, or a reason to NOT_RUN")


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_on_a_page_can_be_given(page: str, command: str) -> None:
    if not command.startswith(tuple(NOT_RUN)):
        check(command)


@pytest.mark.parametrize(("page", "command"), in_backticks())
def test_a_command_in_a_sentence_exists(page: str, command: str) -> None:
    """With its options; what it takes may be left out there."""
    words = command.split()
    if words[0] != "edge-tracker":
        check(" ".join(words[:2] if words[0] == "make" else words[:3]))
        return
    parsers = [action for action in make_parser()._actions if action.dest == "command"]
    choices = parsers[0].choices
    assert isinstance(choices, dict)
    if words[1].startswith("-") or not words[1].islower():
        return
    known = choices[words[1]]._option_string_actions
    assert {word.split("=")[0] for word in words if word.startswith("--")} <= known.keys()


def test_every_reason_is_still_needed() -> None:
    for beginning in NOT_RUN:
        assert any(command.startswith(beginning) for _, command in COMMANDS), beginning


@pytest.fixture
def after_the_demo(
    nano_bundle: Bundle,
    annotated_clips: Path,
    cache_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder as `make demo` leaves it, with annotated sequences in DIR."""
    (tmp_path / "demo_output").mkdir()
    shutil.copytree(nano_bundle.path, tmp_path / "demo_output" / "bundle")
    shutil.copytree(annotated_clips, tmp_path / "DIR")
    with frame_writer(tmp_path / "demo_output" / "clip.mp4", 30.0, 480, 360) as write:
        for frame in render_clip(6, 480, 360):
            write(frame.image)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(cache_dir))
    return tmp_path


#: What keeps a run of seconds short; the page's command is otherwise as it stands.
SHORTENED = {
    "bench": ["--duration", "0.3", "--no-cold-start"],
    "calibrate": ["--samples", "32"],
}
#: Converted by tests/edge_tracker/cli/test_demo.py, built by tests/converters/tensorrt.
RUN_ELSEWHERE = {"convert", "demo", "build"}


def test_the_commands_of_the_readme_run(
    after_the_demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = set()
    for command in commands_of("README.md"):
        words = shlex.split(command)
        if words[0] != "edge-tracker" or words[1] in RUN_ELSEWHERE or ": error:" in command:
            continue
        status = main([*words[1:], *SHORTENED.get(words[1], [])])
        assert status == (1 if "nowhere" in command else 0), command
        ran.add(words[1])
        if "nowhere" in command:
            error = capsys.readouterr().err
            assert f"    {error}" in (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert ran == {"track", "bench", "verify", "eval", "calibrate", "inspect", "doctor"}
    header, start, _, *_ = (after_the_demo / "boxes.csv").read_text(encoding="utf-8").splitlines()
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert f"    {header}\n    {start}\n    1," in readme
    row = readme.split(f"    {start}\n    ")[1].splitlines()[0]
    assert row.count(",") == header.count(",")


def test_the_manifest_on_its_page_is_that_of_the_shipped_network() -> None:
    page = (REPOSITORY / "docs" / "bundle_format.md").read_text(encoding="utf-8")
    shipped = REPOSITORY / "edge_tracker" / "models" / "edge_nano.safetensors"
    assert f'"sha256": "{sha256(shipped.read_bytes()).hexdigest()}"' in page
    assert f'"search_factor": {read_checkpoint(shipped).search_factor}' in page
