"""Opening a bundle: what is missing, damaged, altered or of another kind is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_tracker import BackendUnavailable, BundleError, EdgeTracker, open_bundle
from edge_tracker.backends.choice import open_graphs
from edge_tracker.bundle.manifest import MANIFEST, presence_content
from edge_tracker.bundle.opening import Bundle, sha256_of
from edge_tracker.rules.presence_model import FEATURES
from mixformerv2.geometries import NANO

Manifest = dict[str, Any]
Edit = Callable[[Manifest], object]


@pytest.fixture
def bundle_folder(nano_bundle: Bundle, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(nano_bundle.path, tmp_path / "bundle"))


def edit_manifest(folder: Path, edit: Edit) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    edit(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_bundle_says_what_it_holds(nano_bundle: Bundle, nano_checkpoint: Path) -> None:
    bundle = open_bundle(str(nano_bundle.path))
    assert bundle == nano_bundle
    assert bundle.spec == NANO
    names = {artefact.name for artefact in bundle.artefacts}
    assert {"onnx/fp32", "openvino/fp32", "openvino/fp16"} <= names
    assert bundle.manifest["source"]["sha256"] == sha256_of(nano_checkpoint)


def test_manifest_lists_every_file_with_its_size_and_hash(nano_bundle: Bundle) -> None:
    on_disk = {
        file.relative_to(nano_bundle.path).as_posix(): {
            "size_bytes": file.stat().st_size,
            "sha256": sha256_of(file),
        }
        for file in nano_bundle.path.rglob("*")
        if file.is_file() and file.name != MANIFEST
    }
    assert nano_bundle.manifest["files"] == on_disk
    used = {path for artefact in nano_bundle.artefacts for path in artefact.files()}
    assert on_disk.keys() == used | {"golden.npz"}


def test_most_exact_precision_is_found_unless_one_is_asked_for(nano_bundle: Bundle) -> None:
    def precision(wanted: str | None) -> str | None:
        artefact = nano_bundle.find("openvino", wanted)
        return artefact.precision if artefact else None

    assert precision(None) == "fp32"
    assert precision("fp16") == "fp16"
    assert precision("int8") is None


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "longer", "one bit"])
@pytest.mark.parametrize("part", ["model", "weights"])
def test_damaged_file_is_named_before_the_backend_sees_it(
    bundle_folder: Path, backend: str, damage: str, part: str
) -> None:
    bundle = open_bundle(bundle_folder)
    artefact = bundle.find("onnx" if backend == "onnxruntime" else backend, None)
    assert artefact is not None
    relative = getattr(artefact.graphs["search"], part)
    file = bundle_folder / relative
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "longer":
        file.write_bytes(content + b"\0")
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    says = {
        "missing": "is missing",
        "truncated": f"has {len(content) // 2} bytes, expected {len(content)}; it is truncated",
        "longer": f"has {len(content) + 1} bytes, expected {len(content)}",
        "one bit": "was altered: its sha256 is not that of the manifest",
    }
    with pytest.raises(BundleError, match=f"{relative} {says[damage]}.*convert the checkpoint"):
        EdgeTracker(bundle_folder, backend=backend)


def test_damage_in_one_format_does_not_keep_the_other_from_running(
    bundle_folder: Path, cache_dir: Path
) -> None:
    shutil.rmtree(bundle_folder / "onnx")
    EdgeTracker(bundle_folder, backend="openvino", cache_dir=cache_dir).close()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be read"),
        ("bundle", "cannot be read"),
        ('{"format": "edge_tracker.bundle", "format_ver', "cannot be read"),
        ("\ufeff{}", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", 'does not say "format"'),
        ("{}", 'does not say "format"'),
        ('{"format": "onnx"}', 'does not say "format"'),
    ],
)
def test_manifest_that_is_none_is_refused(bundle_folder: Path, text: str, says: str) -> None:
    (bundle_folder / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=says):
        open_bundle(bundle_folder)


def test_manifest_that_is_no_text_is_refused(bundle_folder: Path) -> None:
    (bundle_folder / MANIFEST).write_bytes(b"\xff\xfe\x00\x80" * 9)
    with pytest.raises(BundleError, match="cannot be read"):
        open_bundle(bundle_folder)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_other_format_version_is_refused_with_the_remedy(
    bundle_folder: Path, version: object
) -> None:
    edit_manifest(bundle_folder, lambda manifest: manifest.update(format_version=version))
    with pytest.raises(BundleError, match=f"version {version!r}, this package reads 1: convert"):
        open_bundle(bundle_folder)


@pytest.mark.parametrize("key", ["model", "tracker", "artefacts", "files"])
def test_incomplete_manifest_says_what_it_lacks(bundle_folder: Path, key: str) -> None:
    edit_manifest(bundle_folder, lambda manifest: manifest.pop(key))
    with pytest.raises(BundleError, match=f"incomplete or wrong .*{key}"):
        open_bundle(bundle_folder)


WEIGHTS = "onnx/fp32/weights.bin"


def presence_with(**said: Any) -> Manifest:
    numbers = {"found_presence": 0.5, "false_alarms": 0.05, "regained_presence": 0.9}
    weights = {name: float(index) for index, name in enumerate(FEATURES)}
    return {"intercept": -1.5, "weights": weights, **numbers, **said}


WRONG_MANIFESTS: dict[str, tuple[Edit, str]] = {
    "model without bins": (lambda m: m["model"].pop("bins"), "bins"),
    "unknown field of model": (lambda m: m["model"].update(colour=1), "colour"),
    "width in words": (lambda m: m["model"].update(width="wide"), "model.width is 'wide'"),
    "negative depth": (
        lambda m: m["model"].update(depth=-4),
        "model.depth is -4, expected a positive",
    ),
    "another search size": (lambda m: m["model"].update(search_size_px=96), "search of onnx/fp32"),
    "another template size": (
        lambda m: m["model"].update(template_size_px=32),
        "templates? of onnx/fp32|template_kv of onnx/fp32",
    ),
    "other bins": (lambda m: m["model"].update(bins=72), "edge_probs of onnx/fp32"),
    "tracker out of range": (lambda m: m["tracker"].update(search_factor=0), "search_factor is 0"),
    "tracker in words": (
        lambda m: m["tracker"].update(search_factor="4.5"),
        r"tracker\.search_factor is '4\.5', expected a number",
    ),
    "unknown tracker option": (lambda m: m["tracker"].update(speed=1), "tracker.speed is unknown"),
    "model is a number": (lambda m: m.update(model=7), "model is 7, expected an object"),
    "artefacts are no list": (
        lambda m: m.update(artefacts={"a": 1}),
        r"artefacts is \{'a': 1\}, expected a list",
    ),
    "a tensor of another name": (
        lambda m: m["artefacts"][1]["graphs"]["search"]["inputs"][0].update(name="image"),
        r"artefacts\[1\]\.graphs\.search\.inputs\[0\]\.name is 'image', expected templates or ",
    ),
    "a format that nobody has": (
        lambda m: m["artefacts"][0].update(format="coreml"),
        r"artefacts\[0\]\.format is 'coreml', expected onnx or openvino or tensorrt",
    ),
    "a parity of nothing": (
        lambda m: m["artefacts"][0]["parity"].update(box_px=float("nan")),
        r"artefacts\[0\]\.parity\.box_px is nan, expected a number",
    ),
    "a size in words": (
        lambda m: m["files"][WEIGHTS].update(size_bytes="big"),
        r"files\['onnx/fp32/weights\.bin'\]\.size_bytes is 'big', expected a whole number",
    ),
    "a tool without a version": (
        lambda m: m["tools"].update(torch=2),
        r"tools\.torch is 2, expected text",
    ),
    "a seed in words": (
        lambda m: m.update(calibration={"seed": "x", "sources": {}}),
        r"calibration\.seed is 'x', expected a whole number",
    ),
    "presence without a weight": (
        lambda m: m.update(presence=presence_with(weights={"log_odds": 1.0})),
        r"presence\.weights\.log_odds_mean is missing",
    ),
    "presence of something else": (
        lambda m: m.update(presence=presence_with(weights={"taste": 1.0})),
        r"presence\.weights\.taste is unknown",
    ),
    "presence too large for a float": (
        lambda m: m.update(presence=presence_with(regained_presence=10**400)),
        r"presence\.regained_presence is 1000+.*a number",
    ),
    "presence out of range": (
        lambda m: m.update(presence=presence_with(found_presence=2)),
        "presence: found_presence is 2: expected 0 to 1",
    ),
    "a way of recovery that there is not": (
        lambda m: m["tracker"].update(recovery="everywhere"),
        "recovery 'everywhere' is unknown: choose off, local, frame",
    ),
    "recovery in numbers": (
        lambda m: m["tracker"].update(recovery=1),
        r"tracker\.recovery is 1, expected text",
    ),
    "a factor in words": (
        lambda m: m["tracker"].update(search_factor="4"),
        r"tracker\.search_factor is '4', expected a number",
    ),
    "a graph is missing": (lambda m: m["artefacts"][0]["graphs"].pop("template"), "has graphs"),
    "a file has no hash": (
        lambda m: m["files"][WEIGHTS].pop("sha256"),
        "weights.*sha256 is missing",
    ),
    "a file is not listed": (lambda m: m["files"].pop(WEIGHTS), "weights"),
}


@pytest.mark.parametrize(("edit", "says"), WRONG_MANIFESTS.values(), ids=WRONG_MANIFESTS)
def test_wrong_manifest_is_refused_by_name(bundle_folder: Path, edit: Edit, says: str) -> None:
    edit_manifest(bundle_folder, edit)
    with pytest.raises(BundleError, match=says):
        open_graphs(open_bundle(bundle_folder), backend="onnxruntime").close()


def test_presence_is_read_by_the_names_of_its_weights(bundle_folder: Path) -> None:
    def turned_round(manifest: Manifest) -> None:
        presence = presence_with()
        manifest["presence"] = {**presence, "weights": dict(reversed(presence["weights"].items()))}

    edit_manifest(bundle_folder, turned_round)
    presence = open_bundle(bundle_folder).presence
    assert presence is not None
    assert presence.weights == tuple(map(float, range(len(FEATURES))))
    assert (presence.intercept, presence.found_presence) == (-1.5, 0.5)
    assert presence_content(presence) == presence_with()


def swap_graphs(graphs: dict[str, Any]) -> None:
    graphs["template"], graphs["search"] = graphs["search"], graphs["template"]


def swap_models(graphs: dict[str, Any]) -> None:
    template, search = graphs["template"], graphs["search"]
    template["model"], search["model"] = search["model"], template["model"]


def search_for_both(graphs: dict[str, Any]) -> None:
    graphs["template"]["model"] = graphs["search"]["model"]


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "auto"])
@pytest.mark.parametrize("change", [swap_graphs, swap_models, search_for_both])
def test_models_that_are_taken_for_one_another_are_named_with_the_remedy(
    bundle_folder: Path, cache_dir: Path, backend: str, change: Callable[[Manifest], None]
) -> None:
    def change_each_artefact(manifest: Manifest) -> None:
        for artefact in manifest["artefacts"]:
            change(artefact["graphs"])

    edit_manifest(bundle_folder, change_each_artefact)
    bundle = open_bundle(bundle_folder)
    artefact = bundle.find("onnx" if backend == "onnxruntime" else "openvino", None)
    assert artefact is not None
    with pytest.raises(BundleError, match="convert the checkpoint again") as refused:
        open_graphs(bundle, backend=backend, num_threads=1, cache_dir=cache_dir)
    template, search = (artefact.graphs[name].model for name in ("template", "search"))
    assert f"{template} as the template graph" in str(refused.value)
    assert f"{search} as the search graph" in str(refused.value)


@pytest.mark.parametrize(
    "path", ["../secret.onnx", "/etc/passwd", "onnx/../../secret.onnx", "..\\secret.onnx"]
)
@pytest.mark.parametrize("part", ["model", "weights"])
def test_path_that_leaves_the_bundle_is_refused(bundle_folder: Path, path: str, part: str) -> None:
    def point_outside(manifest: Manifest) -> None:
        manifest["artefacts"][0]["graphs"]["search"][part] = path
        manifest["files"][path] = {"size_bytes": 1, "sha256": "0" * 64}

    edit_manifest(bundle_folder, point_outside)
    with pytest.raises(BundleError, match="leaves the bundle"):
        open_bundle(bundle_folder)


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"absent: no such folder; make one with: edge-tracker"):
        open_bundle(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="is a file, not a bundle"):
        open_bundle(tmp_path / "file")
    with pytest.raises(BundleError, match=r"is not a bundle: it has no manifest\.json"):
        open_bundle(tmp_path)


def test_bundle_without_an_artefact_for_the_backend_says_what_it_has(bundle_folder: Path) -> None:
    bundle = open_bundle(bundle_folder)
    with pytest.raises(BackendUnavailable, match=r"no int8 artefact for it, only onnx/fp32"):
        open_graphs(bundle, backend="openvino", precision="int8")
