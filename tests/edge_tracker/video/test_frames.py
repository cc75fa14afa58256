"""Frame sources and the mp4 writer, on files made here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_tracker.errors import VideoError
from edge_tracker.video.frames import (
    DEFAULT_FPS,
    natural_key,
    open_frames,
    read_image,
    select_frames,
)
from edge_tracker.video.recording import frame_writer
from tests.helpers.places import SHARED

Image = np.ndarray
SHARED_VIDEO = SHARED / "data/videos/pysot_bag.avi"


def grey_frames(count: int, width_px: int = 64, height_px: int = 48) -> list[Image]:
    """Frames whose brightness tells their index: 10, 20, 30 ..."""
    return [np.full((height_px, width_px, 3), 10 * (i + 1), np.uint8) for i in range(count)]


def write_video(path: Path, frames: list[Image], fps: float = 25.0) -> Path:
    height_px, width_px = frames[0].shape[:2]
    with frame_writer(path, fps, width_px, height_px) as write:
        for frame in frames:
            write(frame)
    return path


def indices(frames: Iterator[Image]) -> list[int]:
    return [round(float(frame.mean()) / 10) - 1 for frame in frames]


def test_a_written_video_reads_back_frame_by_frame(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", grey_frames(12), fps=29.97)
    with open_frames(video) as source:
        assert source.num_frames == 12
        assert source.fps == pytest.approx(29.97, abs=0.01)
        assert source.first_frame.shape == (48, 64, 3)
        assert not source.live
        assert indices(iter(source)) == list(range(12))
    assert os.listdir(tmp_path) == ["clip.mp4"]


def test_the_first_frame_is_not_shared_with_iteration(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", grey_frames(2))
    with open_frames(video) as source:
        next(iter(source))[:] = 255
        assert source.first_frame.max() < 50


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    names = ["frame1.png", "frame2.PNG", "frame10.png", "frame011.png", "frame100.bmp"]
    for name, frame in zip(names, grey_frames(5), strict=True):
        cv2.imwrite(str(tmp_path / name), frame)
    (tmp_path / "notes.txt").write_text("not a frame")
    (tmp_path / "._frame1.png").write_bytes(b"left by another system")
    with open_frames(str(tmp_path)) as source:
        assert source.num_frames == 5
        assert source.fps == DEFAULT_FPS
        assert indices(iter(source)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [("2.jpg", "10.jpg"), ("a9b10", "a10b2"), ("A2", "a10"), ("frame", "frame0"), ("01", "1")],
)
def test_natural_order(earlier: str, later: str) -> None:
    assert natural_key(earlier) < natural_key(later)


def test_folder_frames_may_differ_in_size_and_be_grey(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.full((20, 30), 10, np.uint8))
    cv2.imwrite(str(tmp_path / "2.png"), np.full((40, 50, 4), 20, np.uint8))
    with open_frames(tmp_path) as source:
        assert [frame.shape for frame in source] == [(20, 30, 3), (40, 50, 3)]


def test_names_outside_ascii_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "Vögel 鳥"
    folder.mkdir()
    encoded = cv2.imencode(".png", grey_frames(1)[0])[1]
    (folder / "é1.png").write_bytes(encoded.tobytes())
    with open_frames(folder) as source:
        assert indices(iter(source)) == [0]


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 cut short", b"plain text"])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes) -> None:
    cv2.imwrite(str(tmp_path / "1.jpg"), grey_frames(1)[0])
    (tmp_path / "2.jpg").write_bytes(content)
    with open_frames(tmp_path) as source, pytest.raises(VideoError, match=r"2\.jpg.*replace"):
        list(source)


def test_an_image_of_other_than_whole_numbers_is_named_for_it(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.tiff"), np.zeros((20, 20, 3), np.float32))
    if cv2.imread(str(tmp_path / "1.tiff")) is not None:
        pytest.skip(f"OpenCV {cv2.__version__} reads it")
    with pytest.raises(VideoError, match=r"1\.tiff holds float32 values: convert it to 8 bits"):
        read_image(tmp_path / "1.tiff")


def test_an_unreadable_first_image_is_named_on_opening(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"no image")
    with pytest.raises(VideoError, match=r"1\.jpg"), open_frames(tmp_path):
        pass


def test_a_video_that_ends_early_yields_what_it_has(tmp_path: Path) -> None:
    # AVI announces its frame count at the start, so that a cut file still opens.
    rng = np.random.default_rng(0)
    video = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for _ in range(40):
        writer.write(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    writer.release()
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) // 2])
    with open_frames(video) as source:
        assert source.num_frames == 40
        assert 10 < sum(1 for _ in source) < 30


def test_what_cannot_be_opened_is_named_with_a_remedy(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(bytes(99))
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    (tmp_path / "sequence" / "img").mkdir(parents=True)
    cases: list[tuple[str | Path | int, str]] = [
        (tmp_path / "absent.mp4", r"absent\.mp4 does not exist.*camera index"),
        (text, r"notes\.mp4 cannot be opened.*it is a text file"),
        (damaged, r"damaged\.mp4 cannot be opened.*ffmpeg"),
        (tmp_path / "sequence" / "img", r"img holds no images \(\.bmp"),
        (tmp_path / "sequence", r"did you mean one of its folders \(img\)"),
        ("987", r"camera 987 cannot be opened.*plugged in"),
        (987, r"camera 987 cannot be opened.*plugged in"),
        ("udp://256.0.0.1:1", r"stream udp://256\.0\.0\.1:1 cannot be opened.*network"),
        ("nosuchsrc ! appsink", r"stream nosuchsrc ! appsink cannot be opened.*GStreamer"),
    ]
    for source, message in cases:
        with pytest.raises(VideoError, match=message), open_frames(source):
            pass


def test_a_file_named_like_a_camera_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "clip.mp4", grey_frames(3)).rename(tmp_path / "0")
    monkeypatch.chdir(tmp_path)
    with open_frames("0") as source:
        assert not source.live
        assert source.num_frames == 3


def test_frames_of_another_size_are_scaled_to_the_videos(tmp_path: Path) -> None:
    frames = [*grey_frames(2), np.full((100, 30, 3), 30, np.uint8)]
    video = write_video(tmp_path / "clip.mp4", frames)
    with open_frames(video) as source:
        assert indices(iter(source)) == [0, 1, 2]


def test_a_failure_leaves_the_old_video_and_nothing_else(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", grey_frames(3))
    before = video.read_bytes()

    def interrupted() -> None:
        with frame_writer(video, 25, 64, 48) as write:
            write(grey_frames(1)[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert video.read_bytes() == before
    assert os.listdir(tmp_path) == ["clip.mp4"]


def test_unusable_targets_are_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    cases = [
        (tmp_path / "clip.gif", ValueError, r"no ending that can be written: .*clip\.mp4"),
        (tmp_path / "folder.mp4", ValueError, "is a folder"),
        (tmp_path / "absent" / "clip.mp4", FileNotFoundError, "absent does not exist, create it"),
        (Path("/proc/clip.mp4"), OSError, r"clip\.mp4"),
    ]
    for target, kind, message in cases:
        with pytest.raises(kind, match=message), frame_writer(target, 25, 64, 48):
            pytest.fail("the block must not run")


@pytest.mark.parametrize("pattern", ["frame%03d.png", "frame*.png", "frame%d.png"])
def test_images_by_a_pattern(tmp_path: Path, pattern: str) -> None:
    for number, frame in enumerate(grey_frames(11)):
        cv2.imwrite(str(tmp_path / f"frame{number:03}.png"), frame)
    cv2.imwrite(str(tmp_path / "thumbnail.png"), grey_frames(1)[0])
    (tmp_path / "._frame001.png").write_bytes(b"left by another system")
    with open_frames(f"{tmp_path}/{pattern}") as source:
        assert source.num_frames == 11
        assert not source.live
        assert indices(iter(source)) == list(range(11))


def test_a_pattern_without_images_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(VideoError, match=r"%06d\.jpg does not exist"),
        open_frames(str(tmp_path / "%06d.jpg")),
    ):
        pass


def not_utf8(folder: Path, name: bytes) -> Path:
    return Path(os.fsdecode(os.fsencode(folder) + b"/" + name))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    """OpenCV ends the process on them."""
    folder = not_utf8(tmp_path, b"card\xff")
    folder.mkdir()
    clip = write_video(not_utf8(folder, b"clip\xe9.mp4"), grey_frames(3))
    with open_frames(clip) as source:
        assert indices(iter(source)) == [0, 1, 2]
    assert len(os.listdir(folder)) == 1


def test_a_name_that_looks_like_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg takes what stands before a colon for a protocol."""
    monkeypatch.chdir(tmp_path)
    clip = write_video(Path("2024-05-01T12:30:00.mp4"), grey_frames(3))
    with open_frames(clip) as source:
        assert indices(iter(source)) == [0, 1, 2]


def test_a_part_of_a_source(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", grey_frames(20), fps=10)
    for choice, expected in (
        ({"start_s": 0.5}, list(range(5, 20))),
        ({"end_s": 0.5}, list(range(5))),
        ({"every": 4}, [0, 4, 8, 12, 16]),
        ({"start_s": 0.3, "end_s": 1.0, "every": 3}, [3, 6, 9]),
        ({"end_s": 99.0, "every": 19}, [0, 19]),
    ):
        with open_frames(clip) as source:
            part = select_frames(source, **choice)
            assert part.num_frames == len(expected)
            assert part.fps == 10 / choice.get("every", 1)
            assert indices(iter([part.first_frame])) == expected[:1]
            assert indices(iter(part)) == expected


def test_a_part_that_is_none(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", grey_frames(20), fps=10)
    with (
        open_frames(clip) as source,
        pytest.raises(VideoError, match=r"no frame at 7 s.* 2 s long"),
    ):
        select_frames(source, start_s=7)
    with open_frames(clip) as source, pytest.raises(ValueError, match="not after the start"):
        select_frames(source, start_s=1, end_s=1)


@pytest.mark.skipif(not SHARED_VIDEO.exists(), reason="needs ../shared/data/videos")
def test_a_real_video_yields_all_its_frames() -> None:
    with open_frames(SHARED_VIDEO) as source:
        assert source.num_frames == 196
        assert sum(frame.shape == (360, 480, 3) for frame in source) == 196
