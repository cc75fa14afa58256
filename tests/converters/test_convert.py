"""A checkpoint becomes a whole bundle, or nothing changes."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from converters import convert, to_onnx
from converters.convert import convert_checkpoint
from converters.golden_cases import make_golden
from edge_tracker import CheckpointError, EdgeTrackerError, TrackerOptions, open_bundle
from edge_tracker.bundle.manifest import MANIFEST
from edge_tracker.bundle.opening import Bundle
from edge_tracker.rules.normalise import normalise
from mixformerv2.model import MixFormerV2
from tests.helpers.bundle_stubs import contents, stub_bundle
from tests.helpers.lively_networks import TINY, lively_network


@pytest.fixture(scope="module")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.pth.tar"
    torch.save({"net": lively_network(TINY).state_dict()}, path)
    return path


def test_same_checkpoint_gives_the_same_bundle_twice(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        convert_checkpoint(tiny_checkpoint, tmp_path / name, precisions=["fp16"])
    first, second = contents(tmp_path / "first"), contents(tmp_path / "second")
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
    steps: list[tuple[str, int, int]] = []
    convert_checkpoint(
        tiny_checkpoint,
        tmp_path / "b",
        targets=["onnx"],
        on_step=lambda text, index, count: steps.append((text, index, count)),
    )
    assert [index for _, index, _ in steps] == list(range(len(steps)))
    assert {count for _, _, count in steps} == {len(steps)}


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
        monkeypatch.setattr(to_onnx.onnx, "save", fail_with(error))
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
    tmp_path: Path, choices: dict[str, list[str]], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        convert_checkpoint(tmp_path / "absent.pth.tar", tmp_path / "bundle", **choices)
    assert list(tmp_path.iterdir()) == []


def test_artefact_that_strays_from_pytorch_is_not_shipped(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the graphs were exported from a network with another normalisation."""
    fold = to_onnx.fold_for_export

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
