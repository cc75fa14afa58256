"""Whatever a caller gives, the public functions and classes take it, or raise an error of their own
that names the argument: never one from inside.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_tracker import (
    Bundle,
    Cv2Tracker,
    EdgeTracker,
    EdgeTrackerError,
    Engine,
    MultiTracker,
    TrackerOptions,
    benchmark,
    evaluate,
    open_bundle,
    verify,
)
from tests.helpers.places import REPOSITORY


class PathLike:
    def __init__(self, path: Any) -> None:
        self._path = path

    def __fspath__(self) -> Any:
        return self._path


ODD: dict[str, Any] = {
    "None": None,
    "text": "x",
    "NUL": "a\0b",
    "long text": "x" * 5000,
    "not UTF-8": "\udcff",
    "bytes": b"abc",
    "NaN": math.nan,
    "infinite": math.inf,
    "complex": 1j,
    "float": 2.5,
    "minus one": -1,
    "zero": 0,
    "huge": 2**70,
    "True": True,
    "NumPy's True": np.bool_(True),
    "NumPy's 3": np.int64(3),
    "no list": [],
    "list": [1, 2],
    "list of text": ["x"],
    "list of lists": [[], []],
    "dictionary": {},
    "set": {1, 2},
    "iterator": iter([3]),
    "no numbers": np.zeros(0),
    "0-d": np.zeros(()),
    "a number in an array": np.ones(1),
    "matrix": np.ones((4, 1)),
    "object": object(),
    "type": int,
    "path of bytes": PathLike(b"x"),
    "path of nothing": PathLike(None),
    "float frame": np.zeros((64, 64, 3), np.float32),
    "frame of five dimensions": np.zeros((1, 1, 64, 64, 3), np.uint8),
    "empty frame": np.zeros((0, 64, 3), np.uint8),
    "two channels": np.zeros((64, 64, 2), np.uint8),
}
FRAME = np.zeros((64, 64, 3), np.uint8)
BOX = (10, 10, 20, 20)


@pytest.fixture(scope="module")
def engine(nano_bundle: Bundle) -> Iterator[Engine]:
    with Engine(nano_bundle, backend="onnxruntime", num_threads=1) as engine:
        yield engine


def refuse_well(take: Callable[[Any], object], *names: str) -> None:
    """Each odd value is taken or refused by the project, with one of the names in the message."""
    wrong = []
    for odd, value in ODD.items():
        try:
            take(value)
        except (EdgeTrackerError, ValueError, TypeError, KeyError) as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            is_ours = Path(last.filename).is_relative_to(REPOSITORY / "edge_tracker")
            is_raised = (last.line or "").startswith("raise")
            if not (is_ours and is_raised and any(name in str(error) for name in names)):
                wrong.append(f"{odd}: {error!r} at {last.filename}:{last.lineno}")
        except Exception as error:
            wrong.append(f"{odd}: {error!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "take", [open_bundle, Engine, EdgeTracker, MultiTracker, Cv2Tracker, verify, benchmark]
)
def test_bundle(take: Callable[[Any], object]) -> None:
    refuse_well(take, "bundle")


def test_files_of_a_bundle(engine: Engine) -> None:
    refuse_well(engine.bundle.check_files, "paths", "is not listed in")


@pytest.mark.parametrize("name", TrackerOptions.__dataclass_fields__)
def test_options(name: str) -> None:
    refuse_well(lambda value: TrackerOptions(**{name: value}), name)


@pytest.mark.parametrize(
    "name", ["backend", "device", "precision", "num_threads", "cache_dir", "compute"]
)
def test_placement(engine: Engine, name: str) -> None:
    """On a backend that has nothing in this bundle, so that nothing is compiled."""
    given = {"backend": "tensorrt"} if name != "backend" else {}
    refuse_well(lambda value: Engine(engine.bundle, **{**given, name: value}), name, "tensorrt")


def test_one_tracker(engine: Engine) -> None:
    tracker = EdgeTracker(engine)
    refuse_well(lambda value: EdgeTracker(engine, options=value), "options")
    refuse_well(lambda value: EdgeTracker(engine, on_stage=value), "on_stage")
    refuse_well(lambda value: tracker.init(value, BOX), "frame")
    refuse_well(lambda value: tracker.init(FRAME, value), "box")
    tracker.init(FRAME, BOX)
    refuse_well(tracker.update, "frame")
    assert tracker.update(FRAME).box


def test_a_tracker_in_the_place_of_opencvs(engine: Engine) -> None:
    tracker = Cv2Tracker(EdgeTracker(engine))
    refuse_well(lambda value: tracker.init(value, BOX), "frame")
    refuse_well(lambda value: tracker.init(FRAME, value), "box")
    tracker.init(FRAME, BOX)
    refuse_well(tracker.update, "frame")


def test_several_targets(engine: Engine) -> None:
    tracker = MultiTracker(engine)
    refuse_well(lambda value: MultiTracker(engine, options=value), "options")
    refuse_well(lambda value: tracker.add(value, BOX), "frame")
    refuse_well(lambda value: tracker.add(FRAME, value), "box")
    target = tracker.add(FRAME, BOX)
    refuse_well(tracker.update, "frame")
    refuse_well(tracker.update_many, "frames")
    refuse_well(lambda value: tracker.update_many([(value, [target])]), "frame")
    refuse_well(lambda value: tracker.update_many([(FRAME, value)]), "ids", "target")
    refuse_well(lambda value: tracker.update_many([(FRAME, [value])]), "target")
    assert tracker.update(FRAME)[target].box
    refuse_well(tracker.remove, "target")


@pytest.mark.parametrize("take", [verify, benchmark])
@pytest.mark.parametrize("name", ["backends", "precisions", "computes"])
def test_lists_of_models(
    engine: Engine, take: Callable[..., object], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"backends": ["tensorrt"]}
    if name == "backends":
        monkeypatch.delitem(ODD, "None")  # all of them: that would take a minute
    refuse_well(
        lambda value: take(engine.bundle, **{**given, name: value}), name, name[:-1], "nothing for"
    )


@pytest.mark.parametrize(
    "name",
    [
        "duration_s",
        "iterations",
        "frame_width",
        "frame_height",
        "target_fps",
        "camera_s",
        "targets",
    ],
)
def test_what_a_benchmark_does(engine: Engine, name: str) -> None:
    refuse_well(
        lambda value: benchmark(engine.bundle, backends=["tensorrt"], **{name: value}),
        name, "nothing for",
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "bundle", "dataset", "layout", "only", "max_frames", "backends", "precisions", "computes",
        "peers", "results", "camera_fps", "jobs", "cluster", "on_progress", "device",
        "num_threads", "cache_dir",
    ],
)  # fmt: skip
def test_an_evaluation(engine: Engine, tmp_path: Path, name: str) -> None:
    sequence = tmp_path / "data" / "ball"
    (sequence / "img").mkdir(parents=True)
    (sequence / "img" / "0001.jpg").write_bytes(b"not looked at")
    (sequence / "groundtruth_rect.txt").write_text("10,10,20,20\n")
    given: dict[str, Any] = {
        "bundle": engine.bundle,
        "dataset": tmp_path / "data",
        "backends": ["tensorrt"],
    }
    names = {"dataset": "data set", "only": "no sequence is named", "layout": "layout"}
    refuse_well(
        lambda value: evaluate(**{**given, name: value}),
        name, name.removesuffix("s"), names.get(name, name), "tensorrt",
    )  # fmt: skip


def test_numpys_numbers_become_pythons() -> None:
    options = TrackerOptions(
        search_factor=np.float32(5), update_interval=np.int64(7), lost_frames=np.uint8(3)
    )
    assert options == TrackerOptions(search_factor=5.0, update_interval=7, lost_frames=3)
    assert {type(value) for value in vars(options).values()} == {float, int, str, type(None)}


def test_a_path_like_object_will_do(nano_bundle: Bundle) -> None:
    assert open_bundle(PathLike(str(nano_bundle.path))) == nano_bundle  # type: ignore[arg-type]
