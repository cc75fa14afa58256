"""EdgeTracker: one target, one frame after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from edge_tracker.backends.graph import BackendChoice, CopyTimes
from edge_tracker.bundle.opening import Bundle
from edge_tracker.errors import NotInitialised
from edge_tracker.options import TrackerOptions, checked_function
from edge_tracker.rules.boxes import checked_box
from edge_tracker.rules.crop import Image
from edge_tracker.rules.frame import as_bgr
from edge_tracker.tracker.engine import Engine
from edge_tracker.tracker.result import TrackResult
from edge_tracker.tracker.target import Target

#: Parts of an `update()`, in the order in which they happen. template_wait: only in the frame after
#: the online template has changed. template_refresh: cropping a candidate and, at an interval's
#: end, starting the template graph.
STAGES = ("crop", "template_wait", "search_graph", "decode", "template_refresh")


class EdgeTracker:
    """Tracks one target with a converted MixFormerV2 network.

        with EdgeTracker("bundle") as tracker:
            tracker.init(frame, (x, y, width, height))
            result = tracker.update(next_frame)

    bundle: a folder made by `edge-tracker convert`, the value of `open_bundle`, or an Engine, which
    several trackers may share; whoever opened that closes it.
    backend, device, precision, num_threads, cache_dir, compute: as for Engine; left out where one
    is given.
    options: how to track; by default what the bundle says.
    on_stage: for measuring; called in `update` at the end of each of STAGES that happened, with its
    name.
    So many parameters because each is a choice of the user, with a default.

    Not safe for use from several threads at once; trackers on one engine are, each in its thread.
    Raises BundleError, BackendUnavailable, ValueError, TypeError.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle | Engine,
        *,
        backend: str | None = None,
        device: str | None = None,
        precision: str | None = None,
        num_threads: int | None = None,
        cache_dir: str | Path | None = None,
        compute: str | None = "auto",
        options: TrackerOptions | None = None,
        on_stage: Callable[[str], None] = lambda stage: None,
    ) -> None:
        placement = {
            "backend": backend,
            "device": device,
            "precision": precision,
            "num_threads": num_threads,
            "cache_dir": cache_dir,
        }
        given = {name: value for name, value in placement.items() if value is not None}
        checked = checked_options(options)
        self._on_stage = checked_function("on_stage", on_stage)
        self._owns_engine = not isinstance(bundle, Engine)
        if isinstance(bundle, Engine):
            if compute is not None and not (isinstance(compute, str) and compute == "auto"):
                given["compute"] = compute
            if given:
                raise ValueError(
                    f"{' and '.join(given)} cannot be chosen for one tracker of an engine: give "
                    "them to Engine"
                )
            self.engine = bundle
        else:
            self.engine = Engine(bundle, compute=compute, **given)  # type: ignore[arg-type]
        self.bundle = self.engine.bundle
        self.options = self.bundle.tracker_defaults if checked is None else checked
        self._row = self.engine.reserve(1)
        self._target: Target | None = None
        self._closed = False

    def describe(self) -> str:
        """What runs the network here, and why: the last line says what was chosen."""
        return "\n".join(self.choice.reasons)

    @property
    def choice(self) -> BackendChoice:
        """What runs the network here, and why."""
        return self.engine.choice

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
        if self._target is not None:
            self._target.collect()
            self._target.close()
        self._target = Target(self.engine, self.options, frame, box_frame_xywh, self._row)

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
        search = target.crop(frame)
        self._on_stage("crop")
        if target.collect():
            self._on_stage("template_wait")
        outputs = self.engine.search(search[None], self._row)
        self._on_stage("search_graph")
        result = target.conclude(frame, outputs["edge_probs"][0], float(outputs["score"][0]))
        self._on_stage("decode")
        if target.observe(frame, result.score):
            target.start_encoding(target.online_template.current, self._row)
        self._on_stage("template_refresh")
        return result

    def time_copies(self) -> CopyTimes | None:
        """For measuring: what copies to and from the device take of each `update`; None before
        the first, where there is no device to copy to, or where the backend does not tell.

        Call it between updates; it takes about as long as one, and changes nothing. Raises
        NotInitialised once closed, EdgeTrackerError if the device fails.
        """
        self._refuse_closed()
        return self.engine.time_copies()

    def close(self) -> None:
        """Free the backend, unless others use it. Harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        target, self._target = self._target, None
        if self._owns_engine:
            self.engine.close()
            return
        if target is not None:
            target.collect()
            target.close()
        self.engine.release(self._row, 1)

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


def checked_options(options: object) -> TrackerOptions | None:
    """Raises TypeError for what is neither options nor None."""
    if options is not None and not isinstance(options, TrackerOptions):
        raise TypeError(
            f"options is {options!r}: expected such as TrackerOptions(update_interval=10)"
        )
    return options
