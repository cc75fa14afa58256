"""A bundle under wear: updates for long, trackers in threads, commands side by side, full disks, a
camera that fails, a clock that jumps.

    python -m benchmarks.wear BUNDLE --only updates --updates 1000000

Full disks are files that may grow no further (RLIMIT_FSIZE), so that no disk has to be filled;
Linux only. convert and demo are tried where a checkpoint is given. Ends with status 1 if anything
was not as it should be.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import cv2

from edge_tracker import EdgeTracker, EdgeTrackerError, open_bundle
from edge_tracker.rules.boxes import box_iou
from edge_tracker.video.frames import open_frames
from edge_tracker.video.recording import frame_writer
from edge_tracker.video.rendered_clip import render_clip

BOX = "100,80,60,60"
FRAMES = 40
#: Bytes after which nothing more can be written.
DISK_BYTES = (0, 100, 3_000, 30_000, 300_000)


def state() -> tuple[int, int, int]:
    """Resident memory in MB, threads, and open files of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    facts = dict(line.split(":", 1) for line in lines)
    memory_mb = int(facts["VmRSS"].split()[0]) // 1024
    return memory_mb, int(facts["Threads"]), len(os.listdir("/proc/self/fd"))


def updates(given: Given, folder: Path) -> bool:
    """After a warm-up, a tenth of them, nothing grows: to the middle, to the end."""
    flat = True
    frames = [frame.image for frame in render_clip(FRAMES, 320, 240)]
    for backend in ("openvino", "onnxruntime"):
        with EdgeTracker(given.bundle, backend=backend, num_threads=1) as tracker:
            tracker.init(frames[0], (100, 80, 60, 60))
            count, states = 0, []
            for share in (0.1, 0.5, 1.0):
                while count < share * given.updates:
                    tracker.update(frames[count % FRAMES])
                    count += 1
                states.append(state())
                print(f"{backend}: {count} updates, (MB, threads, files): {states[-1]}", flush=True)
        early = states[0]
        flat &= all(late[0] - early[0] <= 5 and late[1:] == early[1:] for late in states[1:])
    return flat


def threads(given: Given, folder: Path) -> bool:
    """Eight, each with its own tracker, find the same boxes."""
    frames = [frame.image for frame in render_clip(FRAMES, 320, 240)]
    boxes: dict[int, list[tuple[float, ...]]] = {}

    def follow(number: int) -> None:
        with EdgeTracker(given.bundle, num_threads=1) as tracker:
            tracker.init(frames[0], (100, 80, 60, 60))
            boxes[number] = [tracker.update(frame).box for frame in frames]

    followers = [threading.Thread(target=follow, args=(number,)) for number in range(8)]
    for follower in followers:
        follower.start()
    for follower in followers:
        follower.join()
    equal = len(boxes) == 8 and all(found == boxes[0] for found in boxes.values())
    print(f"eight threads: {len(boxes)} ended, boxes {'equal' if equal else 'NOT equal'}")
    return equal


@dataclass(frozen=True)
class Given:
    """What the commands are tried on. wanted: names of commands, all if empty."""

    bundle: Path
    checkpoint: Path | None
    updates: int
    wanted: tuple[str, ...]


def commands(given: Given, place: Path, clip: Path) -> dict[str, list[str]]:
    """Each command, writing all that it can into a folder. Those that change a bundle have a copy
    of their own there.
    """
    bundle, own = str(given.bundle), place / "own.bundle"
    outputs = {
        suffix: str(place / f"out.{suffix}") for suffix in ("json", "csv", "html", "md", "mp4")
    }
    json, html = ["--json", outputs["json"]], ["--html", outputs["html"]]
    few = ["--iterations", "20", "--no-cold-start", "--precision", "fp32"]
    data, samples = str(clip.parent / "data"), str(place / "out.npz")
    track = ["track", bundle, str(clip), "--box", BOX, "--csv", outputs["csv"]]
    every = {
        "inspect": ["inspect", bundle, *json],
        "doctor": ["doctor", bundle, *json],
        "verify": ["verify", bundle, "--precision", "fp32", *json],
        "bench": ["bench", bundle, *few, *json, *html],
        "track": [*track, "--save", outputs["mp4"], *json],
        "eval": ["eval", bundle, data, "--precision", "fp32", "--results", str(place / "results"),
                 *json, *html, "--markdown", outputs["md"]],
        "calibrate": ["calibrate", bundle, data, "--samples", "32", "-o", samples, *json],
    }  # fmt: skip
    if find_spec("tensorrt_rtx") is not None:
        build = ["--precision", "fp32", "--compute-capability", "8.6", *json]
        every["build"] = ["build", str(own), *build]
    if given.checkpoint is not None:
        convert = ["convert", str(given.checkpoint), "-o", str(place / "made.bundle")]
        every["convert"] = [*convert, "--precision", "fp32", *json]
        every["demo"] = ["demo", "-o", str(place / "demo"), "--frames", "4"]
    chosen = {name: words for name, words in every.items() if name in (given.wanted or every)}
    if "build" in chosen:
        shutil.rmtree(own, ignore_errors=True)
        shutil.copytree(given.bundle, own)
    return chosen


def started(
    words: list[str], cache: Path, most_bytes: int | None = None, prelude: str = ""
) -> subprocess.Popen[str]:
    """The command in a process of its own. most_bytes: no file of it may grow beyond."""

    def limit() -> None:
        if most_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    program = f"{prelude}\nimport sys\nfrom edge_tracker.cli.main import main\nsys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", program, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=limit,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, warned = process.communicate(timeout=300)
    return process.returncode, warned.strip().rpartition("\n")[2][:150]


def twice(given: Given, folder: Path) -> bool:
    """Two processes of each command at once, from a cold cache, on the same outputs: both succeed,
    or one is told in a line to wait for the other; what they leave is whole.
    """
    clip, right = write_clip(folder / "clip.mp4"), True
    for name in commands(given, folder, clip):
        place = folder / f"twice_{name}"
        place.mkdir()
        words = commands(replace(given, wanted=(name,)), place, clip)[name]
        both = [started(words, place / "cache") for _ in range(2)]
        results = [ended(process) for process in both]
        wrong = broken(place)
        right_here = not wrong and 0 in (status for status, _ in results)
        for status, line in results:
            right_here &= status == 0 or (status == 1 and line.startswith("edge-tracker: error"))
        right &= right_here
        print(f"two of {name}: {results}{'' if right_here else f' WRONG {wrong}'}", flush=True)
    return right


def full(given: Given, folder: Path) -> bool:
    """At each size: success, or status 1 in a line; an old output is whole, and nothing half done
    is left.
    """
    clip, right = write_clip(folder / "clip.mp4"), True
    for most_bytes in DISK_BYTES:
        for name in commands(given, folder, clip):
            place = folder / f"full_{most_bytes}_{name}"
            place.mkdir()
            words = commands(replace(given, wanted=(name,)), place, clip)[name]
            outputs = [Path(word) for word in words if word.startswith(str(place / "out."))]
            for output in outputs:
                output.write_text("old")
            status, line = ended(started(words, place / "cache", most_bytes))
            wrong = broken(place)
            old = [output.name for output in outputs if output.read_bytes() == b"old"]
            as_it_should = (
                not wrong
                and status in (0, 1)
                and (status == 1) == line.startswith("edge-tracker: error")
                and (status == 1 or not old)
            )
            right &= as_it_should
            print(f"{name}, {most_bytes} bytes: {status} {line!r}, old: {', '.join(old)}"
                  f"{'' if as_it_should else f' WRONG {wrong}'}", flush=True)  # fmt: skip
            shutil.rmtree(place)
    return right


def broken(place: Path) -> list[str]:
    """Hidden names that a command left behind, and bundles that are not whole."""
    names = [path for path in place.rglob("*") if "cache" not in path.parts]
    wrong = [f"{path} was left" for path in names if path.name.startswith(".")]
    for path in names:
        if path.name == "manifest.json":
            try:
                bundle = open_bundle(path.parent)
                bundle.check_files(list(bundle.files))
            except EdgeTrackerError as error:
                wrong.append(str(error))
    return wrong


def camera(given: Given, folder: Path) -> bool:
    """A pipe of JPEGs that stalls for 3 s, changes size, ends within a frame, and comes back."""
    pipe, rows = folder / "camera.mjpeg", folder / "rows.csv"
    os.mkfifo(pipe)
    words = ["track", str(given.bundle), str(pipe), "--box", BOX, "--csv", str(rows)]
    process = started(words, folder / "cache")
    with pipe.open("wb", buffering=0) as stream:
        for index, frame in enumerate(render_clip(3 * FRAMES, 320, 240)):
            small = index >= 2 * FRAMES
            image = cv2.resize(frame.image, (240, 180)) if small else frame.image
            jpeg = cv2.imencode(".jpg", image)[1].tobytes()
            if index == FRAMES:
                time.sleep(3)
            last = index == 3 * FRAMES - 1
            try:
                stream.write(jpeg[: len(jpeg) // 2] if last else jpeg)
            except BrokenPipeError:
                print(f"camera: the reader left at frame {index}")
                break
    status, line = ended(process)
    count = len(rows.read_text().splitlines()) - 1 if rows.exists() else 0
    print(f"camera: {status} {line!r}, {count} rows of {3 * FRAMES} frames")
    return comes_back(given, pipe) and status == 0 and count >= 2 * FRAMES


def comes_back(given: Given, pipe: Path) -> bool:
    """It drops out twice, each time for a second; a program opens it again and goes on with the
    same tracker, which finds the target where a camera without gaps would have shown it.
    """
    clip = list(render_clip(3 * FRAMES, 320, 240))

    def send() -> None:
        for begin in range(0, 3 * FRAMES, FRAMES):
            with pipe.open("wb", buffering=0) as stream:
                for frame in clip[begin : begin + FRAMES]:
                    stream.write(cv2.imencode(".jpg", frame.image)[1].tobytes())
            time.sleep(1)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    counts: list[int] = []
    overlaps: list[float] = []
    with EdgeTracker(given.bundle, num_threads=1) as tracker:
        tracker.init(clip[0].image, clip[0].box)
        for _ in range(3):
            with open_frames(pipe) as source:
                boxes = [tracker.update(frame).box for frame in source]
            counts.append(len(boxes))
            overlaps += [box_iou(box, clip[len(overlaps) + at].box) for at, box in enumerate(boxes)]
    sender.join()
    mean = sum(overlaps) / len(overlaps)
    print(f"camera: comes back, frames {counts} of 3 times {FRAMES}, mean IoU {mean:.3f}")
    return counts == [FRAMES] * 3


def clock(given: Given, folder: Path) -> bool:
    """The time of day goes back by an hour at each look: the same boxes."""
    jumps = (
        "import itertools, time\n"
        "back = itertools.count(time.time(), -3600.0)\n"
        "time.time = lambda: next(back)"
    )
    clip, written = write_clip(folder / "clip.mp4"), []
    for prelude in ("", jumps):
        place = Path(tempfile.mkdtemp(dir=folder))
        words = commands(replace(given, wanted=("track",)), place, clip)["track"]
        status = ended(started(words, place / "cache", prelude=prelude))[0]
        written.append((status, (place / "out.csv").read_text()))
    print(f"clock: {[status for status, _ in written]}, equal: {written[0] == written[1]}")
    return written[0] == written[1] and written[0][0] == 0


def write_clip(path: Path) -> Path:
    """A clip, and beside it `data`, a data set of two short sequences."""
    with frame_writer(path, 25, 320, 240) as write:
        for frame in render_clip(FRAMES, 320, 240):
            write(frame.image)
    for name in ("first", "second"):
        images = path.parent / "data" / name / "img"
        images.mkdir(parents=True)
        boxes = []
        for index, frame in enumerate(render_clip(FRAMES, 320, 240)):
            cv2.imwrite(str(images / f"{index:04}.jpg"), frame.image)
            boxes.append(",".join(f"{value:.1f}" for value in frame.box))
        (images.parent / "groundtruth_rect.txt").write_text("\n".join(boxes) + "\n")
    return path


PARTS: dict[str, Callable[[Given, Path], bool]] = {
    part.__name__: part for part in (updates, threads, twice, full, camera, clock)
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--checkpoint", type=Path, help="small: it is converted many times")
    parser.add_argument("--only", default=",".join(PARTS), metavar="PARTS")
    parser.add_argument("--commands", default="", metavar="NAMES", help="for twice and full")
    parser.add_argument("--updates", type=int, default=4000, metavar="N", help="with each backend")
    arguments = parser.parse_args(argv)
    checkpoint = arguments.checkpoint and arguments.checkpoint.resolve()
    wanted = tuple(name for name in arguments.commands.split(",") if name)
    given = Given(arguments.bundle.resolve(), checkpoint, arguments.updates, wanted)
    wrong = []
    for name in arguments.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            begun_s = time.monotonic()
            if not PARTS[name](given, Path(folder)):
                wrong.append(name)
            print(f"== {name}: {time.monotonic() - begun_s:.0f} s", flush=True)
    print(f"not as it should be: {', '.join(wrong) or 'nothing'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
