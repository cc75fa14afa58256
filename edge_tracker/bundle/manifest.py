"""What a bundle's manifest says: its terms, its records, and what makes one wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import Any, TypeVar

from edge_tracker.bundle.contract import GRAPHS, TENSORS
from edge_tracker.bundle.spec import ModelSpec

FORMAT = "edge_tracker.bundle"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
#: Nearest to the PyTorch checkpoint first; the runtime takes the first that a bundle has.
PRECISIONS = ("fp32", "fp16", "int8")
FORMATS = ("onnx", "openvino", "tensorrt")

Record = TypeVar("Record")


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
class Artefact:
    """The network in one file format and precision."""

    format: str
    precision: str
    graphs: Mapping[str, GraphFiles]
    parity: Parity | None
    size_bytes: int

    @property
    def name(self) -> str:
        return f"{self.format}/{self.precision}"

    def files(self) -> list[str]:
        """Relative paths of all its files, each once."""
        return files_of(self.graphs)


def files_of(graphs: Mapping[str, GraphFiles]) -> list[str]:
    paths = [path for graph in graphs.values() for path in (graph.model, graph.weights) if path]
    return list(dict.fromkeys(paths))


def check_records(manifest: Mapping[str, Any]) -> None:
    """What the commands read besides the artefacts."""
    for path, entry in manifest["files"].items():
        _inside(path)
        if not isinstance(entry["sha256"], str) or not _is_count(entry["size_bytes"]):
            raise TypeError(f"files entry {path!r} has no sha256 and size_bytes")
    for key in ("checkpoint", "sha256"):
        if not isinstance(manifest["source"][key], str):
            raise TypeError(f"source.{key} is {manifest['source'][key]!r}, expected text")
    for tool, version in manifest["tools"].items():
        if not isinstance(version, str):
            raise TypeError(f"tools.{tool} is {version!r:.40}, expected text")
    if (calibration := manifest.get("calibration")) is not None:
        counts = calibration["sources"].values()
        if not all(_is_count(number) for number in (*counts, calibration["seed"])):
            raise TypeError("calibration.footage and calibration.seed are not all whole numbers")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53


def parse_record(kind: type[Record], entry: Mapping[str, Any]) -> Record:
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := entry.keys() - names:
        raise ValueError(f"unknown {kind.__name__} fields {sorted(unknown)}")
    return kind(**entry)


def parse_artefact(entry: Mapping[str, Any], files: Mapping[str, Any]) -> Artefact:
    graphs = {
        name: GraphFiles(
            model=_inside(graph["model"]),
            weights=_inside(graph["weights"]) if graph["weights"] is not None else None,
            inputs=tuple(_tensor(tensor) for tensor in graph["inputs"]),
            outputs=tuple(_tensor(tensor) for tensor in graph["outputs"]),
        )
        for name, graph in entry["graphs"].items()
    }
    if set(graphs) != set(GRAPHS):
        raise ValueError(f"an artefact has graphs {sorted(graphs)}, expected {sorted(GRAPHS)}")
    if entry["format"] not in FORMATS or entry["precision"] not in PRECISIONS:
        raise ValueError(f"unknown artefact {entry['format']!r} in {entry['precision']!r}")
    parity = entry["parity"]
    paths = files_of(graphs)
    if unhashed := [path for path in paths if "sha256" not in files[path]]:
        raise ValueError(f"no sha256 of {unhashed}")
    return Artefact(
        format=entry["format"],
        precision=entry["precision"],
        graphs=graphs,
        parity=_parity(parity) if parity is not None else None,
        size_bytes=sum(files[path]["size_bytes"] for path in paths),
    )


def check_shapes(artefact: Artefact, spec: ModelSpec) -> None:
    """Raise ValueError unless both graphs take and give what a network of this geometry does."""
    for graph in artefact.graphs.values():
        for tensor in (*graph.inputs, *graph.outputs):
            expected = TENSORS[tensor.name].row_shape(spec)
            if tensor.shape[1:] != expected:
                raise ValueError(
                    f"{tensor.name} of {artefact.name} is {tensor.shape}, the model's geometry "
                    f"asks for (targets, *{expected})"
                )


def _parity(entry: Mapping[str, Any]) -> Parity:
    parity = parse_record(Parity, entry)
    for name, value in vars(parity).items():
        if type(value) not in (int, float) or not 0 <= value < 1e9:
            raise ValueError(f"parity.{name} is {value!r:.40}, expected a number")
    return parity


def _tensor(entry: Mapping[str, Any]) -> GraphTensor:
    shape = tuple(entry["shape"])
    if not (isinstance(entry["name"], str) and isinstance(entry["dtype"], str)):
        raise TypeError("a tensor's name and dtype are not text")
    if not all(isinstance(length, str) or _is_count(length) for length in shape):
        raise TypeError(f"a tensor's shape is {shape!r:.60}")
    return GraphTensor(entry["name"], shape, entry["dtype"])


def _inside(relative: str) -> str:
    """A manifest is data from elsewhere: its paths must stay inside the bundle."""
    path = PurePosixPath(relative)
    if "\0" in relative:
        raise ValueError(f"file path {relative!r:.60} is not one")
    if path.is_absolute() or ".." in path.parts or "\\" in relative:
        raise ValueError(f"file path {relative!r} leaves the bundle")
    return relative
