"""Recording calibration samples: what the tracker feeds its graphs, the same each time."""

from __future__ import annotations

import json
import re
import shutil
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration import recording
from calibration.footage import Source, find_sources
from calibration.recording import record_samples, record_sources
from calibration.samples import MIN_SAMPLES, CalibrationSamples, load_samples
from calibration.shares import Recorded
from converters.convert import convert_checkpoint
from edge_tracker import TrackerOptions
from edge_tracker.backends.choice import open_graphs
from edge_tracker.backends.graph import CompiledGraph, Graphs, TemplateGraph
from edge_tracker.bundle.opening import Bundle
from edge_tracker.cli.main import main
from edge_tracker.errors import CalibrationError, DatasetError
from edge_tracker.rules.boxes import Box
from edge_tracker.rules.crop import Image, crop_square
from edge_tracker.tracker import EdgeTracker
from tests.helpers.annotated_clips import write_boxes, write_sequence, write_still, write_video
from tests.helpers.command_line import fails, run_as_program, usage_error
from tests.helpers.fake_graphs import FakeNetwork, FakeRows, bundle_without_files
from tests.helpers.lively_networks import TINY
from tests.helpers.local_cluster import LocalCluster

BOX = (24.0, 16.0, 16.0, 16.0)


def fake_bundle(**choices: Any) -> Bundle:
    bundle = bundle_without_files(TrackerOptions(**choices))
    return replace(bundle, source=replace(bundle.source, sha256="5eed"))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> FakeNetwork:
    """What every tracker runs; it finds the target where it was."""
    network = FakeNetwork()
    monkeypatch.setattr(
        "edge_tracker.tracker.engine.open_graphs", lambda bundle, **choices: network.graphs()
    )
    return network


@pytest.fixture(scope="module")
def tiny_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    output = tmp_path_factory.mktemp("converted") / "tiny"
    return convert_checkpoint(tiny_checkpoint, output, targets=["onnx"], precisions=["fp32"])


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sequences, a video, and an image with two targets."""
    folder = tmp_path_factory.mktemp("clips")
    for seed, name in enumerate(("ride", "walk")):
        write_sequence(folder, name, frames=32, seed=seed)
    write_video(folder / "ball.mp4", frames=30, seed=2)
    write_still(folder / "park.png", boxes=[(20, 30, 25, 20), (90, 60, 30, 30)])
    return folder


@pytest.fixture
def own_clips(clips: Path, tmp_path: Path) -> Path:
    return shutil.copytree(clips, tmp_path / "clips")


def saved(samples: CalibrationSamples, path: Path) -> bytes:
    samples.save(path)
    return path.read_bytes()


# Sources.


def test_sequences_videos_and_images_are_found(clips: Path) -> None:
    found = {source.name: source.kind for source in find_sources(clips)}
    assert found == {
        "ride": "sequence",
        "walk": "sequence",
        "ball.mp4": "video",
        "park.png": "image",
    }


def test_of_a_sequence_every_box_is_known_and_of_a_video_the_first(clips: Path) -> None:
    known = {
        source.name: [box is not None for _, box in source.frames()]
        for source in find_sources(clips)
    }
    assert known["walk"] == [True] * 32
    assert known["ball.mp4"] == [True] + [False] * 29
    assert known["park.png"] == [True] * 2


def test_every_source_gives_its_part_and_the_short_ones_all_they_have(
    network: FakeNetwork, clips: Path
) -> None:
    samples = record_samples(fake_bundle(), clips, num_samples=48)
    counts = samples.provenance["sources"]
    assert sum(counts.values()) == len(samples) == 48
    assert counts.pop("park.png") == 2
    assert max(counts.values()) - min(counts.values()) <= 1


def test_later_sources_make_up_for_what_earlier_ones_fell_short_of(network: FakeNetwork) -> None:
    sources = [grey_source("a", 10), grey_source("b", 100), grey_source("c", 100)]
    samples = record_sources(EdgeTracker(fake_bundle()), sources, "here", num_samples=99)
    assert samples.provenance["sources"] == {"a": 9, "b": 45, "c": 45}


def test_a_video_without_its_box_is_named(own_clips: Path) -> None:
    (own_clips / "ball.txt").unlink()
    with pytest.warns(RuntimeWarning, match=r"ball\.mp4 is left out: .* expected in ball\.txt"):
        found = find_sources(own_clips)
    assert [source.name for source in found] == ["ride", "walk", "park.png"]


def test_a_corrupt_video_is_named_and_the_rest_is_recorded(
    network: FakeNetwork, own_clips: Path, tmp_path: Path
) -> None:
    whole = record_samples(fake_bundle(), own_clips, num_samples=200)
    (own_clips / "ball_2.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(range(256)) * 40)
    write_boxes(own_clips / "ball_2.txt", [BOX])
    with pytest.warns(RuntimeWarning, match=r"ball_2\.mp4 is left out: .*cannot be opened"):
        samples = record_samples(fake_bundle(), own_clips, num_samples=200)
    assert samples.provenance["sources"] == whole.provenance["sources"]
    np.testing.assert_array_equal(samples.search, whole.search)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ("0 0.5 0.5 0.1 0.1\n", "line 1 of .*expected x,y,width,height"),
        ("\n\n", "is empty"),
        ("10,10,0,5\n", "has no area"),
        ("10,10,-5,-5\n", "has no area"),
        ("500,10,20,20\n", "lies outside the frame"),
        ("10,10,nan,20\n", "not finite"),
        ("0,0,1e9,1e9\n", "more than four times the frame"),
    ],
)
@pytest.mark.parametrize("name", ["park.png", "ball.mp4"])
def test_a_box_that_is_none_leaves_its_source_out(
    network: FakeNetwork, own_clips: Path, name: str, lines: str, complaint: str
) -> None:
    (own_clips / name).with_suffix(".txt").write_text(lines)
    with pytest.warns(RuntimeWarning, match=rf"(?s){re.escape(name)} is left out: .*{complaint}"):
        samples = record_samples(fake_bundle(), own_clips, num_samples=100)
    assert name not in samples.provenance["sources"]


def test_a_box_file_that_cannot_be_read_leaves_its_source_out(
    network: FakeNetwork, own_clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_bytes = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "park.txt":
            raise PermissionError(13, "Permission denied", str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.warns(RuntimeWarning, match=r"park\.png is left out: .*Permission denied"):
        record_samples(fake_bundle(), own_clips, num_samples=40)


def test_folders_with_nothing_to_record_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="nowhere does not exist"):
        find_sources(tmp_path / "nowhere")
    (tmp_path / "list.txt").touch()
    with pytest.raises(CalibrationError, match=r"list\.txt is a file: give a folder"):
        find_sources(tmp_path / "list.txt")
    for step in ("empty", "an image without boxes"):
        if step != "empty":
            cv2.imwrite(str(tmp_path / "park.png"), np.zeros((64, 64, 3), np.uint8))
        with pytest.raises(CalibrationError, match=r"nothing to record from: .*x,y,width,height"):
            find_sources(tmp_path)


def test_two_layouts_side_by_side_are_refused(own_clips: Path) -> None:
    (own_clips / "other").mkdir()
    write_boxes(own_clips / "other" / "groundtruth_rect.txt", [BOX])
    with pytest.raises(DatasetError, match="mixes layouts"):
        find_sources(own_clips)


def test_too_few_samples_are_refused_with_the_number_needed(
    network: FakeNetwork, clips: Path, tmp_path: Path
) -> None:
    write_sequence(tmp_path, "short", frames=12)
    with pytest.raises(CalibrationError, match=r"gives \d+ samples from 1 of 1 .* at least 32"):
        record_samples(fake_bundle(), tmp_path)
    with pytest.raises(ValueError, match=r"31 samples are asked for: .* at least 32"):
        record_samples(fake_bundle(), clips, num_samples=31)
    with pytest.raises(ValueError, match="seed -1 is negative"):
        record_samples(fake_bundle(), clips, seed=-1)


boxes = st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 4)


@given(
    expected=st.lists(boxes, min_size=1, max_size=5),
    separator=st.sampled_from([",", ", ", " ", "\t", " ,"]),
    gap=st.sampled_from(["\n", "\r\n", "\n\n", "\n  \n"]),
)
def test_boxes_come_back_from_their_file(
    tmp_path_factory: pytest.TempPathFactory, expected: list[Box], separator: str, gap: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    text = gap.join(separator.join(map(repr, box)) for box in expected)
    assert boxes_of(folder, text.encode()) == expected


@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_other_file_gives_boxes_or_names_itself(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp()
    complaint = ""
    try:
        complete = len(boxes_of(folder, content)) > 0
    except CalibrationError as error:
        complaint = str(error)
        complete = "any_image.txt" in complaint and "expected x,y,width,height" in complaint
    assert complete, complaint


def boxes_of(folder: Path, text: bytes) -> list[Box | None]:
    """Of an image beside a text file of this content, in a folder of its own."""
    folder = folder / "one_image"
    folder.mkdir(exist_ok=True)
    image = folder / "any_image.png"
    if not image.exists():
        cv2.imwrite(str(image), np.zeros((8, 8, 3), np.uint8))
    image.with_suffix(".txt").write_bytes(text)
    (source,) = find_sources(folder)
    return [box for _, box in source.frames()]


# The same samples each time.


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(
    tiny_bundle: Bundle, clips: Path, tmp_path: Path
) -> None:
    first, again, other = (
        record_samples(tiny_bundle, clips, num_samples=40, seed=seed, backend="onnxruntime")
        for seed in (3, 3, 4)
    )
    assert first.templates.shape == (40, 2, TINY.template_size_px, TINY.template_size_px, 3)
    assert first.search.shape == (40, TINY.search_size_px, TINY.search_size_px, 3)
    path = tmp_path / "samples.npz"
    assert saved(first, path) == saved(again, path) != saved(other, path)
    assert (first.search != other.search).any(axis=(1, 2, 3)).mean() > 0.5


def test_samples_say_where_they_are_from_and_come_back(
    network: FakeNetwork, clips: Path, tmp_path: Path
) -> None:
    samples = record_samples(fake_bundle(), clips, num_samples=40, seed=5)
    samples.save(tmp_path / "samples.npz")
    loaded = load_samples(tmp_path / "samples.npz")
    np.testing.assert_array_equal(loaded.templates, samples.templates)
    np.testing.assert_array_equal(loaded.search, samples.search)
    assert loaded.provenance == samples.provenance
    assert loaded.provenance["seed"] == 5
    assert loaded.provenance["checkpoint_sha256"] == "5eed"
    assert loaded.provenance["tracker"]["search_factor"] == 4.5


def test_a_source_gives_the_same_whatever_is_beside_it(network: FakeNetwork) -> None:
    alone = record_sources(
        EdgeTracker(fake_bundle()), [grey_source("b", 99)], "here", num_samples=40
    )
    beside = record_sources(
        EdgeTracker(fake_bundle()),
        [grey_source("a", 99), grey_source("b", 99)],
        "here",
        num_samples=80,
    )
    np.testing.assert_array_equal(alone.search, beside.search[40:])
    assert not np.array_equal(beside.search[:40], beside.search[40:])


def test_all_at_once_gives_what_one_after_the_other_gives(network: FakeNetwork) -> None:
    """As on a cluster: sources that others fell short beside are recorded once more."""
    tracker = EdgeTracker(fake_bundle())
    lengths = {"a": 90, "b": 4, "c": 60, "d": 11, "e": 90}
    sources = [grey_source(name, frames) for name, frames in lengths.items()]
    sources.insert(2, Source("broken", "sequence", unreadable))
    asked_for: list[dict[int, int]] = []

    def record(
        sources: Sequence[Source], asked: Mapping[int, int]
    ) -> Iterator[tuple[int, Recorded]]:
        asked_for.append(dict(asked))
        for index, share in reversed(list(asked.items())):
            yield index, recording._record(tracker, sources[index], share, seed=0)

    with pytest.warns(RuntimeWarning, match="broken is left out"):
        expected = record_sources(tracker, sources, "here", num_samples=99)
    with pytest.warns(RuntimeWarning, match="broken is left out"):
        found = record_sources(tracker, sources, "here", num_samples=99, record=record)
    np.testing.assert_array_equal(found.search, expected.search)
    np.testing.assert_array_equal(found.templates, expected.templates)
    assert found.provenance == expected.provenance
    assert found.provenance["sources"]["b"] == 3
    assert len(asked_for) > 1
    assert sum(asked_for[0].values()) == 99


# What the tracker feeds.


@dataclass
class Listener:
    """Graphs that remember, of each run of the search graph, its crop and the templates whose keys
    and values it was given.
    """

    graphs: Graphs
    fed: list[tuple[Image, Image]] = field(default_factory=list)
    encoded: dict[Any, Image] = field(default_factory=dict)

    def listening(self) -> Graphs:
        return Graphs(
            cast(TemplateGraph, _Template(self)),
            cast(CompiledGraph, _Search(self)),
            self.graphs.choice,
        )


@dataclass
class _Template:
    listener: Listener

    def start(self, inputs: Mapping[str, Any], into: Any) -> Callable[[], Mapping[str, Any]]:
        (templates,) = inputs["templates"]
        outputs = self.listener.graphs.template.start(inputs, into)()
        self.listener.encoded[_key(into)] = templates.copy()
        return lambda: outputs

    def reserve(self, targets: int) -> Any:
        return self.listener.graphs.template.reserve(targets)

    def close(self) -> None:
        self.listener.graphs.template.close()


@dataclass
class _Search:
    listener: Listener

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        templates = self.listener.encoded[_key(inputs["template_kv"])]
        self.listener.fed.append((templates, inputs["search"][0].copy()))
        return self.listener.graphs.search.run(inputs)

    def close(self) -> None:
        self.listener.graphs.search.close()


def _key(template_kv: Any) -> Any:
    return str(template_kv.read()) if isinstance(template_kv, FakeRows) else template_kv.tobytes()


@pytest.mark.parametrize("graphs", ["fake", "real"])
def test_samples_are_what_the_tracker_feeds_its_graphs_bit_by_bit(
    graphs: str,
    tiny_bundle: Bundle,
    clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also after the online template has changed. Half of the search crops are not moved."""
    write_video(tmp_path / "long.mp4", frames=70)
    options = TrackerOptions(update_interval=6, update_score=0.0)
    bundle = replace(tiny_bundle, tracker_defaults=options)
    inner = open_graphs(bundle, backend="onnxruntime", num_threads=1)
    if graphs == "fake":
        bundle = replace(fake_bundle(), tracker_defaults=options)
        drifting: list[tuple[float, ...]] = [(0.4, 0.4, 0.62, 0.62), (0.39, 0.38, 0.6, 0.61)] * 40
        inner = FakeNetwork(
            scores=[0.5 + 0.4 * (i % 5 == 2) for i in range(80)], edges_ltrb=drifting
        ).graphs()
    listener = Listener(inner)
    monkeypatch.setattr(
        "edge_tracker.tracker.engine.open_graphs", lambda bundle, **choices: listener.listening()
    )
    samples = record_samples(bundle, tmp_path, num_samples=69)

    assert len(samples) == len(listener.fed) == 69
    templates, searches = zip(*listener.fed, strict=True)
    np.testing.assert_array_equal(samples.templates, np.stack(templates))
    assert len({each[1].tobytes() for each in templates}) > 3
    equal = (samples.search == np.stack(searches)).all(axis=(1, 2, 3))
    assert 0.35 < equal.mean() < 0.65


def test_without_an_online_template_both_are_the_first(network: FakeNetwork, clips: Path) -> None:
    samples = record_samples(fake_bundle(update_interval=0), clips, num_samples=40)
    np.testing.assert_array_equal(samples.templates[:, 0], samples.templates[:, 1])


def test_targets_of_an_image_are_looked_for_where_they_are(
    network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "_moved", lambda box, *jitter: box)
    frame = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    targets = [(3.0 * index, 2.0 * index, 20.0, 30.0) for index in range(40)]
    source = Source("park", "image", lambda: ((frame, box) for box in targets))
    bundle = fake_bundle()
    samples = record_sources(EdgeTracker(bundle), [source], "here", num_samples=40)
    for box, templates, search in zip(targets, samples.templates, samples.search, strict=True):
        expected, _ = crop_square(frame, box, 2.0, bundle.spec.template_size_px)
        np.testing.assert_array_equal(templates, np.stack([expected, expected]))
        expected, _ = crop_square(frame, box, 4.5, bundle.spec.search_size_px)
        np.testing.assert_array_equal(search, expected)
    assert network.searches == []


def test_a_lost_target_is_taken_up_again_where_its_box_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every frame loses it, so every other one starts anew; an unknown box is waited out."""
    network = FakeNetwork(edges_ltrb=[(0.0, 0.0, 0.05, 0.05)])
    monkeypatch.setattr(
        "edge_tracker.tracker.engine.open_graphs", lambda bundle, **choices: network.graphs()
    )
    source = grey_source("a", 80, known=lambda index: index not in (2, 3))
    samples = record_sources(EdgeTracker(fake_bundle()), [source], "here", num_samples=50)
    started = network.events.count("start encoding")
    assert len(samples) == len(network.searches) == 39
    assert started == 39
    known = [frame_of(templates[0]) for templates in samples.templates]
    assert known[:3] == [0, 4, 6]


def unreadable() -> Iterator[tuple[Image, Box | None]]:
    raise DatasetError("frame 1 is missing")


def grey_source(
    name: str,
    frames: int,
    known: Callable[[int], bool] = lambda index: True,
    watch: Callable[[Image], None] = lambda frame: None,
) -> Source:
    """A video whose frame number i is filled with the grey value i."""

    def opened() -> Iterator[tuple[Image, Box | None]]:
        for index in range(frames):
            frame = np.full((48, 64, 3), index, np.uint8)
            watch(frame)
            yield frame, BOX if known(index) else None

    return Source(name, "sequence", opened)


def frame_of(crop: Image) -> int:
    return int(crop[crop.shape[0] // 2, crop.shape[1] // 2, 0])


def test_samples_are_spread_evenly_over_a_long_video(
    network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "_moved", lambda box, *jitter: box)
    source = grey_source("long", 240)
    samples = record_sources(EdgeTracker(fake_bundle()), [source], "here", num_samples=60)
    numbers = {frame_of(crop) for crop in samples.search}
    assert len(numbers) == 60
    assert 0 not in numbers
    for quarter in range(4):
        share = len(numbers & {*range(60 * quarter, 60 * (quarter + 1))}) / 60
        assert 0.1 < share < 0.4


def test_memory_does_not_grow_with_the_videos(
    network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = {"crops": _Alive(), "frames": _Alive()}
    most = dict.fromkeys(alive, 0)

    def watch(kind: str, array: Image) -> None:
        alive[kind].add(array)
        most[kind] = max(most[kind], len(alive[kind]))

    def watched_crop(*arguments: Any) -> tuple[Image, float]:
        crop, side_px = crop_square(*arguments)
        watch("crops", crop)
        return crop, side_px

    monkeypatch.setattr(recording, "crop_square", watched_crop)
    network.searches = _Forgetful()
    sources = [grey_source(name, 200, watch=lambda frame: watch("frames", frame)) for name in "ab"]
    samples = record_sources(EdgeTracker(fake_bundle()), sources, "here", num_samples=40)
    assert len(samples) == 40
    # 40 search crops, the one that takes a place, and the templates in use.
    assert 40 <= most["crops"] <= 40 + 5
    assert most["frames"] <= 3


class _Alive:
    """How many of the arrays that were added still are: they have no hash, so no WeakSet."""

    def __init__(self) -> None:
        self._references: list[weakref.ref[Any]] = []

    def add(self, array: Image) -> None:
        self._references.append(weakref.ref(array))

    def __len__(self) -> int:
        self._references = [each for each in self._references if each() is not None]
        return len(self._references)


class _Forgetful(list[Any]):
    """Counts, and keeps nothing."""

    def append(self, item: object) -> None:
        super().append(None)


numbers = st.floats(-1e4, 1e4)
sides = st.floats(0.1, 1e4)


@given(
    box=st.tuples(numbers, numbers, sides, sides),
    right=st.floats(-3, 3),
    down=st.floats(-3, 3),
    log_scale=st.floats(-2, 2),
)
def test_a_moved_box_keeps_its_shape(box: Box, right: float, down: float, log_scale: float) -> None:
    x, y, w, h = box
    moved_x, moved_y, moved_w, moved_h = recording._moved(box, right, down, log_scale)
    unit = np.sqrt(w * h)
    slack = 1e-9 * (abs(x) + abs(y) + w + h)
    assert moved_w == pytest.approx(w * np.exp(log_scale))
    assert moved_h == pytest.approx(h * np.exp(log_scale))
    assert moved_x + moved_w / 2 == pytest.approx(x + w / 2 + right * unit, abs=slack)
    assert moved_y + moved_h / 2 == pytest.approx(y + h / 2 + down * unit, abs=slack)


# Files of samples.


PROVENANCE = {
    "seed": 0,
    "sources": {"walk": 2},
    "tracker": {"template_factor": 2.0, "search_factor": 4.5},
}


def small_samples(count: int = 2) -> CalibrationSamples:
    random = np.random.default_rng(0)
    return CalibrationSamples(
        random.integers(0, 256, (count, 2, 4, 4, 3), np.uint8),
        random.integers(0, 256, (count, 8, 8, 3), np.uint8),
        PROVENANCE,
    )


def test_a_damaged_file_is_named_whichever_byte_it_is(tmp_path: Path) -> None:
    """Bytes that no reader looks at may change; then what is read is the same."""
    path = tmp_path / "samples.npz"
    whole = saved(small_samples(), path)
    complaints = []
    for index in range(len(whole)):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 0xFF]) + whole[index + 1 :])
        try:
            np.testing.assert_array_equal(load_samples(path).search, small_samples().search)
        except CalibrationError as error:
            complaints.append(str(error))
    assert len(complaints) > 0.7 * len(whole)
    assert all(str(path) in each and "edge-tracker calibrate" in each for each in complaints)


def _array(path: Path) -> None:
    np.save(path, np.zeros(3))


def _pickle(path: Path) -> None:
    np.savez(path, templates=np.array([{}]), search=np.array([{}]), provenance="{}")


def _no_provenance(path: Path) -> None:
    np.savez(path, templates=small_samples().templates, search=small_samples().search)


def _floats(path: Path) -> None:
    replace(small_samples(), search=cast(Any, np.zeros((2, 8, 8, 3)))).save(path)


def _counts_differ(path: Path) -> None:
    replace(small_samples(), search=small_samples(3).search).save(path)


def _none(path: Path) -> None:
    small_samples(0).save(path)


def _list(path: Path) -> None:
    replace(small_samples(), provenance=[1]).save(path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("boxes"),
        lambda path: path.write_bytes(b"PK\x03\x04 cut short"),
        _array,
        _pickle,
        _no_provenance,
        _floats,
        _counts_differ,
        _none,
        _list,
    ],
)
def test_what_is_no_file_of_samples_is_named_with_the_remedy(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "samples.npz"
    with path.open("wb"):
        write(tmp_path / "written.npz" if write is _array else path)
    if write is _array:
        (tmp_path / "written.npz.npy").rename(path)
    with pytest.raises(CalibrationError, match="edge-tracker calibrate BUNDLE DIR") as error:
        load_samples(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", None),
        ("sources", None),
        ("sources", {"walk": None}),
        ("tracker", None),
        ("tracker", {"template_factor": 2.0}),
        ("tracker", {"template_factor": 2.0, "search_factor": "3.5"}),
    ],
)
def test_samples_that_do_not_say_where_they_are_from_are_refused(
    name: str, value: object, tmp_path: Path
) -> None:
    path = tmp_path / "samples.npz"
    replace(small_samples(), provenance={**PROVENANCE, name: value}).save(path)
    with pytest.raises(CalibrationError, match="and where they are from"):
        load_samples(path)


def test_a_missing_file_of_samples_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"none\.npz cannot be read"):
        load_samples(tmp_path / "none.npz")


def test_samples_of_another_geometry_are_refused() -> None:
    samples = small_samples()
    samples.check_sizes(replace(TINY, template_size_px=4, search_size_px=8), "samples.npz")
    for close in (
        replace(TINY, template_size_px=4, search_size_px=16),
        replace(TINY, template_size_px=8, search_size_px=8),
    ):
        with pytest.raises(CalibrationError, match="record samples with a bundle of this network"):
            samples.check_sizes(close, "samples.npz")
    message = r"samples\.npz have templates of 4 px and search crops of 8 px, .* takes 32 and 64"
    with pytest.raises(CalibrationError, match=message):
        samples.check_sizes(TINY, "samples.npz")


# The command.


def test_calibrate_writes_samples_and_prints_where_they_are_from(
    tiny_bundle: Bundle,
    own_clips: Path,
    tmp_path: Path,
    cache_dir: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(cache_dir))
    output, report = tmp_path / "samples.npz", tmp_path / "samples.json"
    arguments = ["calibrate", str(tiny_bundle.path), str(own_clips), "-o", str(output)]
    assert main([*arguments, "--samples", "36", "--json", str(report)]) == 0
    samples = load_samples(output)
    printed = capsys.readouterr().out
    assert f"{len(samples)} samples from 4 sources" in printed
    assert len(samples) == 36
    for name, count in samples.provenance["sources"].items():
        assert re.search(rf"{re.escape(name)} *│ *{count} ", printed)
    assert json.loads(report.read_text()) == samples.provenance
    assert main([*arguments, "--samples", "900"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"\d+ samples \(fewer than 900: some sources are short\) from 4", printed)
    assert "at least 32" in usage_error(capsys, *arguments, "--samples", "8")
    nowhere = str(tmp_path / "nowhere" / "samples.npz")
    assert "nowhere does not exist" in fails(capsys, *arguments[:-1], nowhere)


def test_workers_of_a_cluster_record_the_same(
    tiny_bundle: Bundle,
    clips: Path,
    two_workers: LocalCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(clips.parent)
    arguments = [
        "calibrate",
        str(tiny_bundle.path),
        clips.name,
        "--samples",
        "64",
        "--threads",
        "1",
    ]
    assert main([*arguments, "-o", str(tmp_path / "alone.npz")]) == 0
    together = ["-o", str(tmp_path / "together.npz"), "--cluster", two_workers.address]
    assert main([*arguments, *together]) == 0
    expected, found = (load_samples(tmp_path / f"{name}.npz") for name in ("alone", "together"))
    np.testing.assert_array_equal(found.search, expected.search)
    np.testing.assert_array_equal(found.templates, expected.templates)
    assert found.provenance == expected.provenance


def test_calibrate_needs_the_runtime_alone(
    tiny_bundle: Bundle, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    optional = ("torch", "onnx", "onnxsim", "safetensors", "nncf")
    prelude = f"for name in {optional}: sys.modules[name] = None"
    output = tmp_path / "samples.npz"
    finished = run_as_program(
        *("calibrate", str(tiny_bundle.path), str(clips), "-o", str(output), "--samples", "32"),
        prelude=prelude,
    )
    assert finished.returncode == 0, finished.stderr
    assert len(load_samples(output)) >= MIN_SAMPLES


def test_what_lies_in_a_sequence_is_no_source_of_its_own(tmp_path: Path) -> None:
    images = tmp_path / "park" / "img"
    images.mkdir(parents=True)
    (tmp_path / "park" / "groundtruth.txt").write_text("1,2,3,4\n" * 2)
    for name in ("000001.png", "000002.png"):
        (images / name).touch()
    (images / "000002.txt").write_text("1,2,3,4")
    (tmp_path / "photo.png").touch()
    (tmp_path / "photo.txt").write_text("1,2,3,4")
    assert [source.name for source in find_sources(tmp_path)] == ["park", "photo.png"]
