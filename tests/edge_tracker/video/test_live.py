"""Live sources: each frame or the newest, and an end to waiting for either."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_tracker.errors import VideoError
from edge_tracker.video import live
from edge_tracker.video.frames import open_frames
from edge_tracker.video.live import AHEAD, LiveFrames


class Camera:
    """Stands for cv2.VideoCapture: `shoot` gives a frame, whose number is its brightness."""

    def __init__(self) -> None:
        self.shots = threading.Semaphore(0)
        self.unplugged = False
        self.released = False
        self.reads = 0

    def __call__(self, opened: object) -> Camera:
        return self

    def shoot(self, count: int = 1) -> None:
        self.shots.release(count)

    def unplug(self) -> None:
        self.unplugged = True
        self.shots.release()

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.shots.acquire()
        if self.unplugged:
            return False, None
        self.reads += 1
        return True, np.full((4, 4, 3), self.reads, np.uint8)

    def get(self, what: int) -> float:
        return 25.0

    def release(self) -> None:
        self.released = True


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Camera:
    camera = Camera()
    monkeypatch.setattr(cv2, "VideoCapture", camera)
    return camera


def wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


def number(frame: np.ndarray | None) -> int:
    assert frame is not None
    return int(frame[0, 0, 0])


def test_every_frame_waits_for_its_turn(camera: Camera) -> None:
    frames = LiveFrames(0, latest=False)
    camera.shoot(30)
    wait(lambda: camera.reads == AHEAD + 1)
    time.sleep(0.02)
    assert camera.reads == AHEAD + 1  # the source waits for us
    assert [number(frames.next()) for _ in range(30)] == list(range(1, 31))
    assert frames.dropped == 0
    camera.unplug()
    assert frames.next() is None
    frames.close()
    assert camera.released


def test_the_newest_frame_and_how_many_were_dropped(camera: Camera) -> None:
    frames = LiveFrames(0, latest=True)
    for _ in range(10):
        camera.shoot()
    wait(lambda: camera.reads == 10)
    time.sleep(0.02)
    assert number(frames.next()) == 10
    assert frames.dropped == 9
    camera.shoot()
    assert number(frames.next()) == 11
    assert frames.dropped == 9
    camera.unplug()
    assert frames.next() is None
    frames.close()


def test_waiting_for_a_camera_that_stalls_can_be_interrupted(
    camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    monkeypatch.setattr(live, "CLOSE_S", 0.05)
    threading.Timer(0.1, signal.raise_signal, [signal.SIGINT]).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), open_frames(0):
        pass
    assert time.monotonic() - started < 5
    camera.unplug()


def test_a_camera_that_gives_nothing_is_named(camera: Camera) -> None:
    camera.unplug()
    with pytest.raises(VideoError, match="camera 3 cannot be opened"), open_frames(3):
        pass


def test_dropped_frames_are_counted_in_the_source(camera: Camera) -> None:
    camera.shoot()
    with open_frames(0, latest=True) as source:
        assert (source.live, source.fps) == (True, 25.0)
        camera.shoot()
        camera.shoot()
        wait(lambda: camera.reads == 3)
        wait(lambda: source.dropped() == 1)
        assert [number(next(source.frames)) for _ in range(2)] == [1, 3]
        camera.unplug()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_live(tmp_path: Path) -> None:
    pipe = tmp_path / "capture"
    os.mkfifo(pipe)
    picture = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()

    def feed() -> None:
        with pipe.open("wb") as file:
            file.write(picture * 200)

    feeder = threading.Thread(target=feed)
    feeder.start()
    with open_frames(pipe) as source:
        assert source.live
        assert source.num_frames is None
        assert sum(1 for _ in source) > 100
    feeder.join()


def test_a_camera_that_dropped_out_can_be_opened_again(camera: Camera) -> None:
    """What a program does that goes on with the same tracker: nothing of the first time is left."""
    for latest in (False, True):
        camera.unplugged = False
        camera.shoot(3)
        with open_frames(0, latest=latest) as source:
            frames = iter(source)
            assert next(frames) is not None
            camera.unplug()
            assert len(list(frames)) <= 3
        assert camera.released
        camera.shots = threading.Semaphore(0)
    camera.unplug()
    with pytest.raises(VideoError, match="camera 0 cannot be opened"), open_frames(0):
        pass
