"""Opening a bundle: the folder that holds a network as converted for devices. Format:
docs/bundle_format.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from edge_tracker.bundle.spec import ModelSpec, spec_from_dict
from edge_tracker.errors import BundleError
from edge_tracker.options import TrackerOptions

FORMAT = "edge_tracker.bundle"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
GRAPHS = ("template", "search")
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


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest has been checked; its files are, when an artefact is opened."""

    path: Path
    spec: ModelSpec
    tracker_defaults: TrackerOptions
    artefacts: tuple[Artefact, ...]
    manifest: dict[str, Any]

    def find(self, kind: str, precision: str | None) -> Artefact | None:
        """The artefact of this format and precision; without one, the most exact there is."""
        wanted = PRECISIONS if precision is None else (precision,)
        for candidate in wanted:
            for artefact in self.artefacts:
                if (artefact.format, artefact.precision) == (kind, candidate):
                    return artefact
        return None

    def check_files(self, paths: list[str]) -> None:
        """Raise BundleError unless each file is there with the size and sha256 of the manifest."""
        for relative in paths:
            redo = _REDO
            if relative.startswith("tensorrt/"):
                redo = f"build the engine again: edge-tracker build {self.path} --to tensorrt"
            expected = self.manifest["files"].get(relative)
            if expected is None:
                raise BundleError(
                    f"bundle {self.path}: {relative} is not listed in its {MANIFEST}; {redo}"
                )
            file = self.path / relative
            if not file.is_file():
                raise BundleError(f"bundle {self.path}: {relative} is missing; {redo}")
            size = file.stat().st_size
            if size != expected["size_bytes"]:
                raise BundleError(
                    f"bundle {self.path}: {relative} has {size} bytes, expected "
                    f"{expected['size_bytes']}; it is truncated or was altered; {redo}"
                )
            if sha256_of(file) != expected["sha256"]:
                raise BundleError(
                    f"bundle {self.path}: {relative} was altered: its sha256 is not that of the "
                    f"{MANIFEST}; {redo}"
                )


_REDO = "copy the bundle again, or convert the checkpoint anew"


def open_bundle(path: str | Path) -> Bundle:
    """Read and check a bundle's manifest.

    Raises BundleError if the folder or manifest is missing, not JSON, of another format version, or
    does not describe a network; the message says which and what to do.
    """
    path = Path(path)
    if not path.is_dir():
        raise BundleError(
            f"bundle {path}: no such folder; "
            f"make one with: edge-tracker convert CHECKPOINT -o {path}"
        )
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(f"{path} is no bundle: it has no {MANIFEST}") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BundleError(
            f"bundle {path}: {MANIFEST} is not readable JSON ({error}); {_REDO}"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f'bundle {path}: {MANIFEST} does not say "format": "{FORMAT}"; {_REDO}')
    if manifest.get("format_version") != FORMAT_VERSION:
        raise BundleError(
            f"bundle {path} has format version {manifest.get('format_version')!r}, this package "
            f"reads {FORMAT_VERSION}: convert the checkpoint anew, or install the package that "
            "wrote it"
        )
    try:
        bundle = Bundle(
            path=path,
            spec=spec_from_dict(manifest["model"]),
            tracker_defaults=_record(TrackerOptions, manifest["tracker"]),
            artefacts=tuple(_artefact(entry, manifest["files"]) for entry in manifest["artefacts"]),
            manifest=manifest,
        )
        for artefact in bundle.artefacts:
            _check_shapes(artefact, bundle.spec)
        _check_records(manifest)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise BundleError(
            f"bundle {path}: {MANIFEST} is incomplete or wrong "
            f"({type(error).__name__}: {error}); {_REDO}"
        ) from error
    return bundle


def _check_records(manifest: Mapping[str, Any]) -> None:
    """What the commands read besides the artefacts."""
    for path, entry in manifest["files"].items():
        _inside(path)
        if not (isinstance(entry["sha256"], str) and isinstance(entry["size_bytes"], int)):
            raise TypeError(f"files entry {path!r} has no sha256 and size_bytes")
    for key in ("checkpoint", "sha256"):
        if not isinstance(manifest["source"][key], str):
            raise TypeError(f"source.{key} is {manifest['source'][key]!r}, expected text")
    manifest["tools"].items()
    if (calibration := manifest.get("calibration")) is not None:
        counts = calibration["sources"].values()
        if not all(isinstance(number, int) for number in (*counts, calibration["seed"])):
            raise TypeError("calibration.footage and calibration.seed are not all whole numbers")


def sha256_of(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _record(kind: type[Record], entry: Mapping[str, Any]) -> Record:
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := entry.keys() - names:
        raise ValueError(f"unknown {kind.__name__} fields {sorted(unknown)}")
    return kind(**entry)


def _artefact(entry: Mapping[str, Any], files: Mapping[str, Any]) -> Artefact:
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
        parity=_record(Parity, parity) if parity is not None else None,
        size_bytes=sum(files[path]["size_bytes"] for path in paths),
    )


def _check_shapes(artefact: Artefact, spec: ModelSpec) -> None:
    """Raise ValueError unless both graphs take and give what a network of this geometry does."""
    template_px, search_px = spec.template_size_px, spec.search_size_px
    expected = {
        "templates": (2, template_px, template_px, 3),
        "template_kv": spec.template_kv_shape()[1:],
        "search": (search_px, search_px, 3),
        "edge_probs": (4, spec.bins),
        "score": (),
    }
    for graph in artefact.graphs.values():
        for tensor in (*graph.inputs, *graph.outputs):
            if tensor.shape[1:] != expected[tensor.name]:
                raise ValueError(
                    f"{tensor.name} of {artefact.name} is {tensor.shape}, the model's geometry "
                    f"asks for (targets, *{expected[tensor.name]})"
                )


def _tensor(entry: Mapping[str, Any]) -> GraphTensor:
    return GraphTensor(entry["name"], tuple(entry["shape"]), entry["dtype"])


def _inside(relative: str) -> str:
    """A manifest is data from elsewhere: its paths must stay inside the bundle."""
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts or "\\" in relative:
        raise ValueError(f"file path {relative!r} leaves the bundle")
    return relative
