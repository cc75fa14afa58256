"""The seam between the tracker and whatever runs its two graphs; what these take and give is in
edge_tracker/bundle/contract.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from edge_tracker.errors import BackendUnavailable

Arrays = Mapping[str, Any]
#: `template_kv` of several targets side by side on the device, a row each: opaque, but that a slice
#: of it is the same memory, and that the search graph takes it.
Rows: TypeAlias = Any


@dataclass(frozen=True)
class CopyTimes:
    """Milliseconds that a run's copies take, by the device's own clock."""

    to_device_ms: float
    from_device_ms: float


class CompiledGraph(Protocol):
    """A compiled graph that runs arrays by name.

    Arrays are NumPy arrays, but for the tensors that stay on the device (`template_kv`): those are
    opaque values, outputs of one graph and inputs of another of the same backend. Outputs belong to
    the caller. The first dimension of each array counts targets. One call at a time.
    """

    #: As the compiled file itself says, whatever a manifest does.
    input_names: frozenset[str]
    output_names: frozenset[str]

    @property
    def most_targets(self) -> int | None:
        """How many one run takes; None for any number."""
        ...

    def run(self, inputs: Arrays) -> Arrays: ...

    def start(self, inputs: Arrays) -> Callable[[], Arrays]:
        """Run in the background; the value returned waits for the outputs and hands them out."""
        ...

    def time_copies(self) -> CopyTimes | None:
        """Copy what the last run copied once more; its outputs stay as they are. None before the
        first run, or if the backend does not copy, or does not tell.
        """
        ...

    def close(self) -> None: ...


class TemplateGraph(CompiledGraph, Protocol):
    """The template graph, and the memory that it writes to."""

    def start(self, inputs: Arrays, into: Rows | None = None) -> Callable[[], Arrays]:
        """into: where `template_kv` is written, as many rows as targets; they are not to be read
        before the wait is over.
        """
        ...

    def reserve(self, targets: int) -> Rows:
        """Memory on the device for so many targets' `template_kv`, for as long as the graph is
        open.
        """
        ...

    def copy(self, source: Rows, target: Rows) -> None:
        """Copy as many rows on the device."""
        ...


def refuse_after_fork(process: int) -> None:
    """Raise BackendUnavailable in any process but this one (`os.getpid()` of where the backend was
    opened): a fork copies no threads, and what waits for them waits for ever.
    """
    if os.getpid() != process:
        raise BackendUnavailable(
            "this process was forked from one that had opened a tracker already, whose threads it "
            "does not have: open trackers in the child alone, or start it in another way, with "
            'multiprocessing.get_context("spawn") for one'
        )


@dataclass(frozen=True)
class BackendChoice:
    """What runs the graphs, and why: a line for each backend that was considered.

    compute: the type that floating-point arithmetic is done in, "f32", "bf16" or "f16".
    """

    backend: str
    device: str
    precision: str
    compute: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Graphs:
    template: TemplateGraph
    search: CompiledGraph
    choice: BackendChoice

    def close(self) -> None:
        self.search.close()
        self.template.close()
