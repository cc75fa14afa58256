"""A bundle tracked by NumPy, OpenCV and ONNX Runtime, as docs/bundle_format.md describes it.

    python examples/without_package.py BUNDLE VIDEO --box X Y W H

Nothing of edge_tracker is imported: copy it into a program that cannot have the package, or read it
before writing one in another language. Prints a line `frame,x,y,w,h,score,found` for each frame.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

Box = tuple[float, float, float, float]


def crop(frame: np.ndarray, box: Box, factor: float, size_px: int) -> tuple[np.ndarray, int]:
    """The square around a box, (size_px, size_px, 3) uint8 BGR, and its side in the frame."""
    x, y, w, h = box
    height, width = frame.shape[:2]
    side = math.ceil(math.sqrt(w * h) * factor)
    x1, y1 = round(x + w / 2 - side / 2), round(y + h / 2 - side / 2)
    # Where the square reaches the right or bottom border, the last column or row is black too.
    last_x = width - 1 if x1 + side >= width else width
    last_y = height - 1 if y1 + side >= height else height
    square = np.zeros((side, side, 3), np.uint8)
    from_x, from_y = max(0, x1), max(0, y1)
    to_x, to_y = min(last_x, x1 + side), min(last_y, y1 + side)
    if from_x < to_x and from_y < to_y:
        square[from_y - y1 : to_y - y1, from_x - x1 : to_x - x1] = frame[from_y:to_y, from_x:to_x]
    return cv2.resize(square, (size_px, size_px)), side


def look(frame: np.ndarray, box: Box) -> np.ndarray:
    return crop(frame, box, 1.0, 16)[0].astype(float)


def colours(pixels: np.ndarray) -> np.ndarray:
    """Shares of 216 colours."""
    steps = pixels.astype(int) * 6 // 256
    return np.bincount((steps @ np.array([36, 6, 1])).ravel(), minlength=216) / 256


def clip(low: float, high: float, length: int, margin: int) -> tuple[float, float]:
    """One axis of a box -> its start and its length, clipped to the frame."""
    start = min(max(0.0, low), length - margin)
    end = min(max(margin, high), length)
    return start, max(margin, end - start)


class Tracker:
    """box: x, y, w, h in the frame. score: a probability. found: False while the target is lost.

    presence: a probability, where the bundle tells it.
    """

    def __init__(self, bundle: Path) -> None:
        manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
        if (manifest["format"], manifest["format_version"]) != ("edge_tracker.bundle", 1):
            raise ValueError(f"{bundle} is not a bundle of format version 1")
        self.model, self.options = manifest["model"], manifest["tracker"]
        self.presence_model = manifest.get("presence")
        (onnx,) = (
            artefact["graphs"]
            for artefact in manifest["artefacts"]
            if (artefact["format"], artefact["precision"]) == ("onnx", "fp32")
        )
        self.template_graph, self.search_graph = (
            ort.InferenceSession(bundle / onnx[name]["model"], providers=["CPUExecutionProvider"])
            for name in ("template", "search")
        )

    def init(self, frame: np.ndarray, box: Box) -> None:
        self.box, self.score, self.found, self.frames_below = box, 1.0, True, 0
        self.first_look, self.log_odds_mean, self.presence = look(frame, box), None, None
        self.initial_template = self.online_template = self.template_of(frame)
        self.encode_templates()
        self.start_interval()

    def update(self, frame: np.ndarray) -> None:
        options = self.options
        factor = options["search_factor"]
        if not self.found and options["lost_search_factor"] is not None:
            factor = options["lost_search_factor"]
        search, side = crop(frame, self.box, factor, self.model["search_size_px"])
        edge_probs, score = self.search_graph.run(
            ["edge_probs", "score"], {"search": search[None], "template_kv": self.template_kv}
        )
        bins = self.model["bins"]
        probs, places = edge_probs[0].astype(float), np.arange(bins) / bins
        edges = probs @ places
        left, top, right, bottom = side * edges
        stds = side * np.sqrt(np.maximum(probs @ places**2 - edges**2, 0))
        x, y, w, h = self.box
        corner_x, corner_y = x + w / 2 - side / 2, y + h / 2 - side / 2
        height, width = frame.shape[:2]
        margin = options["clip_margin_px"]
        x, w = clip(corner_x + left, corner_x + right, width, margin)
        y, h = clip(corner_y + top, corner_y + bottom, height, margin)
        before, self.box, self.score = self.box, (x, y, w, h), float(score[0])
        if self.presence_model is None:
            self.judge_by_score()
        else:
            self.presence = self.measure_presence(frame, before, stds)
            self.found = self.presence >= self.presence_model["found_presence"]
        self.remember_best(frame)

    def measure_presence(self, frame: np.ndarray, before: Box, stds: np.ndarray) -> float:
        """Probability that the box overlaps the target by more than half."""
        (x0, y0, w0, h0), (x, y, w, h) = before, self.box
        left, top, right, bottom = stds
        score = min(max(self.score, 1e-6), 1 - 1e-6)
        log_odds = math.log(score / (1 - score))
        mean = log_odds if self.log_odds_mean is None else (self.log_odds_mean + log_odds) / 2
        self.log_odds_mean = mean
        way = math.hypot(x + w / 2 - x0 - w0 / 2, y + h / 2 - y0 - h0 / 2) / math.sqrt(w0 * h0)
        now = look(frame, self.box)
        a, b = (part - part.mean(axis=(0, 1)) for part in (now, self.first_look))
        features = {
            "log_odds": log_odds,
            "log_odds_mean": mean,
            "edge_spread": math.log(max(left / w, right / w, top / h, bottom / h) + 1e-3),
            "jump": math.log(way + 0.01),
            "scale_jump": math.log(abs(math.log(w * h / (w0 * h0))) + 0.01),
            "similarity": (a * b).sum() / math.sqrt((a**2).sum() * (b**2).sum() + 1e-9),
            "colours": np.sqrt(colours(now) * colours(self.first_look)).sum(),
        }
        weights = self.presence_model["weights"]
        total = sum(weights[name] * value for name, value in features.items())
        return 1 / (1 + math.exp(-min(max(self.presence_model["intercept"] + total, -500), 500)))

    def judge_by_score(self) -> None:
        self.frames_below = self.frames_below + 1 if self.score < self.options["lost_score"] else 0
        if self.frames_below >= self.options["lost_frames"]:
            self.found = False
        elif self.score >= self.options["found_score"]:
            self.found = True

    def remember_best(self, frame: np.ndarray) -> None:
        if self.options["update_interval"] == 0:
            return
        if self.score > self.best_score:
            self.best_template, self.best_score = self.template_of(frame), self.score
        self.interval_frames += 1
        if self.interval_frames == self.options["update_interval"]:
            if self.best_template is not self.online_template:
                self.online_template = self.best_template
                self.encode_templates()
            self.start_interval()

    def start_interval(self) -> None:
        self.interval_frames = 0
        self.best_template, self.best_score = self.initial_template, self.options["update_score"]

    def template_of(self, frame: np.ndarray) -> np.ndarray:
        size_px = self.model["template_size_px"]
        return crop(frame, self.box, self.options["template_factor"], size_px)[0]

    def encode_templates(self) -> None:
        templates = np.stack([self.initial_template, self.online_template])[None]
        (self.template_kv,) = self.template_graph.run(["template_kv"], {"templates": templates})


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("video")
    parser.add_argument("--box", type=float, nargs=4, required=True, metavar=("X", "Y", "W", "H"))
    arguments = parser.parse_args(argv)

    if not (arguments.bundle / "manifest.json").is_file():
        parser.error(f"{arguments.bundle} is not a bundle's folder")
    tracker = Tracker(arguments.bundle)
    video = cv2.VideoCapture(arguments.video)
    started, frame = video.read()
    if not started:
        parser.error(f"{arguments.video} cannot be read as a video")
    tracker.init(frame, tuple(arguments.box))
    index = 0
    while started:
        box = ",".join(f"{value:.4f}" for value in tracker.box)
        print(f"{index},{box},{tracker.score:.4f},{int(tracker.found)}")
        index += 1
        started, frame = video.read()
        if started:
            tracker.update(frame)


if __name__ == "__main__":
    main()
