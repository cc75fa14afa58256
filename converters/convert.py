"""A checkpoint in, a bundle out."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnx
import torch

from converters.bundle_folder import replacing_folder, write_manifest
from converters.golden import make_golden
from converters.to_onnx import OPSET, WEIGHTS, export_onnx
from converters.to_openvino import convert_to_openvino
from edge_tracker.backend import open_graphs
from edge_tracker.bundle import FORMAT, FORMAT_VERSION, Bundle, Parity, open_bundle, sha256_of
from edge_tracker.errors import EdgeTrackerError
from edge_tracker.golden import GOLDEN, LIMITS, Golden, measure_parity
from edge_tracker.normalise import MEAN_RGB, STD_RGB
from edge_tracker.options import TrackerOptions
from mixformerv2.checkpoint import load_network

TARGETS = ("onnx", "openvino")
PRECISIONS = ("fp32", "fp16")
TOOLS = ("edge-tracker", "torch", "onnx", "onnxsim", "onnxruntime", "openvino", "numpy")

#: Called before each step with its text, its number from 0, and how many there are.
OnStep = Callable[[str, int, int], None]


def convert_checkpoint(
    checkpoint: str | Path,
    output: str | Path,
    *,
    targets: Sequence[str] = TARGETS,
    precisions: Sequence[str] = ("fp32", "fp16"),
    tracker: TrackerOptions | None = None,
    on_step: OnStep | None = None,
) -> Bundle:
    """Convert a MixFormerV2 checkpoint into the bundle folder `output`, replacing an old bundle
    there.

    The ONNX pair is always made, in fp32, and again where "fp16" is asked for; "openvino" adds an
    IR for each precision, made from the ONNX pair in fp32. Every artefact
    is run against PyTorch's full forward on golden inputs; the largest errors go into the manifest.
    `tracker` are the defaults that the bundle carries.

    Raises CheckpointError for a bad checkpoint, ValueError for unknown targets or precisions or an
    output that is no bundle, EdgeTrackerError for an artefact that strays too far from PyTorch,
    OSError if writing fails. Whatever fails, `output` is as it was.
    """
    checkpoint, output = Path(checkpoint), Path(output)
    _check_choice("target", targets, TARGETS)
    _check_choice("precision", precisions, PRECISIONS)
    tracker = tracker or TrackerOptions()
    artefacts = [("onnx", "fp32")]
    if "fp16" in precisions:
        artefacts.append(("onnx", "fp16"))
    if "openvino" in targets:
        artefacts += [("openvino", precision) for precision in dict.fromkeys(precisions)]
    steps = ["Reading the checkpoint", "Exporting ONNX", "Computing golden outputs"]
    steps += [f"Converting to {kind} {precision}" for kind, precision in artefacts[1:]]
    steps += [f"Measuring {kind} {precision} against PyTorch" for kind, precision in artefacts]
    pending = iter(enumerate(steps))

    def step() -> None:
        index, text = next(pending)
        if on_step is not None:
            on_step(text, index, len(steps))

    with replacing_folder(output) as folder:
        step()
        network = load_network(checkpoint)
        source = {"checkpoint": checkpoint.name, "sha256": sha256_of(checkpoint)}
        metadata = {"source_sha256": source["sha256"], **_as_text(asdict(network.spec))}
        step()
        export_onnx(network, folder / "onnx" / "fp32", metadata)
        step()
        golden = make_golden(network, tracker)
        golden.save(folder / GOLDEN)
        for kind, precision in artefacts[1:]:
            step()
            if kind == "onnx":
                export_onnx(network, folder / "onnx" / precision, metadata, torch.float16)
                continue
            convert_to_openvino(
                folder / "onnx" / "fp32", folder / "openvino" / precision, precision, metadata
            )
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "model": asdict(network.spec),
            "preprocessing": {
                "input": "uint8 BGR, height x width x channel; all of this is inside the graphs",
                "mean_rgb": MEAN_RGB,
                "std_rgb": STD_RGB,
            },
            "tracker": asdict(tracker),
            "artefacts": [_describe(folder, kind, precision) for kind, precision in artefacts],
            "source": source,
            "tools": _tool_versions(),
        }
        write_manifest(folder, manifest)
        for entry in manifest["artefacts"]:
            step()
            entry["parity"] = asdict(_parity(folder, entry, golden))
        write_manifest(folder, manifest)
    return open_bundle(output)


def _check_choice(kind: str, chosen: Sequence[str], known: Sequence[str]) -> None:
    if unknown := [name for name in chosen if name not in known]:
        raise ValueError(f"unknown {kind} {', '.join(unknown)}: choose from {', '.join(known)}")
    if not chosen:
        raise ValueError(f"no {kind} given: choose from {', '.join(known)}")


def _parity(folder: Path, entry: Mapping[str, Any], golden: Golden) -> Parity:
    kind, precision = entry["format"], entry["precision"]
    backend = "onnxruntime" if kind == "onnx" else kind
    with tempfile.TemporaryDirectory() as cache_dir:
        graphs = open_graphs(
            open_bundle(folder), backend=backend, precision=precision, cache_dir=cache_dir
        )
        try:
            parity = measure_parity(graphs, golden)
        finally:
            graphs.close()
    limit = LIMITS[precision].box_px
    if not parity.box_px <= limit:
        raise EdgeTrackerError(
            f"{kind} {precision} strays {parity.box_px:.3g} px from PyTorch in the search crop, "
            f"more than the {limit} px allowed: weights may overflow in this precision; "
            "leave it out with --precision"
        )
    return parity


def _describe(folder: Path, kind: str, precision: str) -> dict[str, Any]:
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
            for name in ("template", "search")
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


def _tool_versions() -> dict[str, str]:
    versions = {}
    for tool in TOOLS:
        try:
            versions[tool] = re.sub(r"\+.*", "", version(tool))
        except PackageNotFoundError:
            continue
    return versions


def _as_text(values: Mapping[str, object]) -> dict[str, str]:
    return {key: str(value) for key, value in values.items()}
