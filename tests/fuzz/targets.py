"""What is fuzzed: readers of what comes from outside, and seeds that the project itself writes.

Of any bytes a reader makes a value or raises `EdgeTrackerError`; another exception is a fault.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import safetensors.torch
import torch
from torch import nn

from calibration.footage import find_sources
from calibration.samples import CalibrationSamples, load_samples
from converters.convert import convert_checkpoint
from distillation.data.cutouts import read_cutouts
from distillation.data.sequences import read_sequences
from distillation.recipes.named import named_recipe, read_recipe, recipe_names
from distillation.recipes.recipe import RecipeError, recipe_to_dict
from distillation.training.curves import read_log
from distillation.training.run_folder import load_run, truncate_log
from edge_tracker.backends.choice import open_graphs
from edge_tracker.backends.tensorrt.fingerprint import EngineFingerprint, read_fingerprint
from edge_tracker.bundle.goldens import GOLDEN, Golden, load_golden
from edge_tracker.bundle.opening import Bundle, open_bundle
from edge_tracker.bundle.spec import ModelSpec
from edge_tracker.cli.printing import print_artefacts, print_int8_accuracy
from edge_tracker.errors import CheckpointError
from edge_tracker.measure.evaluation.ground_truth import read_sequence
from edge_tracker.measure.evaluation.layouts import SequenceFolder
from edge_tracker.measure.evaluation.result_files import claim_folder, read_results
from edge_tracker.options import TrackerOptions
from mixformerv2.checkpoint import build_network, read_checkpoint
from mixformerv2.model import MixFormerV2
from tests.helpers.crafted_checkpoints import before_zip, dictionary, tensor, zipped

#: Small enough that its checkpoints are a few kilobytes.
SPECK = ModelSpec(
    width=8, depth=1, num_heads=1, mlp_hidden=4, patch_size_px=2, search_size_px=4,
    template_size_px=2, bins=4, box_head_hidden=4, score_head_hidden=4,
)  # fmt: skip


class Target(NamedTuple):
    """make_seeds: writes files into a folder. file: where a damaged one is put, below a folder that
    stays the same. read: reads it there. slow: left out of short runs.
    """

    name: str
    file: str
    make_seeds: Callable[[Path], list[Path]]
    read: Callable[[Path], object]
    errors: tuple[type[Exception], ...] = ()
    slow: bool = False


def _checkpoints(folder: Path) -> list[Path]:
    state = {
        "net": {"w": torch.ones(2, 3), "v": nn.Parameter(torch.ones(4).half())},
        "num_heads": 2,
        "search_factor": 4.5,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(module.parameters()).state_dict()
    network = {"net": MixFormerV2(SPECK).state_dict(), "num_heads": 1}
    contents = (state, {**state, "optimizer": optimizer, "epoch": 3}, module, network)
    paths = []
    for number, content in enumerate(contents):
        for is_zip in (True, False):
            paths.append(folder / f"{number}{is_zip}.pth")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the source of a module
                torch.save(content, paths[-1], _use_new_zipfile_serialization=is_zip)
    items = dictionary({"w": tensor("0", 12, (3, 2), (1, 3), 2)})
    paths.append(zipped(folder / "crafted.pth", items, {"0": bytes(48)}))
    stored = (12).to_bytes(8, "little") + bytes(48)
    paths.append(before_zip(folder / "old.pth", items, ("0",), stored))
    return paths


def _safetensors(folder: Path) -> list[Path]:
    mixed = {"w": torch.ones(2, 3), "v": torch.ones(4).half(), "b": torch.ones(3).bfloat16()}
    paths = [folder / "mixed.safetensors", folder / "network.safetensors"]
    stated = {"num_heads": "2", "search_factor": "4.5"}
    safetensors.torch.save_file(mixed, paths[0], metadata=stated)
    safetensors.torch.save_file(MixFormerV2(SPECK).state_dict(), paths[1], {"num_heads": "1"})
    return paths


def _open_checkpoint(path: Path) -> None:
    checkpoint = read_checkpoint(path)
    with suppress(CheckpointError):  # weights, but of no network
        build_network(checkpoint)


def _written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _facts(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}


def _manifest(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Of a bundle of SPECK."""
    kv = ["targets", *SPECK.template_kv_shape()[1:]]
    templates = {"name": "templates", "shape": ["targets", 2, 2, 2, 3], "dtype": "uint8"}
    search = {"name": "search", "shape": ["targets", 4, 4, 3], "dtype": "uint8"}
    template_kv = {"name": "template_kv", "shape": kv, "dtype": "float32"}
    edges = {"name": "edge_probs", "shape": ["targets", 4, 4], "dtype": "float32"}
    score = {"name": "score", "shape": ["targets"], "dtype": "float32"}
    ends: dict[str, tuple[list[Any], list[Any]]] = {
        "template": ([templates], [template_kv]),
        "search": ([search, template_kv], [edges, score]),
    }
    artefacts = [
        {
            "format": kind,
            "precision": "fp16",
            "parity": {"box_px": 0.1, "score": 1e-3, "edge_kl": 0.0},
            "graphs": {
                name: {
                    "model": f"{folder}/{name}.bin",
                    "weights": None,
                    "inputs": inputs,
                    "outputs": outputs,
                }
                for name, (inputs, outputs) in ends.items()
            },
        }
        for kind, folder in (("onnx", "onnx/fp16"), ("tensorrt", "tensorrt/gpu"))
    ]
    folders = ("onnx/fp16", "tensorrt/gpu")
    empty = {f"{folder}/{name}.bin": b"" for folder in folders for name in ends}
    return {
        "format": "edge_tracker.bundle",
        "format_version": 1,
        "model": asdict(SPECK),
        "tracker": asdict(TrackerOptions()),
        "artefacts": artefacts,
        "source": {"checkpoint": "speck.pth", "sha256": "0" * 64},
        "tools": {"torch": "2.4"},
        "calibration": {"sources": {"clip": 3}, "seed": 0},
        "files": {name: _facts(content) for name, content in {**empty, **files}.items()},
    }


def _manifests(folder: Path) -> list[Path]:
    plain = _written(folder / "0.json", json.dumps(_manifest({}), indent=2))
    stage = dict.fromkeys(("blocks", "kernel_px", "stride", "expansion", "channels"), 1)
    stem = {"channels": 8, "stages": [stage], "fine": False}
    other = {**_manifest({}), "artefacts": [], "model": {**asdict(SPECK), "stem": stem}}
    return [plain, _written(folder / "1.json", json.dumps(other))]


def _open_manifest(path: Path) -> None:
    bundle = open_bundle(path.parent)
    with redirect_stdout(io.StringIO()):
        print_artefacts(bundle.artefacts)
        print_int8_accuracy(bundle)


def _in_a_bundle(path: Path, name: str) -> Bundle:
    """A bundle that lists a file with the hash that it has, as a sender who damages it would."""
    folder = path.parents[name.count("/")]
    _written(folder / "manifest.json", json.dumps(_manifest({name: path.read_bytes()})))
    return open_bundle(folder)


def _goldens(folder: Path) -> list[Path]:
    golden = Golden(
        np.zeros((1, 2, 2, 2, 3), np.uint8), np.zeros((1, 4, 4, 3), np.uint8),
        np.full((1, 4, 4), 0.25, np.float32), np.ones(1, np.float32),
    )  # fmt: skip
    golden.save(folder / "packed.npz")
    np.savez(folder / "stored.npz", **vars(golden))
    return [folder / "packed.npz", folder / "stored.npz"]


def _open_golden(path: Path) -> None:
    load_golden(_in_a_bundle(path, GOLDEN))


def _engines(folder: Path) -> list[Path]:
    said = EngineFingerprint("tensorrt", "10.3", "8.7", "Orin", "12.6", None, "fp16", "0" * 64)
    return [_written(folder / "engine.json", json.dumps(asdict(said)))]


def _open_engine(path: Path) -> None:
    bundle = _in_a_bundle(path, "tensorrt/gpu/engine.json")
    read_fingerprint(bundle, bundle.artefacts[1])


def _samples(folder: Path) -> list[Path]:
    provenance = {
        "seed": 0,
        "sources": {"a": 2},
        "tracker": {"template_factor": 2.0, "search_factor": 4.5},
    }
    samples = CalibrationSamples(
        np.zeros((2, 2, 4, 4, 3), np.uint8), np.zeros((2, 8, 8, 3), np.uint8), provenance
    )
    samples.save(folder / "samples.npz")
    return [folder / "samples.npz"]


TRUTH = "1,2,30,40\n1.5 2.5 30 40\n0,0,0,0\n1,2,3,2,3,4,1,4\n"


def _truths(folder: Path) -> list[Path]:
    return [_written(folder / "0.txt", TRUTH), _written(folder / "1.txt", "1\t2\t3\t4\n" * 4)]


def _sequence(folder: Path, layout: str) -> SequenceFolder:
    """Four frames that nobody reads, and what annotates them."""
    for number in range(4):
        _written(folder / "img" / f"{number}.png", b"")
    truth = folder / "groundtruth.txt"
    if not truth.is_file():
        _written(truth, "1,2,30,40\n" * 4)
    return SequenceFolder("car", layout, folder / "img", truth)


def _open_truth(path: Path) -> None:
    read_sequence(_sequence(path.parent, "plain"))


def _flags(folder: Path) -> list[Path]:
    return [_written(folder / "flags.txt", "0,1,0,0\n")]


def _open_flags(path: Path) -> None:
    read_sequence(_sequence(path.parent, "lasot"))


def _results(folder: Path) -> list[Path]:
    return [_written(folder / "car.txt", "1.0,2.0,30.0,40.0\n" * 4)]


def _open_results(path: Path) -> None:
    sequence = read_sequence(_sequence(path.parent / "data", "plain"))
    _written(path.parent / "times" / "car_time.txt", "0.01\n" * 4)
    read_results(path.parent, sequence)


CONDITIONS = {"tracker": {"search_factor": 4.5}, "backend": "openvino", "max_frames": None}


def _conditions(folder: Path) -> list[Path]:
    return [_written(folder / "conditions.json", json.dumps(CONDITIONS))]


def _open_conditions(path: Path) -> None:
    claim_folder(path.parent, CONDITIONS)


def _open_recipe(path: Path) -> None:
    read_recipe(str(path))


def _open_log(path: Path) -> None:
    read_log(path)
    truncate_log(path, 2)


def _open_coco(path: Path) -> None:
    read_sequences("coco", path.parents[1])


def _recipes(folder: Path) -> list[Path]:
    return [
        _written(
            folder / "recipe.json", json.dumps(recipe_to_dict(named_recipe(recipe_names()[0])))
        )
    ]


def _logs(folder: Path) -> list[Path]:
    lines = [json.dumps({"step": step, "loss": 0.5}) for step in (1, 2, 3)]
    return [_written(folder / "log.jsonl", "\n".join(lines) + "\n")]


def _runs(folder: Path) -> list[Path]:
    recipe = recipe_to_dict(named_recipe(recipe_names()[0]))
    torch.save({"recipe": recipe, "step": 3, "network": {"w": torch.ones(2)}}, folder / "resume.pt")
    return [folder / "resume.pt"]


def _open_run(path: Path) -> None:
    """As far as the recipe of the run, which is compared before anything is restored."""
    other = replace(named_recipe(recipe_names()[0]), seed=12345)
    load_run(path.parent, other, None, [])  # type: ignore[arg-type]


def _coco(folder: Path) -> list[Path]:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"id": 7, "image_id": 1, "bbox": [1, 2, 30, 40], "iscrowd": 0}],
    }
    return [_written(folder / "coco.json", json.dumps(content))]


def _polygons(folder: Path) -> list[Path]:
    return [_written(folder / "polygons.txt", "3 0.1 0.1 0.6 0.1 0.6 0.7 0.1 0.7\n")]


def _open_polygons(path: Path) -> None:
    if not (image := path.with_suffix(".png")).is_file():
        cv2.imwrite(str(image), np.zeros((40, 60, 3), np.uint8))
    read_cutouts(path.parent)


def _boxes(folder: Path) -> list[Path]:
    return [_written(folder / "boxes.txt", "1,2,30,40\n5 6 7 8\n")]


def _open_boxes(path: Path) -> None:
    if not (image := path.with_suffix(".png")).is_file():
        cv2.imwrite(str(image), np.zeros((40, 60, 3), np.uint8))
    for source in find_sources(path.parent):
        list(source.frames())


@cache
def _speck_bundle() -> tuple[Path, tempfile.TemporaryDirectory[str]]:
    folder = tempfile.TemporaryDirectory(prefix="fuzz-")
    checkpoint = Path(folder.name) / "speck.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save({"net": MixFormerV2(SPECK).state_dict(), "num_heads": 1}, checkpoint)
    bundle = convert_checkpoint(checkpoint, Path(folder.name) / "b", precisions=["fp32"])
    return bundle.path, folder


ONNX, OPENVINO = "onnx/fp32/search.onnx", "openvino/fp32/search.xml"


def _onnx_graphs(_: Path) -> list[Path]:
    return [_speck_bundle()[0] / ONNX]


def _openvino_graphs(_: Path) -> list[Path]:
    return [_speck_bundle()[0] / OPENVINO]


def _open_onnx(path: Path) -> None:
    _open_graph(path, "onnxruntime")


def _open_openvino(path: Path) -> None:
    _open_graph(path, "openvino")


def _open_graph(path: Path, kind: str) -> None:
    """A damaged search graph in an otherwise whole bundle that lists its hash."""
    relative = path.relative_to(path.parents[2]).as_posix()
    copy = path.parents[2]
    for file in _speck_bundle()[0].rglob("*"):
        target = copy / file.relative_to(_speck_bundle()[0])
        if file.is_file() and target != path:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.is_file():
                shutil.copy(file, target)
    manifest = json.loads((_speck_bundle()[0] / "manifest.json").read_text())
    manifest["files"][relative] = _facts(path.read_bytes())
    (copy / "manifest.json").write_text(json.dumps(manifest))
    bundle = open_bundle(copy)
    open_graphs(bundle, backend=kind, precision="fp32", num_threads=1).close()


#: `claim_folder` raises ValueError for results that were made in another way.
TARGETS = (
    Target("checkpoint", "c.pth", _checkpoints, _open_checkpoint),
    Target("safetensors", "c.safetensors", _safetensors, _open_checkpoint),
    Target("manifest", "b/manifest.json", _manifests, _open_manifest),
    Target("golden", "b/golden.npz", _goldens, _open_golden),
    Target("engine", "b/tensorrt/gpu/engine.json", _engines, _open_engine),
    Target("samples", "samples.npz", _samples, load_samples),
    Target("boxes", "still/boxes.txt", _boxes, _open_boxes),
    Target("ground_truth", "s/groundtruth.txt", _truths, _open_truth),
    Target("flags", "s/full_occlusion.txt", _flags, _open_flags),
    Target("results", "r/car.txt", _results, _open_results),
    Target("conditions", "r/conditions.json", _conditions, _open_conditions, (ValueError,)),
    Target("recipe", "recipe.json", _recipes, _open_recipe, (RecipeError,)),
    Target("log", "run/log.jsonl", _logs, _open_log, (RecipeError,)),
    Target("run", "run/resume.pt", _runs, _open_run, (RecipeError,)),
    Target("coco", "coco/annotations/instances_train.json", _coco, _open_coco),
    Target("polygons", "p/polygons.txt", _polygons, _open_polygons),
    Target("onnx", f"b/{ONNX}", _onnx_graphs, _open_onnx, slow=True),
    Target("openvino", f"b/{OPENVINO}", _openvino_graphs, _open_openvino, slow=True),
)
