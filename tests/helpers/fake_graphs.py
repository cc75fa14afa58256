"""Graphs that say what a test tells them to, and remember what they were given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tracker.backends.graph import BackendChoice, CopyTimes, Graphs
from edge_tracker.bundle.contract import CONTRACT
from edge_tracker.bundle.manifest import Source
from edge_tracker.bundle.opening import Bundle
from edge_tracker.options import TrackerOptions
from edge_tracker.rules.presence_model import PresenceModel
from mixformerv2.geometries import NANO

#: Edges of a target that fills the middle of the search crop as the first box does: it stays.
STILL = (0.5 - 0.5 / 4.5, 0.5 - 0.5 / 4.5, 0.5 + 0.5 / 4.5, 0.5 + 0.5 / 4.5)


@dataclass
class FakeNetwork:
    """Both graphs. `events` is the order in which they ran; `template_kv` is a number that counts.

    scores: of each search in turn, the last one for ever. edges_ltrb: likewise, as fractions.
    copies: what the search graph's copies take. reserved: rows, in the order asked for.
    """

    scores: list[float] = field(default_factory=lambda: [0.9])
    edges_ltrb: list[tuple[float, ...]] = field(default_factory=lambda: [STILL])
    events: list[str] = field(default_factory=list)
    templates: list[NDArray[np.uint8]] = field(default_factory=list)
    searches: list[NDArray[np.uint8]] = field(default_factory=list)
    searched_with: list[str] = field(default_factory=list)
    closed: int = 0
    copies: CopyTimes | None = None
    reserved: list[int] = field(default_factory=list)
    most_targets: int | None = None

    def graphs(self) -> Graphs:
        choice = BackendChoice("fake", "CPU", "fp32", "f32", ("fake: chosen",))
        return Graphs(FakeTemplateGraph(self), FakeSearchGraph(self), choice)


@dataclass
class FakeRows:
    """Memory of the device: what number of encoding each row has."""

    memory: list[str]
    places: range

    def __getitem__(self, rows: slice) -> FakeRows:
        return FakeRows(self.memory, self.places[rows])

    def read(self) -> list[str]:
        return [self.memory[place] for place in self.places]

    def write(self, values: list[str]) -> None:
        for place, value in zip(self.places, values, strict=True):
            self.memory[place] = value


@dataclass
class FakeTemplateGraph:
    network: FakeNetwork
    most_targets: int | None = None
    input_names = CONTRACT["template"].input_names
    output_names = CONTRACT["template"].output_names

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.start(inputs)()

    def start(
        self, inputs: Mapping[str, Any], into: FakeRows | None = None
    ) -> Callable[[], Mapping[str, Any]]:
        self.network.events.append("start encoding")
        (templates,) = inputs["templates"]
        self.network.templates.append(templates.copy())
        number = len(self.network.templates)
        rows = self.reserve(1) if into is None else into

        def collect() -> Mapping[str, Any]:
            self.network.events.append("encoded")
            rows.write([f"kv {number}"])
            return {"template_kv": rows}

        return collect

    def reserve(self, targets: int) -> FakeRows:
        self.network.reserved.append(targets)
        return FakeRows([""] * targets, range(targets))

    def copy(self, source: FakeRows, target: FakeRows) -> None:
        target.write(source.read())

    def time_copies(self) -> CopyTimes | None:
        return None

    def close(self) -> None:
        self.network.closed += 1


@dataclass
class FakeSearchGraph:
    network: FakeNetwork
    input_names = CONTRACT["search"].input_names
    output_names = CONTRACT["search"].output_names

    @property
    def most_targets(self) -> int | None:
        return self.network.most_targets

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        network = self.network
        network.events.append("search")
        edge_probs, scores = [], []
        for crop, row in zip(inputs["search"], inputs["template_kv"].read(), strict=True):
            frame = len(network.searches)
            network.searches.append(crop.copy())
            network.searched_with.append(row)
            edges = network.edges_ltrb[min(frame, len(network.edges_ltrb) - 1)]
            edge_probs.append(np.stack([two_bins(edge, NANO.bins) for edge in edges]))
            scores.append(network.scores[min(frame, len(network.scores) - 1)])
        return {"edge_probs": np.stack(edge_probs), "score": np.array(scores, np.float32)}

    def start(self, inputs: Mapping[str, Any]) -> Callable[[], Mapping[str, Any]]:
        outputs = self.run(inputs)
        return lambda: outputs

    def time_copies(self) -> CopyTimes | None:
        return self.network.copies

    def close(self) -> None:
        self.network.closed += 1


def two_bins(edge: float, bins: int) -> NDArray[np.float32]:
    """The distribution over two neighbouring bins whose expectation is the coordinate."""
    probs = np.zeros(bins, np.float32)
    low = min(int(edge * bins), bins - 2) if np.isfinite(edge) else 0
    share = edge * bins - low
    probs[low], probs[low + 1] = 1 - share, share
    return probs


def bundle_without_files(
    options: TrackerOptions | None = None, presence: PresenceModel | None = None
) -> Bundle:
    return Bundle(
        path=Path("no-files"),
        spec=NANO,
        tracker_defaults=options or TrackerOptions(),
        artefacts=(),
        source=Source("no checkpoint", ""),
        tools={},
        files={},
        calibration=None,
        presence=presence,
        manifest={},
    )
