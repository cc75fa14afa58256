"""What the manifest says about one artefact of a bundle that is being made."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from converters.to_onnx import OPSET, WEIGHTS
from edge_tracker.backends.choice import backend_of_format, open_graphs
from edge_tracker.bundle.contract import GRAPHS
from edge_tracker.bundle.goldens import Golden
from edge_tracker.bundle.manifest import Parity
from edge_tracker.bundle.opening import open_bundle
from edge_tracker.measure.parity import measure_parity


def replay_golden(folder: Path, entry: Mapping[str, Any], golden: Golden) -> Parity:
    """How far an artefact that the folder's manifest lists is from PyTorch."""
    with tempfile.TemporaryDirectory() as cache_dir:
        graphs = open_graphs(
            open_bundle(folder),
            backend=backend_of_format(entry["format"]),
            precision=entry["precision"],
            cache_dir=cache_dir,
        )
        try:
            return measure_parity(graphs, golden)
        finally:
            graphs.close()


def describe_artefact(folder: Path, kind: str, precision: str) -> dict[str, Any]:
    """The manifest's entry for one artefact, before its parity is known."""
    base = f"{kind}/{precision}"
    suffix = "onnx" if kind == "onnx" else "xml"
    source = precision if kind == "onnx" else "fp32"
    return {
        "format": kind,
        "precision": precision,
        "graphs": {
            name: {
                "model": f"{base}/{name}.{suffix}",
                "weights": f"{base}/{WEIGHTS}",
                **_tensors(folder / "onnx" / source / f"{name}.onnx"),
            }
            for name in GRAPHS
        },
        "opset": OPSET,
        "parity": None,
    }


def _tensors(model_path: Path) -> dict[str, list[dict[str, Any]]]:
    graph = onnx.load(model_path, load_external_data=False).graph

    def describe(value: onnx.ValueInfoProto) -> dict[str, Any]:
        tensor = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        shape = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in tensor.shape.dim]
        return {"name": value.name, "shape": shape, "dtype": dtype}

    return {
        "inputs": [describe(value) for value in graph.input],
        "outputs": [describe(value) for value in graph.output],
    }
