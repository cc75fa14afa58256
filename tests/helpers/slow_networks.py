"""Networks that take time, by a clock that only sleeps move: what is measured is exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_tracker.backends.graph import Graphs
from tests.helpers.fake_graphs import FakeNetwork, FakeRows, FakeSearchGraph, FakeTemplateGraph


class FakeClock:
    """Stands still but for sleeps."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class SlowNetwork(FakeNetwork):
    """Takes milliseconds of a fake clock: each search, and each wait for a refreshed template."""

    clock: FakeClock = field(default_factory=FakeClock)
    search_ms: Callable[[int], float] = lambda frame: 10.0
    wait_ms: float = 3.0

    def graphs(self) -> Graphs:
        choice = super().graphs().choice
        return Graphs(SlowTemplateGraph(self), SlowSearchGraph(self), choice)


class SlowTemplateGraph(FakeTemplateGraph):
    network: SlowNetwork

    def start(
        self, inputs: Mapping[str, Any], into: FakeRows | None = None
    ) -> Callable[[], Mapping[str, Any]]:
        collect = super().start(inputs, into)

        def collect_slowly() -> Mapping[str, Any]:
            self.network.clock.sleep(self.network.wait_ms / 1e3)
            return collect()

        return collect_slowly


class SlowSearchGraph(FakeSearchGraph):
    network: SlowNetwork

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        frame = len(self.network.searches)
        self.network.clock.sleep(self.network.search_ms(frame) / 1e3)
        return super().run(inputs)
