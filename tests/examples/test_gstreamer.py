"""The GStreamer element: with stand-ins for GStreamer, and in pipelines where it is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from edge_tracker import Bundle, EdgeTracker, TrackResult
from edge_tracker.cli.main import main
from edge_tracker.video.recording import frame_writer
from edge_tracker.video.rendered_clip import render_clip
from tests.helpers.fake_gstreamer import Buffer, Objects, Region, buffer_of, fake_gi
from tests.helpers.places import REPOSITORY

PLUGINS = REPOSITORY / "examples" / "gstreamer"
PAGE = REPOSITORY / "docs" / "gstreamer.md"
BOX = (100.0, 90.0, 40.0, 50.0)
WIDTH, HEIGHT = 321, 240
#: Rows of BGR video start at multiples of 4 bytes.
ROW_BYTES = 964

# With stand-ins


def opened(monkeypatch: pytest.MonkeyPatch, with_analytics: bool = False) -> ModuleType:
    for name, module in fake_gi(with_analytics).items():
        monkeypatch.setitem(sys.modules, name, module)
    file = PLUGINS / "python" / "edgetracker.py"
    spec = importlib.util.spec_from_file_location("edgetracker", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Make = Callable[..., Any]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, nano_bundle: Bundle) -> Make:
    """An element that has started, with the given properties."""

    def make_element(with_analytics: bool = False, **properties: object) -> Any:
        _, _, kind = opened(monkeypatch, with_analytics).__gstelementfactory__
        element = kind()
        given = {"bundle": str(nano_bundle.path), "backend": "onnxruntime", "threads": 1}
        for name, value in (given | properties).items():
            element.do_set_property(SimpleNamespace(name=name), value)
            assert element.do_get_property(SimpleNamespace(name=name)) == value
        if element.do_start():
            element.do_set_caps((WIDTH, HEIGHT, ROW_BYTES), None)
        return element

    return make_element


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return [frame.image for frame in render_clip(5, WIDTH, HEIGHT)]


def tracked(
    bundle: Bundle, frames: Sequence[np.ndarray], box: Sequence[float]
) -> list[TrackResult]:
    """Of each frame after the first."""
    with EdgeTracker(bundle, backend="onnxruntime", num_threads=1) as tracker:
        tracker.init(frames[0], box)
        return [tracker.update(frame) for frame in frames[1:]]


def facts_of(result: TrackResult, pts: int) -> dict[str, Any]:
    x, y, w, h = result.box
    score, found = result.score, result.found
    return {"pts": pts, "x": x, "y": y, "w": w, "h": h, "score": score, "found": found}


def first(box: Sequence[float]) -> TrackResult:
    x, y, w, h = box
    return TrackResult((x, y, w, h), 1.0, True, (0.0, 0.0, 0.0, 0.0))


def test_each_buffer_is_told_what_the_tracker_says(
    make: Make, nano_bundle: Bundle, frames: list[np.ndarray]
) -> None:
    element = make(box="100,90,40,50")
    buffers = [buffer_of(frame, ROW_BYTES, pts=7 * n) for n, frame in enumerate(frames)]
    assert [element.do_transform_ip(buffer) for buffer in buffers] == ["ok"] * 5
    results = [first(BOX), *tracked(nano_bundle, frames, BOX)]
    wanted = [facts_of(result, 7 * n) for n, result in enumerate(results)]
    assert element.posted == [("element", facts) for facts in wanted]
    for buffer, facts in zip(buffers, wanted, strict=True):
        assert buffer.mapped == 0
        assert [region.params for region in buffer.regions] == [[facts]] * facts["found"]
    assert element.do_stop()
    assert element.tracker is None
    assert element.do_stop()


@pytest.mark.parametrize(
    ("box", "region"),
    [
        ((10.4, 20.6, 30.2, 40.0), (10, 21, 31, 40)),
        ((-5.0, -7.0, 30.0, 40.0), (0, 0, 25, 33)),
        ((300.0, 230.0, 90.0, 90.0), (300, 230, 21, 10)),
        ((-90.0, 400.0, 30.0, 30.0), (0, 240, 0, 0)),
    ],
)
def test_a_region_is_the_box_inside_the_frame(
    monkeypatch: pytest.MonkeyPatch, box: tuple[float, ...], region: tuple[int, ...]
) -> None:
    assert opened(monkeypatch).inner_pixels(box, WIDTH, HEIGHT) == region


def test_rows_may_lie_elsewhere_than_the_format_says(make: Make, frames: list[np.ndarray]) -> None:
    buffer = buffer_of(frames[0], 1024)
    buffer.memory = bytes(64) + buffer.memory
    buffer.layout = SimpleNamespace(offset=[64], stride=[1024])
    np.testing.assert_array_equal(make(box="1,2,30,40").frame(buffer), frames[0])


def test_a_lost_target_is_on_the_bus_alone(make: Make, frames: list[np.ndarray]) -> None:
    element = make(box="100,90,40,50", with_analytics=True)
    element.do_transform_ip(buffer_of(frames[0], ROW_BYTES))
    element.tracker.close()
    lost = TrackResult(BOX, 0.1, False, (1.0, 1.0, 1.0, 1.0))
    element.tracker = SimpleNamespace(update=lambda frame: lost)
    buffer = buffer_of(frames[1], ROW_BYTES, pts=9)
    assert element.do_transform_ip(buffer) == "ok"
    assert (buffer.regions, buffer.objects) == ([], None)
    assert element.posted[-1] == ("element", facts_of(lost, 9))


def test_a_box_set_while_the_tracker_starts_on_another_is_the_next(
    make: Make, frames: list[np.ndarray]
) -> None:
    element = make(box="100,90,40,50")
    element.tracker.close()
    asked: list[Sequence[float]] = []

    def init(frame: np.ndarray, box: Sequence[float]) -> None:
        asked.append(box)
        if len(asked) == 1:
            element.do_set_property(SimpleNamespace(name="box"), "60,70,40,50")

    element.tracker = SimpleNamespace(init=init)
    for frame in frames[:2]:
        assert element.do_transform_ip(buffer_of(frame, ROW_BYTES)) == "ok"
    assert asked == [BOX, (60.0, 70.0, 40.0, 50.0)]


@pytest.mark.parametrize("with_analytics", [False, True])
def test_without_a_box_the_first_object_from_upstream_is_tracked(
    make: Make, nano_bundle: Bundle, frames: list[np.ndarray], with_analytics: bool
) -> None:
    element = make(with_analytics=with_analytics)
    buffers = [buffer_of(frame, ROW_BYTES) for frame in frames]
    if with_analytics:
        buffers[2].objects = Objects(("person", 100, 90, 40, 50, 0.9), ("dog", 1, 2, 30, 40, 0.8))
    else:
        buffers[2].regions = [Region("person", 100, 90, 40, 50), Region("dog", 1, 2, 30, 40)]
    assert {element.do_transform_ip(buffer) for buffer in buffers} == {"ok"}
    (kind, words), *told = element.posted
    assert (kind, words.split(":")[0]) == ("info", "no box is set")
    results = [first(BOX), *tracked(nano_bundle, frames[2:], BOX)]
    assert told == [("element", facts_of(result, 0)) for result in results]


def test_a_box_set_anew_starts_anew(
    make: Make, nano_bundle: Bundle, frames: list[np.ndarray]
) -> None:
    element = make(box="100,90,40,50")
    for n, frame in enumerate(frames):
        if n == 3:
            element.do_set_property(SimpleNamespace(name="box"), "60, 70.5, 40, 50")
        element.do_transform_ip(buffer_of(frame, ROW_BYTES))
    box = (60.0, 70.5, 40.0, 50.0)
    results = [first(BOX), *tracked(nano_bundle, frames[:3], BOX), first(box)]
    results += tracked(nano_bundle, frames[3:], box)
    assert element.posted == [("element", facts_of(result, 0)) for result in results]


def test_objects_are_attached_where_there_is_metadata_for_them(
    make: Make, frames: list[np.ndarray]
) -> None:
    element = make(with_analytics=True, box="10.4,20.6,30.2,40")
    buffer = buffer_of(frames[0], ROW_BYTES)
    element.do_transform_ip(buffer)
    assert buffer.objects is not None
    assert buffer.objects.objects == [("target", 10, 21, 31, 40, 1.0)]
    region = buffer.regions[0]
    assert (region.roi_type, region.x, region.y, region.w, region.h) == ("target", 10, 21, 31, 40)


#: Properties -> words of the error.
WRONG = [
    ({"bundle": ""}, "bundle is not set"),
    ({"bundle": "/nowhere"}, "bundle /nowhere: no such folder"),
    ({"box": "1,2,3"}, "box is '1,2,3': expected x,y,width,height"),
    ({"box": "a,2,3,4"}, "box is 'a,2,3,4': expected"),
    ({"backend": "abacus"}, "backend 'abacus' is unknown"),
]


@pytest.mark.parametrize(("properties", "words"), WRONG)
def test_what_cannot_start_says_why(make: Make, properties: dict[str, object], words: str) -> None:
    [(kind, said)] = make(**properties).posted
    assert kind == "error"
    assert said.startswith(words)


def test_a_package_that_is_missing_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "edge_tracker", None)
    [(kind, words)] = make(box="1,2,30,40").posted
    assert kind == "error"
    assert "edge_tracker" in words
    assert "PYTHONPATH" in words


def test_a_failure_on_the_way_ends_the_stream(make: Make, frames: list[np.ndarray]) -> None:
    element = make(box="1,2,0,40")
    assert element.do_transform_ip(buffer_of(frames[0], ROW_BYTES)) == "error"
    element.do_set_property(SimpleNamespace(name="box"), "1,2,30,40")
    assert element.do_transform_ip(Buffer(b"", readable=False)) == "error"
    element.do_set_property(SimpleNamespace(name="box"), "1,2,30,40")
    short = buffer_of(frames[0], ROW_BYTES)
    short.memory = short.memory[: (HEIGHT - 1) * ROW_BYTES + 3 * WIDTH - 1]
    assert element.do_transform_ip(short) == "error"
    said = [words.split(":")[0] for kind, words in element.posted if kind == "error"]
    assert said == [
        "box (1.0, 2.0, 0.0, 40.0) has no area",
        "the buffer's pixels cannot be read",
        f"a buffer of {len(short.memory)} bytes holds no frame of 321 x 240 pixels, which takes "
        f"{len(short.memory) + 1}",
    ]


# In GStreamer


def system_python() -> str | None:
    """The one that GStreamer loads, if it is of this version and has GStreamer's modules."""
    path = "/usr/bin/python3"
    if not Path(path).is_file():
        return None
    ask = "import gi, sys; gi.require_version('GstVideo', '1.0'); print(sys.version_info[:2])"
    told = subprocess.run([path, "-c", ask], capture_output=True, text=True, check=False)
    return path if told.stdout.strip() == str(sys.version_info[:2]) else None


def run(command: Sequence[object], cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    packages = [path for path in sys.path if path.endswith("-packages")]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(cwd),
        "GST_PLUGIN_PATH": str(PLUGINS),
        # Of all tests, as making it takes longer than most pipelines.
        "GST_REGISTRY": str(cwd.parent / "gstreamer_registry"),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *packages]),
        **more,
    }
    words = [str(word) for word in command]
    return subprocess.run(
        words, env=environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def gstreamer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python for pipelines' programs."""
    python = system_python()
    if shutil.which("gst-launch-1.0") is None or python is None:
        pytest.skip("needs GStreamer, and its modules for this Python: docs/gstreamer.md")
    for element in ("multifilesrc", "pngdec", "avdec_mpeg4", "edgetracker"):
        asked = run(["gst-inspect-1.0", element], tmp_path_factory.mktemp("gstreamer"))
        if element == "edgetracker":
            assert "Tracks one target" in asked.stdout, asked.stdout + asked.stderr
        elif asked.returncode:
            pytest.skip(f"needs GStreamer's {element}: docs/gstreamer.md")
    return python


def messages(output: str) -> list[dict[str, str]]:
    """Of the element, as `gst-launch-1.0 -m` prints them."""
    lines = re.findall(r"\(element\): edgetracker, (.*);", output)
    return [dict(re.findall(r"(\w+)=\(\w+\)([^,]+)", line)) for line in lines]


def boxes_of(told: list[dict[str, str]]) -> np.ndarray:
    return np.array([[float(facts[name]) for name in "xywh"] for facts in told])


def rows_of(path: Path) -> np.ndarray:
    """Columns 1 to 6: x, y, w, h, score, found."""
    return np.loadtxt(path, delimiter=",", skiprows=1, usecols=range(7))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, trained_or_lively_bundle: Bundle) -> Path:
    """A folder as `edge-tracker demo` leaves it, with the clip as images too."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "demo_output").mkdir()
    (folder / "img").mkdir()
    (folder / "demo_output" / "bundle").symlink_to(trained_or_lively_bundle.path)
    with frame_writer(folder / "demo_output" / "clip.mp4", 30.0, 480, 360) as write:
        for number, frame in enumerate(render_clip(240, 480, 360)):
            write(frame.image)
            cv2.imwrite(str(folder / "img" / f"{number:06d}.png"), frame.image)
    return folder


def page_commands() -> list[list[str]]:
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^    (gst-launch-1.0 .*)$", text, re.M)]


def test_the_pages_commands_track_the_demo_clip(
    gstreamer: str, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clip)
    of_video, of_images = page_commands()
    for source, command, apart_px in (
        # Images hold the same pixels for both, videos are turned from YUV by two programs.
        ("img/%06d.png", of_images, 0.0006),
        ("demo_output/clip.mp4", of_video, 10.0),
    ):
        done = run(command, clip)
        assert done.returncode == 0, done.stderr
        told = messages(done.stdout)
        box = next(word for word in command if word.startswith("box=")).removeprefix("box=")
        arguments = ["track", "demo_output/bundle", source, "--box", box, "--csv", "boxes.csv"]
        assert main([*arguments, "--threads", "1", "-q"]) == 0
        rows = rows_of(clip / "boxes.csv")
        assert len(told) == len(rows) == 240
        np.testing.assert_allclose(boxes_of(told), rows[:, 1:5], rtol=0, atol=apart_px)
        if source.startswith("img"):
            assert [facts["found"] == "true" for facts in told] == rows[:, 6].astype(bool).tolist()
            scores = [float(facts["score"]) for facts in told]
            np.testing.assert_allclose(scores, rows[:, 5], rtol=0, atol=0.0006)


SMALL = "videotestsrc num-buffers=6 ! video/x-raw,format=BGR,width=321,height=241"
START = (
    "appsrc name=start format=time caps=video/x-raw,format=BGR,width=320,height=240,framerate=30/1"
)
END = "appsink name=end sync=false"


def test_regions_go_down_the_pipeline_and_come_from_up_it(
    gstreamer: str, trained_or_lively_bundle: Bundle, tmp_path: Path
) -> None:
    program = REPOSITORY / "tests" / "helpers" / "pipeline_with_regions.py"
    element = f"edgetracker bundle={trained_or_lively_bundle.path} threads=1"
    clip = list(render_clip(6, 320, 240))
    (tmp_path / "frames").write_bytes(b"".join(frame.image.tobytes() for frame in clip))
    box = tuple(round(number) for number in clip[2].box)
    regions = {}
    more: tuple[object, ...]
    for name, pipeline, more in (
        ("box", f"{SMALL} ! {element} box=100,90,40,50 ! {END}", ()),
        ("upstream", f"{START} ! {element} ! {END}", ("frames", 2, *box)),
    ):
        done = run([gstreamer, program, pipeline, *more], tmp_path)
        assert done.returncode == 0, done.stderr
        regions[name] = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(regions[name]) == 6
    assert regions["box"][0][:5] == ["target", 100, 90, 40, 50]
    for kind, x, y, w, h, facts in filter(None, regions["box"]):
        assert kind == "target"
        np.testing.assert_allclose((x, y), (facts["x"], facts["y"]), rtol=0, atol=0.5)
        right, bottom = facts["x"] + facts["w"], facts["y"] + facts["h"]
        np.testing.assert_allclose((x + w, y + h), (right, bottom), rtol=0, atol=0.5)
        assert facts["found"]
    assert regions["upstream"][:2] == [None, None]
    # Both are on the buffer; the detector's is the first.
    assert regions["upstream"][2] == ["person", *box, None]
    assert regions["upstream"][3][0] == "target"
    with_facts = [region[5]["pts"] for region in regions["upstream"][3:]]
    assert with_facts == [n * 10**9 // 30 for n in (3, 4, 5)]


@pytest.mark.parametrize(
    ("pipeline", "words"),
    [
        (f"{SMALL} ! edgetracker ! fakesink", "bundle is not set"),
        (f"{SMALL} ! edgetracker bundle=/nowhere ! fakesink", "bundle /nowhere: no such folder"),
        (f"{SMALL} ! edgetracker bundle={{bundle}} ! fakesink", "no box is set: waiting for"),
        (f"{SMALL} ! edgetracker bundle={{bundle}} box=1,2 ! fakesink", "box is '1,2': expected"),
        (f"{SMALL} ! edgetracker bundle={{bundle}} box=1,2,0,9 ! fakesink", "has no area"),
        ("videotestsrc ! video/x-raw,format=NV12 ! edgetracker ! fakesink", "can't handle caps"),
        ("audiotestsrc ! edgetracker ! fakesink", "could not link audiotestsrc0 to edgetracker0"),
        (
            "videotestsrc num-buffers=2 ! video/x-raw,format=BGR,width=8,height=8 "
            "! edgetracker bundle={bundle} box=1,2,3,4 ! fakesink",
            "frame has shape (8, 8, 3): each side must be at least 16 px",
        ),
    ],
)
def test_what_goes_wrong_in_a_pipeline_is_told_without_a_traceback(
    gstreamer: str, nano_bundle: Bundle, tmp_path: Path, pipeline: str, words: str
) -> None:
    # After an error so early gst-launch-1.0 does not always end, whatever the element: the page.
    launch = ["timeout", "60", "gst-launch-1.0"]
    done = run([*launch, *shlex.split(pipeline.format(bundle=nano_bundle.path))], tmp_path)
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert (done.returncode == 0) == words.startswith("no box")


def test_packages_that_are_not_on_the_path_are_named(gstreamer: str, tmp_path: Path) -> None:
    line = f"{SMALL} ! edgetracker bundle=x box=1,2,30,40 ! fakesink"
    done = run(["gst-launch-1.0", *shlex.split(line)], tmp_path, PYTHONPATH="")
    assert "No module named 'edge_tracker': PYTHONPATH has to name" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
