"""A bundle's manifest, typed: what it says, read strictly, and written.

Nothing else knows its JSON. What is wrong in it is named by its path, such as
artefacts[2].graphs.search.model.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import PurePosixPath
from typing import Any

from edge_tracker.bundle.contract import GRAPHS, TENSORS
from edge_tracker.bundle.spec import ModelSpec, spec_from_dict, spec_to_dict
from edge_tracker.options import TrackerOptions
from edge_tracker.rules.presence_model import FEATURES, PresenceModel

FORMAT = "edge_tracker.bundle"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
#: Nearest to the PyTorch checkpoint first; the runtime takes the first that a bundle has.
PRECISIONS = ("fp32", "fp16", "int8")
FORMATS = ("onnx", "openvino", "tensorrt")
#: JSON as it is read and written.
Content = dict[str, Any]


@dataclass(frozen=True)
class GraphTensor:
    name: str
    shape: tuple[int | str, ...]
    dtype: str


@dataclass(frozen=True)
class GraphFiles:
    """One graph of an artefact; paths are relative to the bundle."""

    model: str
    weights: str | None
    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]


@dataclass(frozen=True)
class Parity:
    """Largest differences from PyTorch's full forward over the golden inputs, when it was
    converted.

    box_px: of an edge, in pixels of the search crop. score: of the probability. edge_kl:
    Kullback-Leibler divergence of an edge's distribution, in nats.
    """

    box_px: float
    score: float
    edge_kl: float


@dataclass(frozen=True)
class Int8Accuracy:
    """int8 against fp32 of the same format.

    auc, ao: means over the sequences, of one pass each; None where the sequences are videos without
    ground truth. trajectory_iou_mean: overlap of the two
    trajectories, mean over the sequences; trajectory_iou_worst: of the sequence where it is least.
    box_px, score, edge_kl: mean and largest difference on the same crops: of an edge in pixels of
    the search crop, of the score, Kullback-Leibler divergence of an edge's distribution in nats.
    latency_ratio: time of fp32's search graph over int8's, in turns on this machine. kept_fp:
    layers that were to stay in floating point.
    """

    sequences: tuple[str, ...]
    backend: str
    auc_fp32: float | None
    auc_int8: float | None
    ao_fp32: float | None
    ao_int8: float | None
    trajectory_iou_mean: float
    trajectory_iou_worst: float
    box_px_mean: float
    box_px_max: float
    score_mean: float
    score_max: float
    edge_kl_mean: float
    edge_kl_max: float
    latency_ratio: float
    kept_fp: tuple[str, ...] = ()

    @property
    def auc_drop(self) -> float | None:
        """How much the success AUC falls; negative where int8 happens to do better."""
        if self.auc_fp32 is None or self.auc_int8 is None:
            return None
        return self.auc_fp32 - self.auc_int8


@dataclass(frozen=True)
class Artefact:
    """The network in one file format and precision. size_bytes: on a disk, weights that both graphs
    have counted once. opset: of ONNX files, or of those that it was
    made from; None of engines. accuracy: of int8 alone.
    """

    format: str
    precision: str
    graphs: Mapping[str, GraphFiles]
    parity: Parity | None
    size_bytes: int
    opset: int | None = None
    accuracy: Int8Accuracy | None = None

    @property
    def name(self) -> str:
        return f"{self.format}/{self.precision}"

    def files(self) -> list[str]:
        """Relative paths of all its files, each once."""
        return files_of(self.graphs)


def files_of(graphs: Mapping[str, GraphFiles]) -> list[str]:
    paths = [path for graph in graphs.values() for path in (graph.model, graph.weights) if path]
    return list(dict.fromkeys(paths))


@dataclass(frozen=True)
class FileFacts:
    sha256: str
    size_bytes: int


def stored_bytes(files: Iterable[FileFacts]) -> int:
    """What files take on a disk: those of the same content are links to one another, and count
    once.
    """
    return sum({facts.sha256: facts.size_bytes for facts in files}.values())


@dataclass(frozen=True)
class Source:
    """The checkpoint: its file's name, and its hash."""

    checkpoint: str
    sha256: str


@dataclass(frozen=True)
class Calibration:
    """What int8 was calibrated on: how many samples of each sequence, video and image."""

    seed: int
    sources: Mapping[str, int]


@dataclass(frozen=True)
class Manifest:
    spec: ModelSpec
    tracker: TrackerOptions
    artefacts: tuple[Artefact, ...]
    source: Source
    tools: Mapping[str, str]
    files: Mapping[str, FileFacts]
    calibration: Calibration | None = None
    presence: PresenceModel | None = None


# Reading.


def parse_manifest(content: object) -> Manifest:
    """What the JSON of this format version says. Raises ValueError that names what is wrong."""
    root = _Place(content, "")
    listed = root["files"]
    files = {
        _inside(place, name): FileFacts(place["sha256"].text(), place["size_bytes"].count())
        for name, place in listed.entries()
    }
    source = root["source"]
    calibration, presence = root.maybe("calibration"), root.maybe("presence")
    manifest = Manifest(
        spec=_spec(root["model"]),
        tracker=_tracker(root["tracker"]),
        artefacts=tuple(_artefact(place, listed, files) for place in root["artefacts"].rows()),
        source=Source(source["checkpoint"].text(), source["sha256"].text()),
        tools={name: place.text() for name, place in root["tools"].entries()},
        files=files,
        calibration=_calibration(calibration) if calibration is not None else None,
        presence=_presence(presence) if presence is not None else None,
    )
    for index, artefact in enumerate(manifest.artefacts):
        _check_shapes(f"artefacts[{index}]", artefact, manifest.spec)
    return manifest


class _Place:
    """A value in the JSON, and the path that leads to it."""

    def __init__(self, value: object, path: str) -> None:
        self.value, self.path = value, path

    def wrong(self, expected: str) -> ValueError:
        return ValueError(f"{self.path or MANIFEST} is {self.value!r:.60}, expected {expected}")

    def __getitem__(self, name: str) -> _Place:
        found = self.maybe(name)
        if found is None:
            raise ValueError(f"{self._below(name)} is missing")
        return found

    def maybe(self, name: str) -> _Place | None:
        """None where it is missing or null."""
        value = self._mapping().get(name)
        return None if value is None else _Place(value, self._below(name))

    def entries(self) -> Iterator[tuple[str, _Place]]:
        for name, value in self._mapping().items():
            yield name, _Place(value, self._below(name))

    def rows(self) -> list[_Place]:
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        return [_Place(value, f"{self.path}[{i}]") for i, value in enumerate(self.value)]

    def only(self, names: Collection[str]) -> None:
        """Raise for entries of other names."""
        for name in self._mapping():
            if name not in names:
                raise ValueError(f"{self._below(name)} is unknown: expected {', '.join(names)}")

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.wrong("text")
        return self.value

    def one_of(self, choices: Sequence[str]) -> str:
        if self.text() not in choices:
            raise self.wrong(" or ".join(choices))
        return self.text()

    def count(self) -> int:
        if type(self.value) is not int or not 0 <= self.value < 2**53:
            raise self.wrong("a whole number from 0")
        return self.value

    def number(self, least: float = -math.inf, below: float = math.inf) -> float:
        value = self.value
        # A whole number may be too large for a float.
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and least <= value < below
            and abs(value) <= sys.float_info.max
        ):
            return value
        raise self.wrong("a number" if least == -math.inf else f"a number from {least:g}")

    def _mapping(self) -> Mapping[str, Any]:
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return self.value

    def _below(self, name: str) -> str:
        if not name.isidentifier():
            return f"{self.path}[{name!r:.80}]"
        return f"{self.path}.{name}" if self.path else name


def _spec(place: _Place) -> ModelSpec:
    place.only([field.name for field in fields(ModelSpec)])
    for field in fields(ModelSpec):
        if field.default is MISSING:
            place[field.name]
    stem = place.maybe("stem")
    if stem is not None:
        for name in ("channels", "fine"):
            stem[name]
        stem["stages"].rows()
    try:
        return spec_from_dict(place.value)  # type: ignore[arg-type]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{place.path} is not a network's geometry ({error})") from error


def _tracker(place: _Place) -> TrackerOptions:
    place.only([field.name for field in fields(TrackerOptions)])
    texts = [field.name for field in fields(TrackerOptions) if field.type == "str"]
    given = {name: _option(value, is_text=name in texts) for name, value in place.entries()}
    try:
        return TrackerOptions(**given)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{place.path}: {error}") from error


def _option(place: _Place, *, is_text: bool) -> float | str | None:
    if place.value is None:
        return None
    return place.text() if is_text else place.number()


def _artefact(place: _Place, listed: _Place, files: Mapping[str, FileFacts]) -> Artefact:
    kind = place["format"].one_of(FORMATS)
    precision = place["precision"].one_of(PRECISIONS)
    graphs = {name: _graph(graph) for name, graph in place["graphs"].entries()}
    if set(graphs) != set(GRAPHS):
        raise ValueError(
            f"{place.path} has graphs {', '.join(sorted(graphs))}, expected {', '.join(GRAPHS)}"
        )
    for path in files_of(graphs):
        if path not in files:
            raise ValueError(f"{place.path} names {path}, which {listed.path} does not list")
    parity, opset, accuracy = (place.maybe(name) for name in ("parity", "opset", "accuracy"))
    return Artefact(
        format=kind,
        precision=precision,
        graphs=graphs,
        parity=_parity(parity) if parity is not None else None,
        size_bytes=stored_bytes(files[path] for path in files_of(graphs)),
        opset=opset.count() if opset is not None else None,
        accuracy=_accuracy(accuracy) if accuracy is not None else None,
    )


def _graph(place: _Place) -> GraphFiles:
    weights = place.maybe("weights")
    return GraphFiles(
        model=_inside(place["model"]),
        weights=_inside(weights) if weights is not None else None,
        inputs=tuple(_tensor(tensor) for tensor in place["inputs"].rows()),
        outputs=tuple(_tensor(tensor) for tensor in place["outputs"].rows()),
    )


def _tensor(place: _Place) -> GraphTensor:
    shape = tuple(
        length.text() if isinstance(length.value, str) else length.count()
        for length in place["shape"].rows()
    )
    name = place["name"].one_of(tuple(TENSORS))
    return GraphTensor(name, shape, place["dtype"].text())


def _parity(place: _Place) -> Parity:
    names = [field.name for field in fields(Parity)]
    place.only(names)
    return Parity(*(place[name].number(0, 1e9) for name in names))


def _accuracy(place: _Place) -> Int8Accuracy:
    numbers = {
        field.name: place[field.name].number()
        for field in fields(Int8Accuracy)
        if field.type == "float"
    }
    # All four or none.
    names = [field.name for field in fields(Int8Accuracy) if field.type == "float | None"]
    was_annotated = any(place.maybe(name) for name in names)
    annotated = {name: place[name].number() if was_annotated else None for name in names}
    return Int8Accuracy(
        sequences=tuple(name.text() for name in place["sequences"].rows()),
        backend=place["backend"].text(),
        kept_fp=tuple(name.text() for name in place["kept_fp"].rows()),
        **{**numbers, **annotated},  # type: ignore[arg-type]
    )


def _calibration(place: _Place) -> Calibration:
    counts = {name: count.count() for name, count in place["sources"].entries()}
    return Calibration(place["seed"].count(), counts)


def parse_presence(content: object) -> PresenceModel:
    """What `presence_content` gives. Raises ValueError that names what is wrong."""
    return _presence(_Place(content, "presence"))


def _presence(place: _Place) -> PresenceModel:
    weights = place["weights"]
    weights.only(FEATURES)
    try:
        return PresenceModel(
            intercept=place["intercept"].number(),
            weights=tuple(weights[name].number() for name in FEATURES),
            found_presence=place["found_presence"].number(),
            false_alarms=place["false_alarms"].number(),
            regained_presence=place["regained_presence"].number(),
        )
    except ValueError as error:
        raise ValueError(f"{place.path}: {error}") from error


def _check_shapes(path: str, artefact: Artefact, spec: ModelSpec) -> None:
    """Raise ValueError unless both graphs take and give what a network of this geometry does."""
    for name, graph in artefact.graphs.items():
        for tensor in (*graph.inputs, *graph.outputs):
            expected = TENSORS[tensor.name].row_shape(spec)
            if tensor.shape[1:] != expected:
                raise ValueError(
                    f"{path}.graphs.{name}: {tensor.name} of {artefact.name} is {tensor.shape}, "
                    f"the model's geometry asks for (targets, *{expected})"
                )


def _inside(place: _Place, path: str | None = None) -> str:
    """A manifest is data from elsewhere: its paths must stay inside the bundle."""
    relative = place.text() if path is None else path
    parts = PurePosixPath(relative)
    if "\0" in relative:
        raise ValueError(f"{place.path}: {relative!r:.60} is not a file's path")
    if parts.is_absolute() or ".." in parts.parts or "\\" in relative:
        raise ValueError(f"{place.path}: {relative!r} leaves the bundle")
    return relative


# Writing.


def manifest_content(
    spec: ModelSpec,
    tracker: TrackerOptions,
    source: Source,
    tools: Mapping[str, str],
    artefacts: Sequence[Artefact],
    calibration: Mapping[str, Any] | None = None,
    presence: PresenceModel | None = None,
) -> Content:
    """The JSON of a new bundle, but for its files. calibration: what its samples say of
    themselves. So many parameters because each is a part of the manifest.
    """
    # Here, as it brings NumPy, which opening a bundle does without.
    from edge_tracker.rules.normalise import MEAN_RGB, STD_RGB

    content: Content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": spec_to_dict(spec),
        "preprocessing": {
            "input": "uint8 BGR, height x width x channel; all of this is inside the graphs",
            "mean_rgb": MEAN_RGB,
            "std_rgb": STD_RGB,
        },
        "tracker": asdict(tracker),
        "artefacts": [artefact_entry(artefact) for artefact in artefacts],
        "source": asdict(source),
        "tools": dict(tools),
    }
    if calibration is not None:
        content["calibration"] = dict(calibration)
    if presence is not None:
        content["presence"] = presence_content(presence)
    return content


def presence_content(presence: PresenceModel) -> Content:
    return {**asdict(presence), "weights": dict(zip(FEATURES, presence.weights, strict=True))}


def artefact_entry(artefact: Artefact) -> Content:
    entry: Content = {
        "format": artefact.format,
        "precision": artefact.precision,
        "graphs": {name: asdict(graph) for name, graph in artefact.graphs.items()},
    }
    if artefact.opset is not None:
        entry["opset"] = artefact.opset
    entry["parity"] = asdict(artefact.parity) if artefact.parity is not None else None
    if artefact.accuracy is not None:
        entry["accuracy"] = asdict(artefact.accuracy)
    return entry


def with_files(content: Content, files: Mapping[str, Content]) -> Content:
    """The same, of these files: path -> sha256 and size_bytes."""
    return {**content, "files": dict(files)}


def with_artefact(content: Content, entry: Content, files: Mapping[str, Content]) -> Content:
    """The same with an artefact's entry and files added."""
    return {
        **content,
        "files": dict(sorted({**content["files"], **files}.items())),
        "artefacts": [*content["artefacts"], entry],
    }


def without_folders(content: Content, folders: Sequence[str]) -> Content:
    """The same without the files in these folders, and the artefacts that are there."""
    gone = tuple(f"{folder}/" for folder in folders)
    return {
        **content,
        "files": {
            path: facts for path, facts in content["files"].items() if not path.startswith(gone)
        },
        "artefacts": [
            artefact
            for artefact in content["artefacts"]
            if not artefact["graphs"]["search"]["model"].startswith(gone)
        ],
    }


def listed_files(content: object) -> dict[str, Content] | None:
    """path -> sha256 and size_bytes, of what is at least a manifest of ours; None of all else."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return None
    files = content.get("files")
    if not isinstance(files, dict) or not all(isinstance(facts, dict) for facts in files.values()):
        return None
    return files
