"""A bundle's graphs, compiled once for all the trackers that share them."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np

from edge_tracker.backends.choice import open_graphs
from edge_tracker.backends.graph import Arrays, BackendChoice, CopyTimes, Rows
from edge_tracker.bundle.opening import Bundle, open_bundle
from edge_tracker.errors import NotInitialised
from edge_tracker.rules.crop import Image


class Engine:
    """Both graphs of a bundle, compiled; any number of trackers run on it.

        with Engine("bundle") as engine:
            first, second = EdgeTracker(engine), EdgeTracker(engine)

    bundle: a folder made by `edge-tracker convert`, or the value of `open_bundle`.
    backend: "auto" (the fastest that can run here), "tensorrt", "openvino" or "onnxruntime".
    device: the backend's name of a device, by default "CPU", for TensorRT "0".
    precision: "fp32", "fp16" or "int8"; by default the most exact that the bundle has.
    num_threads: CPU threads, all cores by default.
    cache_dir: where OpenVINO's compiled models are kept, the user's cache folder by default.
    compute: the type of floating-point arithmetic: "f32", "f16" or "bf16" where the backend has it
    here, or "auto", the fastest with which the bundle's golden cases stay within limits, found at
    the first start and remembered in `cache_dir`, at each start where that keeps nothing. None:
    what the artefact is made for, float32 on a CPU.
    So many parameters because each is a choice of the user, with a default.

    Trackers may use it from several threads: their runs take turns, so each gets what it would get
    alone. Raises BundleError, BackendUnavailable, ValueError, TypeError.
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
        compute: str | None = "auto",
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        self._graphs = open_graphs(
            self.bundle,
            backend=backend,
            device=device,
            precision=precision,
            num_threads=num_threads,
            cache_dir=cache_dir,
            compute=compute,
        )
        self._turn = threading.Lock()
        self._released: dict[int, list[Rows]] = defaultdict(list)
        self._closed = False

    @property
    def choice(self) -> BackendChoice:
        """What runs the network here, and why."""
        return self._graphs.choice

    @property
    def most_targets(self) -> int | None:
        """How many targets one run of the search graph takes; None for any number."""
        return self._graphs.search.most_targets

    def encode(self, initial: Image, online: Image, row: Rows) -> Callable[[], None]:
        """Start the template graph on one target's templates; the value returned waits for it.

        Both (template_size_px, template_size_px, 3) uint8 BGR. row: one row, where their keys and
        values go; not to be used before the wait is over. Raises NotInitialised once closed.
        """
        with self._turn:
            self._refuse_closed()
            inputs = {"templates": np.stack([initial, online])[None]}
            outputs = self._graphs.template.start(inputs, into=row)

        def wait() -> None:
            with self._turn:
                if not self._closed:
                    outputs()

        return wait

    def search(self, crops: Image, rows: Rows) -> Arrays:
        """Run the search graph on (targets, search_size_px, search_size_px, 3) uint8 BGR crops, as
        many as `rows` and at most `most_targets`: "edge_probs", (targets, 4, bins) float32, and
        "score", (targets,) float32. Raises NotInitialised once closed.
        """
        with self._turn:
            self._refuse_closed()
            return self._graphs.search.run({"search": crops, "template_kv": rows})

    def reserve(self, targets: int) -> Rows:
        """Memory on the device for the keys and values of so many targets, until `release`."""
        with self._turn:
            self._refuse_closed()
            if self._released[targets]:
                return self._released[targets].pop()
            return self._graphs.template.reserve(targets)

    def release(self, rows: Rows, targets: int) -> None:
        """Give back what `reserve(targets)` gave, to be used again."""
        with self._turn:
            self._released[targets].append(rows)

    def copy(self, source: Rows, target: Rows) -> None:
        """Copy keys and values, row by row."""
        with self._turn:
            self._refuse_closed()
            self._graphs.template.copy(source, target)

    def time_copies(self) -> CopyTimes | None:
        """As `EdgeTracker.time_copies`."""
        with self._turn:
            self._refuse_closed()
            return self._graphs.search.time_copies()

    def close(self) -> None:
        """Free the backend; trackers on it cannot go on. Harmless when repeated."""
        with self._turn:
            if not self._closed:
                self._closed = True
                self._released.clear()
                self._graphs.close()

    def __enter__(self) -> Engine:
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
            raise NotInitialised("this engine was closed: open another Engine")
