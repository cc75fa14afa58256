"""A checkpoint becomes a whole bundle, or nothing changes."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from converters import convert, to_onnx
from converters.convert import convert_checkpoint
from converters.golden_cases import make_golden
from converters.graphs import fold_for_export
from edge_tracker import (
    CheckpointError,
    EdgeTracker,
    EdgeTrackerError,
    TrackerOptions,
    open_bundle,
)
from edge_tracker.bundle.manifest import MANIFEST
from edge_tracker.bundle.opening import Bundle
from edge_tracker.rules.normalise import normalise
from mixformerv2.model import MixFormerV2
from tests.helpers.bundle_stubs import contents, stub_bundle
from tests.helpers.lively_networks import TINY, lively_network


def test_same_checkpoint_gives_the_same_bundle_twice(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folders = (tmp_path / "first", tmp_path / "second, with a comma")
    for folder in folders:
        convert_checkpoint(tiny_checkpoint, folder, precisions=["fp16"])
    first, second = map(contents, folders)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_golden_cases_are_the_full_forward_on_crops(
    nano_bundle: Bundle, nano_network: MixFormerV2
) -> None:
    with np.load(nano_bundle.path / "golden.npz") as golden:
        templates, search = golden["templates"], golden["search"]
        parts = (templates[:, 0], templates[:, 1], search)
        with torch.no_grad():
            expected = nano_network(*(torch.from_numpy(normalise(part)) for part in parts))
        probs, score = expected.edge_logits.softmax(-1), expected.score_logit.sigmoid()
        np.testing.assert_allclose(golden["edge_probs"], probs, atol=1e-5)
        np.testing.assert_allclose(golden["score"], score, atol=1e-5)
        assert len(search) >= 4
        # Two different templates, and targets that are not all in the middle.
        assert (templates[1:, 0] != templates[1:, 1]).any(axis=(1, 2, 3)).all()


def test_measured_parity_is_in_the_manifest_and_within_what_rounding_explains(
    nano_bundle: Bundle,
) -> None:
    parity = {artefact.name: artefact.parity for artefact in nano_bundle.artefacts}
    for name, limit_px in (("onnx/fp32", 0.05), ("openvino/fp32", 0.05), ("openvino/fp16", 0.5)):
        measured = parity[name]
        assert measured is not None
        assert 0 < measured.box_px < limit_px
        assert 0 <= measured.score < 0.01
        assert 0 <= measured.edge_kl < 0.01
    fp32, fp16 = parity["openvino/fp32"], parity["openvino/fp16"]
    assert fp32 is not None
    assert fp16 is not None
    assert fp32.box_px < fp16.box_px


PLAIN_READER = """
import sys
import numpy as np
import openvino as ov
core = ov.Core()
for folder in sys.argv[2:]:
    template, search = (
        core.compile_model(core.read_model(f"{folder}/{name}.xml"), "CPU", {
            "INFERENCE_PRECISION_HINT": "f32"})
        for name in ("template", "search")
    )
    golden = np.load(sys.argv[1])
    template_kv = template({"templates": golden["templates"]})["template_kv"]
    outputs = search({"search": golden["search"], "template_kv": template_kv})
    assert np.abs(outputs["score"] - golden["score"]).max() < 0.05
assert not any(name.split(".")[0] == "edge_tracker" for name in sys.modules)
"""


@pytest.mark.parametrize("kind", ["nano_bundle", "int8_bundle"])
def test_a_program_that_knows_only_openvino_opens_every_ir(
    kind: str, request: pytest.FixtureRequest
) -> None:
    bundle: Bundle = request.getfixturevalue(kind)
    folders = sorted({xml.parent for xml in bundle.path.rglob("*.xml")})
    assert len(folders) == 2
    command = [sys.executable, "-I", "-c", PLAIN_READER]
    command += [str(path) for path in (bundle.path / "golden.npz", *folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_each_attention_is_one_operation_in_the_ir(nano_bundle: Bundle) -> None:
    # The template graph's last block gives keys and values alone.
    expected = {"search": nano_bundle.spec.depth, "template": nano_bundle.spec.depth - 1}
    for name, count in expected.items():
        text = (nano_bundle.path / f"openvino/fp32/{name}.xml").read_text()
        assert text.count('type="ScaledDotProductAttention"') == count


def test_an_archive_of_a_bundle_holds_weights_once_and_unpacks_to_links(
    nano_bundle: Bundle, tmp_path: Path
) -> None:
    sizes = {name: len(content) for name, content in contents(nano_bundle.path).items()}
    weights = sizes["openvino/fp32/search.bin"]
    shutil.make_archive(str(tmp_path / "nano"), "tar", nano_bundle.path)
    with tarfile.open(tmp_path / "nano.tar") as archive:
        assert sum(member.isfile() for member in archive) == len(sizes) - 2
    assert (tmp_path / "nano.tar").stat().st_size < sum(sizes.values()) - weights
    shutil.unpack_archive(tmp_path / "nano.tar", tmp_path / "unpacked", filter="data")
    assert contents(tmp_path / "unpacked") == contents(nano_bundle.path)
    folder = tmp_path / "unpacked" / "openvino" / "fp32"
    assert (folder / "template.bin").samefile(folder / "search.bin")
    copied = open_bundle(tmp_path / "unpacked")
    copied.check_files(list(copied.files))


def test_size_is_that_on_the_disk(nano_bundle: Bundle) -> None:
    artefact = nano_bundle.find("openvino", "fp32")
    assert artefact is not None
    files = list((nano_bundle.path / "openvino" / "fp32").iterdir())
    assert artefact.size_bytes == sum({f.stat().st_ino: f.stat().st_size for f in files}.values())


def test_bundles_whose_ir_shares_a_file_of_another_name_still_open(
    nano_bundle: Bundle, cache_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "old"
    shutil.copytree(nano_bundle.path, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    for precision in ("fp32", "fp16"):
        place = f"openvino/{precision}"
        (folder / place / "search.bin").unlink()
        (folder / place / "template.bin").rename(folder / place / "weights.bin")
        manifest["files"].pop(f"{place}/search.bin")
        manifest["files"][f"{place}/weights.bin"] = manifest["files"].pop(f"{place}/template.bin")
        for artefact in manifest["artefacts"]:
            if artefact["format"] == "openvino":
                for graph in artefact["graphs"].values():
                    graph["weights"] = f"openvino/{artefact['precision']}/weights.bin"
    (folder / MANIFEST).write_text(json.dumps(manifest))
    bundle = open_bundle(folder)
    bundle.check_files(list(bundle.files))
    with EdgeTracker(bundle, backend="openvino", cache_dir=cache_dir) as tracker:
        tracker.init(np.zeros((80, 80, 3), np.uint8), (10, 10, 40, 40))
        assert 0 <= tracker.update(np.zeros((80, 80, 3), np.uint8)).score <= 1


def test_tracker_defaults_travel_with_the_bundle(tiny_checkpoint: Path, tmp_path: Path) -> None:
    options = TrackerOptions(update_interval=200, lost_search_factor=6.0)
    bundle = convert_checkpoint(tiny_checkpoint, tmp_path / "b", targets=["onnx"], tracker=options)
    assert open_bundle(tmp_path / "b").tracker_defaults == options
    assert [artefact.name for artefact in bundle.artefacts] == ["onnx/fp32", "onnx/fp16"]


@pytest.mark.parametrize(
    ("stated", "given", "carried"),
    [
        (None, None, TrackerOptions()),
        (3.5, None, TrackerOptions(search_factor=3.5)),
        (3.5, TrackerOptions(update_interval=200), TrackerOptions(update_interval=200)),
    ],
    ids=["the official tracker's", "the checkpoint's", "the caller's"],
)
def test_a_bundle_carries_the_search_factor_that_its_network_is_tracked_with(
    stated: float | None, given: TrackerOptions | None, carried: TrackerOptions, tmp_path: Path
) -> None:
    network, path = lively_network(TINY), tmp_path / "c.pth.tar"
    torch.save({"net": network.state_dict(), "search_factor": stated}, path)
    convert_checkpoint(path, tmp_path / "b", targets=["onnx"], precisions=["fp32"], tracker=given)
    assert open_bundle(tmp_path / "b").tracker_defaults == carried
    with np.load(tmp_path / "b" / "golden.npz") as golden:
        assert (golden["search"] == make_golden(network, carried).search).all()


def test_a_search_factor_that_is_none_leaves_the_old_bundle(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    stub_bundle(tmp_path / "bundle", {"golden.npz": b"old"})
    state = torch.load(tiny_checkpoint, weights_only=True)["net"]
    torch.save({"net": state, "search_factor": 40}, tmp_path / "c.pth.tar")
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match=r"c\.pth\.tar: its search_factor is 40, expected"):
        convert_checkpoint(tmp_path / "c.pth.tar", tmp_path / "bundle")
    assert contents(tmp_path) == before


def test_each_step_is_announced_once_and_in_order(tiny_checkpoint: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int | None, str]] = []
    convert_checkpoint(
        tiny_checkpoint,
        tmp_path / "b",
        targets=["onnx"],
        on_progress=lambda *told: steps.append(told),
    )
    assert [index for index, _, _ in steps] == list(range(len(steps)))
    assert {count for _, count, _ in steps} == {len(steps)}


def fail_with(error: BaseException) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> object:
        raise error

    return fail


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr
)
@pytest.mark.parametrize(
    ("place", "old"),
    [
        ("while exporting", "a bundle"),
        ("make_golden", "a bundle"),
        ("make_golden", "nothing"),
        ("convert_to_openvino", "an empty folder"),
        ("write_manifest", "a bundle"),
        ("at the last step", "a bundle"),
        ("at the last step", "nothing"),
    ],
)
def test_interrupted_conversion_leaves_everything_as_it_was(
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    place: str,
    old: str,
) -> None:
    output = tmp_path / "bundle"
    if old != "nothing":
        output.mkdir()
    if old == "a bundle":
        stub_bundle(output, {"tensorrt/engine.bin": b"old engine"})
    before, names = contents(tmp_path), sorted(tmp_path.iterdir())
    if place == "while exporting":
        # The weights are written when it happens.
        monkeypatch.setattr("converters.to_onnx.onnx.save", fail_with(error))
    elif place == "at the last step":
        monkeypatch.setattr("edge_tracker.bundle.writing._put_in_place", fail_with(error))
    elif place == "write_manifest":
        monkeypatch.setattr("converters.draft.write_manifest", fail_with(error))
    else:
        monkeypatch.setattr(convert, place, fail_with(error))
    targets = ["onnx", "openvino"] if place == "convert_to_openvino" else ["onnx"]
    with pytest.raises(type(error)):
        convert_checkpoint(tiny_checkpoint, output, targets=targets)
    monkeypatch.undo()
    assert contents(tmp_path) == before
    assert sorted(tmp_path.iterdir()) == names


def test_new_bundle_replaces_the_old_one_whole(tiny_checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    stale = stub_bundle(output, {"onnx/stale.bin": b"old"}) / "onnx" / "stale.bin"
    convert_checkpoint(tiny_checkpoint, output, targets=["onnx"])
    assert json.loads((output / MANIFEST).read_text())["format_version"] == 1
    assert not stale.exists()
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_output_that_is_no_bundle_is_refused_untouched(
    tiny_checkpoint: Path, tmp_path: Path, kind: str
) -> None:
    output = tmp_path / "holiday"
    if kind == "folder":
        output.mkdir()
        (output / "picture.jpg").write_bytes(b"sun")
    else:
        output.write_bytes(b"sun")
    before = contents(tmp_path)
    with pytest.raises(
        ValueError, match="holiday exists and is not a bundle: it is not overwritten"
    ):
        convert_checkpoint(tiny_checkpoint, output)
    assert contents(tmp_path) == before


def test_output_below_a_file_is_an_os_error_that_names_it(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file"):
        convert_checkpoint(tiny_checkpoint, tmp_path / "file" / "bundle")
    assert contents(tmp_path) == {"file": b""}


def test_bad_checkpoint_leaves_the_old_bundle(tmp_path: Path) -> None:
    stub_bundle(tmp_path / "bundle", {"golden.npz": b"old"})
    (tmp_path / "c.pth.tar").write_bytes(b"not a checkpoint")
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match=r"is not a file of torch\.save"):
        convert_checkpoint(tmp_path / "c.pth.tar", tmp_path / "bundle")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"targets": ["coreml"]}, "coreml"),
        ({"targets": []}, "no target given"),
        ({"precisions": ["fp8"]}, "fp8"),
        ({"precisions": []}, "no precision given"),
    ],
)
def test_unknown_choice_is_refused_before_any_work(
    tmp_path: Path, choices: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        convert_checkpoint(tmp_path / "absent.pth.tar", tmp_path / "bundle", **choices)
    assert list(tmp_path.iterdir()) == []


def test_artefact_that_strays_from_pytorch_is_not_shipped(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the graphs were exported from a network with another normalisation."""
    fold = fold_for_export

    def fold_wrongly(network: MixFormerV2) -> MixFormerV2:
        folded = fold(network)
        weight = folded.backbone.patch_embed.proj.weight
        with torch.no_grad():
            weight.copy_(weight.flip(1))  # RGB for BGR
        return folded

    monkeypatch.setattr(to_onnx, "fold_for_export", fold_wrongly)
    with pytest.raises(EdgeTrackerError, match=r"onnx fp32 strays .* px from PyTorch"):
        convert_checkpoint(tiny_checkpoint, tmp_path / "bundle", targets=["onnx"])
    assert list(tmp_path.iterdir()) == []
