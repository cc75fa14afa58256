"""A bundle in the making: its folder, what its manifest is to say, and its artefacts measured."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx

from converters.to_onnx import OPSET, WEIGHTS
from edge_tracker.backends.choice import backend_of, open_graphs
from edge_tracker.backends.parity import measure_parity
from edge_tracker.bundle.contract import GRAPHS
from edge_tracker.bundle.goldens import Golden
from edge_tracker.bundle.manifest import (
    Artefact,
    GraphFiles,
    GraphTensor,
    Parity,
    Source,
    manifest_content,
)
from edge_tracker.bundle.opening import open_bundle
from edge_tracker.bundle.spec import ModelSpec
from edge_tracker.bundle.writing import write_manifest
from edge_tracker.options import TrackerOptions
from edge_tracker.rules.presence_model import PresenceModel


@dataclass
class Draft:
    """calibration: what the samples of int8 say of themselves, once an int8 artefact is in."""

    folder: Path
    spec: ModelSpec
    tracker: TrackerOptions
    source: Source
    tools: Mapping[str, str]
    artefacts: list[Artefact] = field(default_factory=list)
    calibration: Mapping[str, Any] | None = None
    presence: PresenceModel | None = None

    def write(self) -> None:
        """The manifest, of all that is in the folder."""
        content = manifest_content(
            self.spec,
            self.tracker,
            self.source,
            self.tools,
            self.artefacts,
            self.calibration,
            self.presence,
        )
        write_manifest(self.folder, content)

    def change(self, artefact: Artefact, **said: Any) -> Artefact:
        """Have the artefact say something else."""
        changed = replace(artefact, **said)
        self.artefacts[self.artefacts.index(artefact)] = changed
        return changed

    def measure(self, artefact: Artefact, golden: Golden) -> Parity:
        """How far an artefact that the written manifest lists is from PyTorch."""
        with tempfile.TemporaryDirectory() as cache_dir:
            graphs = open_graphs(
                open_bundle(self.folder),
                backend=backend_of(artefact),
                precision=artefact.precision,
                cache_dir=cache_dir,
            )
            try:
                return measure_parity(graphs, golden)
            finally:
                graphs.close()


def describe_artefact(folder: Path, kind: str, precision: str, opset: int = OPSET) -> Artefact:
    """What the folder holds in this format and precision, before its parity and size are known."""
    base = f"{kind}/{precision}"
    source = folder / "onnx" / (precision if kind == "onnx" else "fp32")
    graphs = {
        name: GraphFiles(*_file_names(kind, base, name), *_tensors(source / f"{name}.onnx"))
        for name in GRAPHS
    }
    return Artefact(kind, precision, graphs, parity=None, size_bytes=0, opset=opset)


def _file_names(kind: str, base: str, graph: str) -> tuple[str, str]:
    """Of the model and of its weights."""
    if kind == "onnx":
        return f"{base}/{graph}.onnx", f"{base}/{WEIGHTS}"
    return f"{base}/{graph}.xml", f"{base}/{graph}.bin"


def _tensors(model_path: Path) -> tuple[tuple[GraphTensor, ...], tuple[GraphTensor, ...]]:
    """Inputs and outputs."""
    graph = onnx.load(model_path, load_external_data=False).graph

    def describe(value: onnx.ValueInfoProto) -> GraphTensor:
        tensor = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        shape = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in tensor.shape.dim]
        return GraphTensor(value.name, tuple(shape), dtype)

    return tuple(map(describe, graph.input)), tuple(map(describe, graph.output))
