"""The seam between the tracker and whatever runs its two graphs; what these take and give is in
edge_tracker/bundle/contract.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from edge_tracker.errors import BackendUnavailable

Arrays = Mapping[str, Any]


@dataclass(frozen=True)
class CopyTimes:
    """Milliseconds that a run's copies take, by the device's own clock."""

    to_device_ms: float
    from_device_ms: float


class CompiledGraph(Protocol):
    """A compiled graph that runs arrays by name.

    Arrays are NumPy arrays, but for the tensors that stay on the device (`template_kv`): those are
    opaque values, outputs of one graph and inputs of another of the same backend. Outputs belong to
    the caller.
    """

    #: As the compiled file itself says, whatever a manifest does.
    input_names: frozenset[str]
    output_names: frozenset[str]

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
    template: CompiledGraph
    search: CompiledGraph
    choice: BackendChoice

    def close(self) -> None:
        self.search.close()
        self.template.close()
