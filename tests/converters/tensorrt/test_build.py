"""Building engines into a bundle, with a TensorRT that records what it is told."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from converters.tensorrt.build import build
from converters.tensorrt.engine_builder import BuildOptions
from converters.tensorrt.quantisers import refuse_unsigned_quantisers
from edge_tracker import open_bundle
from edge_tracker.bundle import writing
from edge_tracker.bundle.opening import Bundle
from edge_tracker.cli.main import main
from edge_tracker.errors import BackendUnavailable, BundleError, EdgeTrackerError
from mixformerv2.geometries import NANO
from tests.helpers.fake_tensorrt import NO_NVIDIA, ORIN, FakeMachine
from tests.helpers.places import REPOSITORY


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    return FakeMachine(monkeypatch)


@pytest.fixture
def bundle(nano_bundle: Bundle, tmp_path: Path) -> Path:
    folder = tmp_path / "nano"
    for part in ("onnx", "golden.npz", "manifest.json"):
        source = nano_bundle.path / part
        folder.mkdir(exist_ok=True)
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / part)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["artefacts"] = [a for a in manifest["artefacts"] if a["format"] == "onnx"]
    manifest["files"] = {
        path: facts for path, facts in manifest["files"].items() if (folder / path).is_file()
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def contents(bundle: Path) -> dict[str, bytes]:
    return {
        file.relative_to(bundle).as_posix(): file.read_bytes()
        for file in sorted(bundle.rglob("*"))
        if file.is_file()
    }


def folders(bundle: Path) -> list[Path]:
    return sorted((bundle / "tensorrt").iterdir())


def test_engines_and_fingerprint_go_into_the_bundle(machine: FakeMachine, bundle: Path) -> None:
    before = contents(bundle)
    built = build(bundle, BuildOptions("fp16"))
    (folder,) = folders(bundle)
    assert folder.name.startswith("sm87-tensorrt10.3.0-fp16-")
    assert {file.name for file in folder.iterdir()} == {
        "template.engine",
        "search.engine",
        "engine.json",
        "timing.cache",
    }
    engine_json = json.loads((folder / "engine.json").read_text())
    onnx_sha256 = engine_json.pop("onnx_sha256")
    assert len(onnx_sha256) == 64
    assert engine_json == {
        "module": "tensorrt",
        "tensorrt": "10.3.0",
        "compute_capability": "8.7",
        "gpu": "Orin",
        "cuda": "12.6",
        "l4t": "36.4.3",
        "precision": "fp16",
        "max_targets": 1,
    }
    built.check_files(list(built.manifest["files"]))
    assert set(contents(bundle)) == {*built.manifest["files"], "manifest.json"}
    after = contents(bundle)
    assert all(after[path] == before[path] for path in before if path != "manifest.json")
    (artefact,) = (a for a in built.artefacts if a.format == "tensorrt")
    source = built.find("onnx", "fp16")
    assert source is not None
    assert artefact.graphs["search"].inputs == source.graphs["search"].inputs


def test_strong_typing_is_asked_for_by_name_and_one_profile_spans_the_targets(
    machine: FakeMachine, bundle: Path
) -> None:
    for flag_bit in (0, 1):
        machine.trt.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=flag_bit)
        machine.trt.build_calls.clear()
        build(bundle, BuildOptions("fp16", workspace_mb=512, max_targets=3))
        calls = machine.trt.build_calls
        assert [c[1] for c in calls if c[0] == "create_network"] == 2 * [1 << flag_bit]
        assert [c[2] for c in calls if c[0] == "workspace"] == 2 * [512 << 20]
        assert not [c for c in calls if c[0] == "set_flag"]
        template, search = (c[1] for c in calls if c[0] == "profile")
        template_px, search_px = 2 * [NANO.template_size_px], 2 * [NANO.search_size_px]
        one, three = ((targets, 2, *template_px, 3) for targets in (1, 3))
        assert template == {"templates": (one, three, three)}
        one, three = ((targets, *search_px, 3) for targets in (1, 3))
        assert search["search"] == (one, three, three)
        assert search["template_kv"][0][0] == 1
        assert search["template_kv"][2][0] == 3


@pytest.mark.parametrize(("precision", "flags"), [("fp32", []), ("fp16", ["FP16", "FP16"])])
def test_tensorrt_8_has_weak_typing_and_a_flag_for_precision(
    machine: FakeMachine, bundle: Path, precision: str, flags: list[str]
) -> None:
    machine.trt.NetworkDefinitionCreationFlag = SimpleNamespace(EXPLICIT_BATCH=0)
    del machine.trt.IProgressMonitor
    build(bundle, BuildOptions(precision), on_progress=lambda *step: None)
    assert [c[1] for c in machine.trt.build_calls if c[0] == "create_network"] == [1, 1]
    assert [c[1] for c in machine.trt.build_calls if c[0] == "set_flag"] == flags


def test_the_timing_cache_is_shared_by_both_graphs_and_by_the_next_build(
    machine: FakeMachine, bundle: Path
) -> None:
    for expected in ([b"", b"+"], [b"++", b"+++"]):
        machine.trt.build_calls.clear()
        build(bundle, BuildOptions("fp16"))
        assert [c[1] for c in machine.trt.build_calls if c[0] == "timing cache"] == expected
    machine.trt.__version__ = "10.7.0"
    machine.trt.build_calls.clear()
    build(bundle, BuildOptions("fp16"))
    assert [c[1] for c in machine.trt.build_calls if c[0] == "timing cache"] == [b"", b"+"]


def test_a_rebuild_replaces_its_own_kind_and_nothing_else(
    machine: FakeMachine, bundle: Path
) -> None:
    build(bundle, BuildOptions("fp16"))
    build(bundle, BuildOptions("fp32"))
    fp16, fp32 = folders(bundle)
    rebuilt = build(bundle, BuildOptions("fp16"))
    assert not fp16.exists()
    assert fp32.exists()
    assert len(folders(bundle)) == 2
    names = [artefact.name for artefact in rebuilt.artefacts]
    assert names == ["onnx/fp32", "onnx/fp16", "tensorrt/fp32", "tensorrt/fp16"]
    rebuilt.check_files(list(rebuilt.manifest["files"]))


def test_a_damaged_engine_is_replaced(machine: FakeMachine, bundle: Path) -> None:
    build(bundle, BuildOptions("fp16"))
    (folders(bundle)[0] / "engine.json").write_text("{")
    rebuilt = build(bundle, BuildOptions("fp16"))
    assert len(folders(bundle)) == 1
    rebuilt.check_files(list(rebuilt.manifest["files"]))


@pytest.mark.parametrize("refused", ["builder", "parse", "build"])
def test_a_failed_build_says_what_tensorrt_said_and_leaves_the_bundle(
    machine: FakeMachine, bundle: Path, refused: str
) -> None:
    build(bundle, BuildOptions("fp16"))
    before = contents(bundle)
    machine.trt.refuses.add(refused)
    said = "unsupported input type" if refused == "parse" else "it was told to"
    with pytest.raises(EdgeTrackerError, match=said) as error:
        build(bundle, BuildOptions("fp16"))
    assert "tensorrt 10.3.0" in str(error.value)
    assert contents(bundle) == before


def test_ctrl_c_ends_the_build_and_leaves_the_bundle(machine: FakeMachine, bundle: Path) -> None:
    before = contents(bundle)

    def interrupt(done: int, total: int | None, words: str) -> None:
        assert (done, total, words) == (1, 2, "template engine: Timing tactics")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(bundle, BuildOptions("fp16"), on_progress=interrupt)
    assert contents(bundle) == before
    assert not (bundle / "tensorrt").exists()


def test_a_manifest_that_cannot_be_written_leaves_the_bundle(
    machine: FakeMachine, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(bundle, BuildOptions("fp16"))
    before = contents(bundle)

    def full_disk(target: Path, *_: object) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(writing, "_write_in_one_step", full_disk)
    with pytest.raises(OSError, match="No space left"):
        build(bundle, BuildOptions("fp32"))
    assert contents(bundle) == before
    open_bundle(bundle).check_files(list(open_bundle(bundle).manifest["files"]))


def test_without_a_gpu_plain_tensorrt_says_that_it_needs_one(
    machine: FakeMachine, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.become(NO_NVIDIA)
    assert main(["build", str(bundle), "--to", "tensorrt"]) == 1
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "no CUDA device" in printed
    assert "--compute-capability 8.6" in printed
    with pytest.raises(BackendUnavailable, match="only TensorRT for RTX builds for another GPU"):
        build(bundle, BuildOptions(compute_capability="8.6"))
    machine.become(ORIN)
    machine.lose("tensorrt")
    with pytest.raises(BackendUnavailable, match="python3-libnvinfer"):
        build(bundle, BuildOptions())


def test_a_bundle_without_that_onnx_says_how_to_get_it(machine: FakeMachine, bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"no onnx/int8.*--precision int8 --calibration"):
        build(bundle, BuildOptions("int8"))
    weights = bundle / "onnx/fp16/weights.bin"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"weights\.bin has"):
        build(bundle, BuildOptions("fp16"))


def test_options_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="unknown precision 'fp8'"):
        BuildOptions("fp8")
    with pytest.raises(ValueError, match="max_targets 0"):
        BuildOptions(max_targets=0)


def test_building_needs_neither_torch_nor_onnx() -> None:
    script = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxruntime', 'openvino'): sys.modules[name] = None\n"
        "import converters.tensorrt.build, edge_tracker.backends.tensorrt.opening"
    )
    assert (
        subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=False).returncode == 0
    )


# Quantisers


def quantised(folder: Path, zero_point: np.ndarray | None, external: bool = False) -> Path:
    """A graph with one pair of quantisers, of the tensor "tokens"."""
    scale = onnx.numpy_helper.from_array(np.array(0.1, np.float32), "scale")
    inputs, initialisers = ["tokens", "scale"], [scale]
    if zero_point is not None:
        inputs.append("zero")
        initialisers.append(onnx.numpy_helper.from_array(zero_point, "zero"))
    nodes = [
        onnx.helper.make_node("QuantizeLinear", inputs, ["q"]),
        onnx.helper.make_node("DequantizeLinear", ["q", *inputs[1:]], ["out"]),
    ]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["targets", 4])
        for name in ("tokens", "out")
    ]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], initialisers)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    path = folder / "quantised.onnx"
    onnx.save(model, path, save_as_external_data=external, location="w.bin", size_threshold=0)
    return path


@pytest.mark.parametrize("external", [False, True])
def test_int8_around_zero_is_taken(tmp_path: Path, external: bool) -> None:
    refuse_unsigned_quantisers(quantised(tmp_path, np.array(0, np.int8), external))
    refuse_unsigned_quantisers(quantised(tmp_path, np.zeros(4, np.int8), external))


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize(
    ("zero_point", "message"),
    [
        (np.array(0, np.uint8), "is not int8"),
        (np.array(-3, np.int8), "other than 0"),
        (np.array([0, 0, 0, 1], np.int8), "other than 0"),
        (None, "is unsigned, as it has no zero point"),
    ],
)
def test_other_quantisers_are_refused_with_the_tensor_s_name(
    tmp_path: Path, zero_point: np.ndarray | None, message: str, external: bool
) -> None:
    path = quantised(tmp_path, zero_point, external)
    with pytest.raises(EdgeTrackerError, match=message) as error:
        refuse_unsigned_quantisers(path)
    assert "'tokens'" in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(("value", "refused"), [(0, False), (5, True)])
@pytest.mark.parametrize("as_constant_node", [False, True])
def test_zero_points_in_every_encoding_are_read(
    tmp_path: Path, value: int, refused: bool, as_constant_node: bool
) -> None:
    """make_tensor stores small integers as int32_data; exporters also write Constant nodes."""
    path = quantised(tmp_path, np.array(0, np.int8))
    model = onnx.load(path)
    zero_point = onnx.helper.make_tensor("zero", onnx.TensorProto.INT8, [], [value])
    del model.graph.initializer[1]
    if as_constant_node:
        node = onnx.helper.make_node("Constant", [], ["zero"], value=zero_point)
        model.graph.node.insert(0, node)
    else:
        model.graph.initializer.append(zero_point)
    onnx.save(model, path)
    if not refused:
        refuse_unsigned_quantisers(path)
        return
    with pytest.raises(EdgeTrackerError, match="other than 0"):
        refuse_unsigned_quantisers(path)


@pytest.mark.parametrize("content", [b"", b"\x3a\xff", b"no ONNX at all"])
def test_what_is_no_onnx_is_a_bundle_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"broken\.onnx is not a readable ONNX"):
        refuse_unsigned_quantisers(path)


def test_build_refuses_them_before_tensorrt_sees_them(
    machine: FakeMachine, bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bad = quantised(tmp_path, np.array(0, np.uint8))
    shutil.copy(bad, bundle / "onnx/fp16/search.onnx")
    monkeypatch.setattr(Bundle, "check_files", lambda self, paths: None)
    with pytest.raises(EdgeTrackerError, match="tokens"):
        build(bundle, BuildOptions("fp16"))
    assert machine.trt.build_calls == []
