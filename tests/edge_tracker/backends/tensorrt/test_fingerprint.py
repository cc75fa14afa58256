"""Which engine is taken, what is refused before TensorRT sees it, and what runs instead."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from converters.tensorrt.build import build
from converters.tensorrt.engine_builder import BuildOptions
from edge_tracker import EngineMismatch, open_bundle
from edge_tracker.backends.choice import open_graphs
from edge_tracker.bundle.opening import Bundle
from edge_tracker.cli.main import main
from edge_tracker.errors import EdgeTrackerError
from edge_tracker.hardware import CudaDevice
from tests.helpers.fake_tensorrt import NO_NVIDIA, ORIN, FakeMachine


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    return FakeMachine(monkeypatch)


@pytest.fixture(scope="module")
def built(nano_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX pairs and an engine in fp16, as built on the fake Orin; OpenVINO is left out."""
    folder = tmp_path_factory.mktemp("dispatch") / "nano"
    shutil.copytree(nano_bundle.path, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["artefacts"] = [a for a in manifest["artefacts"] if a["format"] == "onnx"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.MonkeyPatch.context() as monkeypatch:
        FakeMachine(monkeypatch)
        build(folder, BuildOptions("fp16"))
    return folder


def engine_file(bundle: Path, name: str = "search.engine") -> Path:
    (file,) = bundle.glob(f"tensorrt/*/{name}")
    return file


def another_gpu(machine: FakeMachine, bundle: Path) -> None:
    machine.become(replace(ORIN, devices=(CudaDevice("NVIDIA Thor", "11.0"),)))


def another_jetpack(machine: FakeMachine, bundle: Path) -> None:
    machine.become(replace(ORIN, l4t="38.2.0", cuda="13.0"))


def another_tensorrt(machine: FakeMachine, bundle: Path) -> None:
    machine.trt.__version__ = "10.13.3"


def another_onnx(machine: FakeMachine, bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["onnx/fp16/weights.bin"]["sha256"] = "0" * 64
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def truncated_engine(machine: FakeMachine, bundle: Path) -> None:
    file = engine_file(bundle)
    file.write_bytes(file.read_bytes()[:100])


def altered_fingerprint(machine: FakeMachine, bundle: Path) -> None:
    file = engine_file(bundle, "engine.json")
    file.write_text(file.read_text().replace("8.7", "9.7"))


def no_driver(machine: FakeMachine, bundle: Path) -> None:
    machine.become(NO_NVIDIA)


def no_device(machine: FakeMachine, bundle: Path) -> None:
    machine.become(replace(ORIN, devices=()))


def no_tensorrt(machine: FakeMachine, bundle: Path) -> None:
    machine.lose("tensorrt")


def no_bindings(machine: FakeMachine, bundle: Path) -> None:
    machine.lose("pycuda")
    machine.lose("cuda.bindings")


def pycuda_that_does_not_load(machine: FakeMachine, bundle: Path) -> None:
    machine.lose("pycuda.driver")


def bindings_without_a_driver(machine: FakeMachine, bundle: Path) -> None:
    """What they raise where libcuda is missing."""

    def init(flags: int) -> None:
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    machine.swap_pycuda_for_bindings()
    sys.modules["cuda.bindings.driver"].cuInit = init  # type: ignore[attr-defined]


def bindings_refused_by_the_driver(machine: FakeMachine, bundle: Path) -> None:
    machine.swap_pycuda_for_bindings(refuse="cuInit")


def no_gpu_memory(machine: FakeMachine, bundle: Path) -> None:
    machine.cuda.memory_bytes = 1000


def refused_engine(machine: FakeMachine, bundle: Path) -> None:
    machine.trt.refuses.add("deserialise")


def swapped_engines(machine: FakeMachine, bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    graphs = manifest["artefacts"][-1]["graphs"]
    graphs["template"], graphs["search"] = graphs["search"], graphs["template"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))


REBUILD = "edge-tracker build {bundle} --to tensorrt"
Obstacle = Callable[[FakeMachine, Path], None]
OBSTACLES: dict[Obstacle, tuple[str, str]] = {
    another_gpu: ("GPU Orin when it was built, NVIDIA Thor here", REBUILD),
    another_jetpack: ("Jetson Linux 36.4.3 when it was built, 38.2.0 here", REBUILD),
    another_tensorrt: ("TensorRT 10.3.0 when it was built, 10.13.3 here", REBUILD),
    another_onnx: ("the ONNX in the bundle is another one than it was built from", REBUILD),
    truncated_engine: ("search.engine has 100 bytes, expected", REBUILD),
    altered_fingerprint: ("engine.json was altered", REBUILD),
    no_driver: ("the NVIDIA driver is missing", "install NVIDIA's driver"),
    no_device: ("no CUDA device that this process may use", "--gpus all"),
    no_tensorrt: ("no tensorrt or tensorrt_rtx module", "sudo apt install python3-libnvinfer"),
    no_bindings: ("neither cuda.bindings nor pycuda", "pip install 'cuda-bindings==12.*'"),
    pycuda_that_does_not_load: ("pycuda does not load", "--force-reinstall"),
    bindings_without_a_driver: ("gives no context on device 0 (Failed to dlopen", "restart"),
    bindings_refused_by_the_driver: ("(cuInit failed: operation not permitted)", "restart"),
    no_gpu_memory: ("out of GPU memory", "close other programs"),
    refused_engine: ("it was told to", REBUILD),
    swapped_engines: ("search.engine as the template graph", REBUILD),
}
obstacles = pytest.mark.parametrize("obstacle", OBSTACLES, ids=lambda o: o.__name__)


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Path:
    """The fake engine names the ONNX that it stands for by its first place, which stays."""
    return shutil.copytree(built, tmp_path / "copy")


def test_auto_takes_the_engine_that_belongs_here(machine: FakeMachine, bundle: Path) -> None:
    graphs = open_graphs(open_bundle(bundle))
    assert (graphs.choice.backend, graphs.choice.precision) == ("tensorrt", "fp16")
    assert graphs.choice.device == "CUDA 0 (Orin)"
    graphs.close()


def test_an_engine_of_the_wanted_precision_or_none(machine: FakeMachine, bundle: Path) -> None:
    graphs = open_graphs(open_bundle(bundle), precision="fp32")
    assert graphs.choice.backend == "onnxruntime"
    assert "edge-tracker build" in graphs.choice.reasons[0]
    graphs.close()


def test_of_several_engines_the_one_for_this_gpu(machine: FakeMachine, bundle: Path) -> None:
    another_gpu(machine, bundle)
    build(bundle, BuildOptions("fp16"))
    assert len(open_bundle(bundle).artefacts) == 4
    for nvidia in (ORIN, replace(ORIN, devices=(CudaDevice("NVIDIA Thor", "11.0"),))):
        machine.become(nvidia)
        graphs = open_graphs(open_bundle(bundle), backend="tensorrt")
        assert nvidia.devices[0].name in graphs.choice.device
        graphs.close()


@obstacles
def test_auto_falls_through_with_a_warning_that_says_why(
    machine: FakeMachine, bundle: Path, obstacle: Obstacle
) -> None:
    obstacle(machine, bundle)
    reason, remedy = (text.format(bundle=bundle) for text in OBSTACLES[obstacle])
    with pytest.warns(RuntimeWarning, match=r"^tensorrt.* is not used: ") as warned:
        graphs = open_graphs(open_bundle(bundle), precision=None)
    graphs.close()
    assert len(warned) == 1
    assert reason in str(warned[0].message)
    assert remedy in str(warned[0].message)
    assert str(warned[0].message).endswith("; onnx/fp32 is used instead, by onnxruntime on CPU")
    assert graphs.choice.backend == "onnxruntime"
    assert reason in graphs.choice.reasons[0]


@obstacles
def test_asked_for_it_fails_in_one_line_with_the_remedy_and_the_bundle_unharmed(
    machine: FakeMachine,
    bundle: Path,
    obstacle: Obstacle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    obstacle(machine, bundle)
    before = {file: file.read_bytes() for file in bundle.rglob("*") if file.is_file()}
    clip = tmp_path / "frames"
    clip.mkdir()
    (clip / "0.png").write_bytes(b"never read")
    arguments = ["track", str(bundle), str(clip), "--box", "1,1,9,9", "--backend", "tensorrt"]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    reason, remedy = (text.format(bundle=bundle) for text in OBSTACLES[obstacle])
    assert reason in printed.err
    assert remedy in printed.err
    assert {file: file.read_bytes() for file in bundle.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("obstacle", [another_gpu, another_jetpack, another_tensorrt, another_onnx])
def test_tensorrt_does_not_see_an_engine_that_belongs_elsewhere(
    machine: FakeMachine, bundle: Path, obstacle: Obstacle
) -> None:
    obstacle(machine, bundle)
    with pytest.raises(EngineMismatch):
        open_graphs(open_bundle(bundle), backend="tensorrt")
    assert machine.cuda.calls == []


def test_a_device_that_is_not_there_is_named(machine: FakeMachine, bundle: Path) -> None:
    with pytest.raises(EdgeTrackerError, match=r"no device '3' here: choose 0 \(Orin\)"):
        open_graphs(open_bundle(bundle), backend="tensorrt", device="3")
