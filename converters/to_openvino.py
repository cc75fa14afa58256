"""ONNX pair -> OpenVINO IR pair that shares one file of weights."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from pathlib import Path

from converters.to_onnx import ALIGNMENT
from edge_tracker.backends.openvino import without_telemetry
from edge_tracker.bundle.contract import GRAPHS

with without_telemetry():
    import openvino as ov


def convert_to_openvino(
    onnx_folder: Path, folder: Path, precision: str, metadata: Mapping[str, str]
) -> None:
    """Write template.xml, search.xml and their weights, template.bin and search.bin, into `folder`.

    precision: "fp32", or "fp16" for weights of half the size.
    `metadata` goes into the models' `rt_info`, under "edge_tracker". The number of targets stays
    dynamic.
    """
    models = {name: read_onnx(onnx_folder / f"{name}.onnx") for name in GRAPHS}
    save_models(models, folder, precision, metadata)


def read_onnx(path: Path) -> ov.Model:
    """A graph with its weights beside it, as OpenVINO has it."""
    if "," not in str(path):
        return ov.convert_model(path)
    # It would be taken apart there.
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "onnx")
        plain.symlink_to(path.parent.resolve(), target_is_directory=True)
        return ov.convert_model(plain / path.name)


def save_models(
    models: Mapping[str, ov.Model], folder: Path, precision: str, metadata: Mapping[str, str]
) -> None:
    """Write both graphs and their weights into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        for key, value in {**metadata, "precision": precision}.items():
            model.set_rt_info(value, ["edge_tracker", key])
        ov.save_model(model, folder / f"{name}.xml", compress_to_fp16=precision == "fp16")
    _share_weights(folder)


def _share_weights(folder: Path) -> None:
    """Make of both graphs' weights one file, in which equal constants stand once. It has both
    names, as readers of an IR expect weights that bear the name of the graph.
    """
    places: dict[bytes, int] = {}
    shared = folder / "shared.bin"
    with shared.open("wb") as weights:
        for name in GRAPHS:
            description = folder / f"{name}.xml"
            own_weights = folder / f"{name}.bin"
            content = own_weights.read_bytes()
            tree = ElementTree.parse(description)
            for constant in tree.iterfind(".//layer[@type='Const']/data"):
                start, size = int(constant.attrib["offset"]), int(constant.attrib["size"])
                value = content[start : start + size]
                digest = hashlib.sha256(value).digest()
                if digest not in places:
                    weights.write(b"\0" * (-weights.tell() % ALIGNMENT))
                    places[digest] = weights.tell()
                    weights.write(value)
                constant.attrib["offset"] = str(places[digest])
            _number_layers(tree.iterfind(".//layer"))
            tree.write(description, encoding="utf-8", xml_declaration=True)
            own_weights.unlink()
    first, *others = (folder / f"{name}.bin" for name in GRAPHS)
    shared.rename(first)
    for other in others:
        _link_or_copy(first, other)


def _link_or_copy(file: Path, name: Path) -> None:
    try:
        name.hardlink_to(file)
    except OSError:  # FAT, some network drives
        shutil.copyfile(file, name)


def _number_layers(layers: Iterable[ElementTree.Element]) -> None:
    """OpenVINO numbers nameless layers by a counter of the process: the same network would give
    another file each time.
    """
    for layer in layers:
        if counted := re.fullmatch(r"([A-Za-z]+)_\d+(_[a-z]+)?", layer.attrib["name"]):
            layer.attrib["name"] = f"{counted[1]}_{layer.attrib['id']}{counted[2] or ''}"
