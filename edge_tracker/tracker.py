"""The tracker: one target, one frame after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edge_tracker.backends.choice import open_graphs
from edge_tracker.backends.graph import BackendChoice, CopyTimes
from edge_tracker.bundle.opening import Bundle, open_bundle
from edge_tracker.errors import EdgeTrackerError, NotInitialised
from edge_tracker.options import TrackerOptions
from edge_tracker.rules.boxes import Box, box_from_edges, checked_box, clip_box
from edge_tracker.rules.crop import Image, crop_square, crop_template
from edge_tracker.rules.decode import decode_edges
from edge_tracker.rules.frame import as_bgr
from edge_tracker.rules.online_template import OnlineTemplate


@dataclass(frozen=True)
class TrackResult:
    """Where the target is in one frame.

    box: x, y, width, height in frame pixels, 0-based, x and y the top left corner; always a box,
        also when the target is lost (then the last guess).
    score: the network's confidence, a probability.
    found: False while the target counts as lost (see TrackerOptions.lost_score).
    edge_std_px: standard deviation of the left, top, right and bottom edge's distribution, in frame
        pixels.
    """

    box: Box
    score: float
    found: bool
    edge_std_px: tuple[float, float, float, float]


#: Parts of an `update()`, in the order in which they happen. template_wait: only in the frame after
#: the online template has changed. template_refresh: cropping a candidate and, at an interval's
#: end, starting the template graph.
STAGES = ("crop", "template_wait", "search_graph", "decode", "template_refresh")


@dataclass
class _Target:
    """What the tracker knows about its target between two frames."""

    box: Box
    initial_template: Image
    online_template: OnlineTemplate
    template_kv: Any
    pending_template_kv: Callable[[], Any] | None = None
    frames_below: int = 0
    found: bool = True


class EdgeTracker:
    """Tracks one target with a converted MixFormerV2 network.

        with EdgeTracker("bundle") as tracker:
            tracker.init(frame, (x, y, width, height))
            result = tracker.update(next_frame)

    bundle: a folder made by `edge-tracker convert`, or the value of `open_bundle`.
    backend: "auto" (the fastest that can run here), "tensorrt", "openvino" or "onnxruntime".
    device: the backend's name of a device, by default "CPU", for TensorRT "0".
    precision: "fp32", "fp16" or "int8"; by default the most exact that the bundle has.
    num_threads: CPU threads, all cores by default.
    cache_dir: where OpenVINO keeps compiled models, the user's cache folder by default.
    compute: the type of floating-point arithmetic: "f32", "f16" or "bf16" where the backend has it
    here, or "auto", the fastest with which the bundle's golden cases stay within limits, found at
    the first start and remembered. By default what the artefact is made for: float32 on a CPU.
    options: how to track; by default what the bundle says.
    on_stage: for measuring; called in `update` at the end of each of STAGES that happened, with its
    name.
    So many parameters because each is a choice of the user, with a default.

    Not safe for use from several threads at once. Raises BundleError, BackendUnavailable,
    ValueError, TypeError.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle,
        *,
        backend: str = "auto",
        device: str | None = None,
        precision: str | None = None,
        num_threads: int | None = None,
        cache_dir: str | Path | None = None,
        compute: str | None = None,
        options: TrackerOptions | None = None,
        on_stage: Callable[[str], None] = lambda stage: None,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        if options is not None and not isinstance(options, TrackerOptions):
            raise TypeError(
                f"options is {options!r}: expected such as TrackerOptions(update_interval=10)"
            )
        self.options = self.bundle.tracker_defaults if options is None else options
        self._graphs = open_graphs(
            self.bundle,
            backend=backend,
            device=device,
            precision=precision,
            num_threads=num_threads,
            cache_dir=cache_dir,
            compute=compute,
        )
        self._on_stage = on_stage
        self._target: _Target | None = None
        self._closed = False

    def describe(self) -> str:
        """What runs the network here, and why: the last line says what was chosen."""
        return "\n".join(self.choice.reasons)

    @property
    def choice(self) -> BackendChoice:
        """What runs the network here, and why."""
        return self._graphs.choice

    def init(self, frame: Image, box: Sequence[float]) -> None:
        """Start on a target; also restarts on another one.

        frame: (height, width, 3) uint8 BGR; grey and BGRA frames are converted. Not kept.
        box: x, y, width, height in frame pixels, 0-based; it may reach outside the frame.
        Raises TypeError or ValueError for a frame or box that is neither, NotInitialised once
        closed.
        """
        self._refuse_closed()
        frame = as_bgr(frame)
        box_frame_xywh = checked_box(box, frame.shape[0], frame.shape[1])
        template_size_px = self.bundle.spec.template_size_px
        template = crop_template(frame, box_frame_xywh, self.options, template_size_px)
        self._target = _Target(
            box=box_frame_xywh,
            initial_template=template,
            online_template=OnlineTemplate(
                template, self.options.update_interval, self.options.update_score
            ),
            template_kv=self._graphs.template.run(_template_inputs(template, template))[
                "template_kv"
            ],
        )

    def update(self, frame: Image) -> TrackResult:
        """Find the target in the next frame, which may have another size than the last.

        frame: as for `init`. Raises NotInitialised before `init` and after `close`, TypeError or
        ValueError for what is no frame (the tracker then stays as it was), EdgeTrackerError if the
        network returns no numbers.
        """
        self._refuse_closed()
        target = self._target
        if target is None:
            raise NotInitialised("update was called before init: call init(frame, box) first")
        frame = as_bgr(frame)
        options, spec = self.options, self.bundle.spec

        factor = options.search_factor
        if not target.found and options.lost_search_factor is not None:
            factor = options.lost_search_factor
        search, side_px = crop_square(frame, target.box, factor, spec.search_size_px)
        self._on_stage("crop")
        if target.pending_template_kv is not None:
            target.template_kv = target.pending_template_kv()
            target.pending_template_kv = None
            self._on_stage("template_wait")
        outputs = self._graphs.search.run(
            {"search": search[None], "template_kv": target.template_kv}
        )
        self._on_stage("search_graph")
        edges = decode_edges(outputs["edge_probs"][0])
        score = float(outputs["score"][0])
        if not (np.isfinite(score) and np.isfinite(edges.mean).all()):
            raise EdgeTrackerError(
                f"the network returned score {score} and edges {edges.mean}, which are not finite "
                f"numbers: check the {self.choice.precision} artefact on {self.choice.backend}, "
                "or use another precision"
            )
        box = box_from_edges(edges.mean, target.box, side_px)
        height, width = frame.shape[:2]
        box = clip_box(box, height, width, options.clip_margin_px)

        target.box = box
        self._judge(target, score)
        left, top, right, bottom = (float(std) * side_px for std in edges.std)
        result = TrackResult(box, score, target.found, (left, top, right, bottom))
        self._on_stage("decode")
        template = partial(crop_template, frame, box, options, spec.template_size_px)
        if target.online_template.observe(score, template):
            self._start_template_refresh(target)
        self._on_stage("template_refresh")
        return result

    def time_copies(self) -> CopyTimes | None:
        """For measuring: what copies to and from the device take of each `update`; None before
        the first, where there is no device to copy to, or where the backend does not tell.

        Call it between updates; it takes about as long as one, and changes nothing. Raises
        NotInitialised once closed, EdgeTrackerError if the device fails.
        """
        self._refuse_closed()
        return self._graphs.search.time_copies()

    def close(self) -> None:
        """Free the backend. Harmless when repeated."""
        if not self._closed:
            self._closed = True
            self._target = None
            self._graphs.close()

    def __enter__(self) -> EdgeTracker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise NotInitialised("this tracker was closed: make a new EdgeTracker")

    def _start_template_refresh(self, target: _Target) -> None:
        """Let the template graph run while the caller waits for the next frame."""
        inputs = _template_inputs(target.initial_template, target.online_template.current)
        outputs = self._graphs.template.start(inputs)
        target.pending_template_kv = lambda: outputs()["template_kv"]

    def _judge(self, target: _Target, score: float) -> None:
        """Lost after some frames of low score in a row, found again at the first high one."""
        target.frames_below = target.frames_below + 1 if score < self.options.lost_score else 0
        if target.frames_below >= self.options.lost_frames:
            target.found = False
        elif score >= self.options.found_score:
            target.found = True


def _template_inputs(initial: Image, online: Image) -> dict[str, Any]:
    return {"templates": np.stack([initial, online])[None]}
