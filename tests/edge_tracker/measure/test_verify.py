"""Damaged artefacts whose files are whole by their hashes: only verification can notice."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import edge_tracker
from converters.to_openvino import convert_to_openvino
from edge_tracker.backends import choice, openvino
from edge_tracker.backends.parity import LIMITS, Outputs, differences, largest, limits_for
from edge_tracker.bundle.goldens import GOLDEN, load_golden
from edge_tracker.bundle.manifest import Parity
from edge_tracker.bundle.opening import Bundle, open_bundle, sha256_of
from edge_tracker.cli.main import main
from edge_tracker.errors import BackendUnavailable, BundleError
from edge_tracker.measure.verify import ArtefactVerification, Verification, verify

Damage = Callable[[onnx.ModelProto], None]


def copy_of(bundle: Bundle, folder: Path) -> Path:
    return Path(shutil.copytree(bundle.path, folder / "bundle"))


def list_anew(folder: Path) -> Bundle:
    """Make the manifest agree with the files, as someone who damages on purpose would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for relative, entry in manifest["files"].items():
        file = folder / relative
        entry["sha256"], entry["size_bytes"] = sha256_of(file), file.stat().st_size
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return open_bundle(folder)


def damage_onnx(folder: Path, graph: str, damage: Damage) -> None:
    path = folder / "onnx" / "fp32" / f"{graph}.onnx"
    model = onnx.load(path)
    damage(model)
    onnx.save(model, path)


def scale_tensor(number: int, factor: float = 1.05) -> Damage:
    """Scale the weight matrix of this number in the graph."""

    def damage(model: onnx.ModelProto) -> None:
        matrices = [t for t in model.graph.initializer if len(t.dims) >= 2 and min(t.dims) > 4]
        tensor = matrices[number]
        scaled = (numpy_helper.to_array(tensor) * factor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))

    return damage


def swap_left_and_right(model: onnx.ModelProto) -> None:
    reorder(model, model.graph.output[0].name, axis=1, order=[2, 1, 0, 3], at_output=True)


def swap_blue_and_red(model: onnx.ModelProto) -> None:
    name = model.graph.input[0].name
    axis = len(model.graph.input[0].type.tensor_type.shape.dim) - 1
    reorder(model, name, axis=axis, order=[2, 1, 0], at_output=False)


def reorder(
    model: onnx.ModelProto, tensor: str, axis: int, order: list[int], at_output: bool
) -> None:
    graph = model.graph
    for node in graph.node:
        names = node.output if at_output else node.input
        names[:] = [f"{tensor}_straight" if name == tensor else name for name in names]
    indices = numpy_helper.from_array(np.array(order, np.int64), f"{tensor}_order")
    graph.initializer.append(indices)
    source, result = (f"{tensor}_straight", tensor) if at_output else (tensor, f"{tensor}_straight")
    gather = helper.make_node("Gather", [source, indices.name], [result], axis=axis)
    graph.node.insert(len(graph.node) if at_output else 0, gather)


def result_of(verification: Verification, artefact: str) -> ArtefactVerification:
    (verified,) = (a for a in verification.artefacts if a.artefact == artefact)
    return verified


def test_an_undamaged_bundle_passes(trained_bundle: Bundle, cache_dir: Path) -> None:
    verification = edge_tracker.verify(trained_bundle, computes=[None], cache_dir=cache_dir)
    assert verification.passed
    assert verification.reference == "onnx/fp32"
    for verified in verification.artefacts:
        assert verified.status == "passed"
        assert verified.reasons == ()
        assert verified.parity is not None
        assert 0 < verified.parity.box_px < 0.001
        assert verified.closed_loop is not None
        assert verified.closed_loop.iou_min > 0.9
    loop = result_of(verification, "onnx/fp32").closed_loop
    assert loop is not None
    assert loop.iou_min == pytest.approx(1.0)
    assert verification.reference_truth_iou_mean is not None
    assert verification.reference_truth_iou_mean > 0.5


@pytest.mark.parametrize(
    ("graph", "damage"),
    [
        ("search", scale_tensor(0)),
        ("template", scale_tensor(3)),
        ("search", scale_tensor(0, np.nan)),
        ("search", swap_left_and_right),
        ("search", swap_blue_and_red),
    ],
)
def test_a_damaged_model_fails(
    graph: str, damage: Damage, trained_bundle: Bundle, cache_dir: Path, tmp_path: Path
) -> None:
    folder = copy_of(trained_bundle, tmp_path)
    damage_onnx(folder, graph, damage)
    verification = verify(list_anew(folder), backends=["onnxruntime"], cache_dir=cache_dir)
    assert not verification.passed
    damaged = result_of(verification, "onnx/fp32")
    assert damaged.status == "failed"
    assert any("box error" in reason for reason in damaged.reasons)
    assert verification.reference == "openvino/fp32", "the damaged one is no reference"


@pytest.mark.parametrize("damage", [scale_tensor(0), swap_left_and_right])
def test_a_damaged_fp16_model_fails(
    damage: Damage, int8_bundle: Bundle, cache_dir: Path, tmp_path: Path
) -> None:
    folder = copy_of(int8_bundle, tmp_path)
    damage_onnx(folder, "search", damage)
    half = folder / "openvino" / "fp16"
    convert_to_openvino(folder / "onnx" / "fp32", half, "fp16", {})
    manifest = json.loads((folder / "manifest.json").read_text())
    kind = ("openvino", "fp32")
    (entry,) = (a for a in manifest["artefacts"] if (a["format"], a["precision"]) == kind)
    text = json.dumps(entry).replace("openvino/fp32", "openvino/fp16")
    manifest["artefacts"] = [{**json.loads(text), "precision": "fp16"}]
    for file in half.iterdir():
        manifest["files"][f"openvino/fp16/{file.name}"] = {}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (verified,) = verify(list_anew(folder), cache_dir=cache_dir).artefacts
    assert verified.status == "failed"
    assert verified.closed_loop is None, "there is no fp32 artefact to compare with"


def test_a_loop_that_comes_apart_fails_though_single_frames_are_right(
    trained_bundle: Bundle, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = openvino.OpenVinoGraph.start

    def start_on_wrong_templates(
        graph: openvino.OpenVinoGraph, inputs: dict[str, Any], into: Any = None
    ) -> object:
        # The tracker says where keys and values go; the replay of golden cases does not.
        if into is not None:
            inputs = {"templates": np.zeros_like(inputs["templates"])}
        return start(graph, inputs, into)

    monkeypatch.setattr(openvino.OpenVinoGraph, "start", start_on_wrong_templates)
    verification = verify(trained_bundle, cache_dir=cache_dir)
    verified = result_of(verification, "openvino/fp32")
    assert verified.parity is not None
    assert verified.parity.box_px <= LIMITS["fp32"].box_px
    assert verified.status == "failed"
    assert verified.reasons[0].startswith("mean IoU with the reference's trajectory")


def test_what_cannot_run_here_is_skipped(
    trained_bundle: Bundle, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> NoReturn:
        raise BackendUnavailable("no such device")

    refusing = [dataclasses.replace(each, open=refuse) if each.name == "openvino" else each
                for each in choice.BACKENDS]  # fmt: skip
    monkeypatch.setattr(choice, "BACKENDS", refusing)
    verification = verify(trained_bundle, cache_dir=cache_dir)
    skipped = result_of(verification, "openvino/fp32")
    assert (skipped.status, skipped.reasons) == ("skipped", ("no such device",))
    assert verification.passed
    assert not verify(trained_bundle, backends=["openvino"], cache_dir=cache_dir).passed


def test_altered_files_fail(trained_bundle: Bundle, cache_dir: Path, tmp_path: Path) -> None:
    folder = copy_of(trained_bundle, tmp_path)
    weights = folder / "openvino" / "fp32" / "search.bin"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\1\2\3")
    verified = result_of(verify(folder, cache_dir=cache_dir), "openvino/fp32")
    assert verified.status == "failed"
    assert "sha256" in verified.reasons[0]


def test_the_command_exits_with_1_and_names_the_limit(
    trained_bundle: Bundle,
    cache_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(openvino, "cache_folder", lambda folder: cache_dir)
    folder = copy_of(trained_bundle, tmp_path)
    report = tmp_path / "verified.json"
    assert main(["verify", str(folder), "--json", str(report)]) == 0
    assert json.loads(report.read_text())["passed"] is True
    assert "openvino/fp32" in capsys.readouterr().out

    damage_onnx(folder, "search", swap_left_and_right)
    list_anew(folder)
    assert main(["verify", str(folder), "--json", str(report)]) == 1
    assert json.loads(report.read_text())["passed"] is False
    error = capsys.readouterr().err
    assert error.startswith("edge-tracker: error: verification failed: onnx/fp32: box error ")
    assert "limit 0.01 px" in error
    assert main(["verify", str(folder), "--precision", "int8"]) == 1
    assert "nothing for int8, only: onnxruntime fp32, openvino fp32" in capsys.readouterr().err


def test_the_table_shows_limits_in_three_digits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verified = ArtefactVerification(
        artefact="openvino/int8",
        compute="f32",
        backend="openvino",
        device="CPU",
        status="passed",
        reasons=(),
        parity=Parity(2.53297, 0.0812345, 0.341234),
        parity_limits=Parity(3.79945, 0.12185175, 0.511851),
        closed_loop=None,
    )
    verification = Verification("int8.bundle", None, None, 60, (verified,))
    monkeypatch.setattr("edge_tracker.measure.verify.verify", lambda *_, **__: verification)
    assert main(["verify", "int8.bundle"]) == 0
    printed = capsys.readouterr().out
    for cell in ("2.5e+00 (3.8)", "8.1e-02 (0.122)", "3.4e-01 (0.512)"):
        assert cell in printed


def test_errors_are_in_pixels_of_the_crop_and_nats() -> None:
    expected = np.zeros((1, 4, 8), np.float32)
    expected[:, :, 2] = 1
    seen = expected.copy()
    seen[0, 1] = [0, 0, 0.5, 0.5, 0, 0, 0, 0]
    scores = (np.array([score], np.float32) for score in (0.5, 0.75))
    expected_outputs, seen_outputs = map(Outputs, (expected, seen), scores)
    found = differences(expected_outputs, seen_outputs, search_size_px=64)
    half_a_bin_px = 0.5 * 64 / 8
    assert found.box_px.tolist() == [[0, half_a_bin_px, 0, 0]]
    assert astuple(largest(found)) == pytest.approx((half_a_bin_px, 0.25, np.log(2)))


def test_differences_of_no_numbers_are_no_numbers() -> None:
    nothing = np.full((1, 4, 8), np.nan, np.float32)
    outputs = Outputs(nothing, np.array([np.nan], np.float32))
    assert np.isnan(astuple(largest(differences(outputs, outputs, search_size_px=64)))).all()


@pytest.mark.parametrize("damage", ["missing", "text", "shape"])
def test_a_bad_golden_file_is_named(trained_bundle: Bundle, tmp_path: Path, damage: str) -> None:
    folder = copy_of(trained_bundle, tmp_path)
    path = folder / GOLDEN
    if damage == "missing":
        path.unlink()
        bundle = open_bundle(folder)
    else:
        golden = load_golden(trained_bundle)
        path.write_bytes(b"no archive")
        if damage == "shape":
            np.savez(path, **{**vars(golden), "score": golden.score[1:]})
        bundle = list_anew(folder)
    with pytest.raises(BundleError, match=GOLDEN):
        verify(bundle)


@pytest.mark.parametrize(
    ("parity", "limits"),
    [
        (None, LIMITS["int8"]),
        (Parity(0.1, 0.2, 0.01), Parity(3.0, 0.3, 0.2)),
        (Parity(4.0, 0.01, 0.4), Parity(6.0, 0.1, 0.6)),
    ],
)
def test_int8_may_err_by_what_it_did_when_it_was_judged_and_a_margin(
    nano_bundle: Bundle, parity: Parity | None, limits: Parity
) -> None:
    onnx = replace(nano_bundle.artefacts[0], format="onnx", precision="int8", parity=parity)
    openvino = replace(onnx, format="openvino", parity=Parity(100.0, 1.0, 100.0))
    engine = replace(onnx, format="tensorrt", parity=None)
    bundle = replace(nano_bundle, artefacts=(openvino, onnx, engine))
    for judged in (onnx, engine):
        assert astuple(limits_for(bundle, judged)) == pytest.approx(astuple(limits))
    assert limits_for(bundle, replace(onnx, precision="fp16")) == LIMITS["fp16"]
