"""The type of arithmetic: refused where it is lacking, taken where it is faster and right."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_tracker import BackendUnavailable, EdgeTracker, open_bundle
from edge_tracker.backends import choice, compute, onnxruntime, openvino
from edge_tracker.backends.choice import open_graphs
from edge_tracker.backends.compile_cache import load_kept, store_kept
from edge_tracker.backends.graph import CompiledGraph, TemplateGraph
from edge_tracker.backends.parity import COMPUTE_LIMITS, LIMITS
from edge_tracker.backends.record import NEEDS, Backend, Obstacle, Placement, row_name
from edge_tracker.bundle.goldens import GOLDEN
from edge_tracker.bundle.manifest import Artefact
from edge_tracker.bundle.opening import Bundle
from edge_tracker.cli.main import main
from edge_tracker.measure.bench.benchmark import benchmark
from edge_tracker.measure.rows import rows_to_measure
from edge_tracker.measure.verify import verify


@dataclasses.dataclass
class FakeCpu:
    """ONNX Runtime as if on a CPU with bfloat16, by a clock of its own: a run takes a second in
    float32 and none in bfloat16, which errs by a share of each distribution that moves to the last
    bin. pause_s: what that second takes by everybody's clock.
    """

    error: float = 0.0
    types: tuple[str, ...] = ("f32", "bf16")
    slow: str = "f32"
    fails: str | None = None
    pause_s: float = 0.0
    now_s: float = 0.0
    opened: list[str | None] = dataclasses.field(default_factory=list)

    def backend(self) -> Backend:
        return dataclasses.replace(
            onnxruntime.BACKEND,
            name="fake",
            open=self.open,
            computes=lambda artefact, device: self.types,
        )

    def open(
        self, bundle: Bundle, artefact: Artefact, placement: Placement
    ) -> tuple[TemplateGraph, CompiledGraph, str]:
        self.opened.append(placement.compute)
        template, search, device = onnxruntime.compile_graphs(bundle, artefact, placement)
        error = self.error if placement.compute == "bf16" else 0.0
        run_s = float((placement.compute or "f32") == self.slow)
        fails = self.fails is not None and placement.compute == self.fails
        return template, Altered(search, error, run_s, self, fails), device

    def perf_counter(self) -> float:
        return self.now_s


class Altered:
    def __init__(
        self, graph: CompiledGraph, error: float, run_s: float, cpu: FakeCpu, fails: bool
    ) -> None:
        self.graph, self.error, self.run_s, self.cpu = graph, error, run_s, cpu
        self.fails = fails
        self.input_names, self.output_names = graph.input_names, graph.output_names
        self.most_targets = graph.most_targets
        self.start, self.time_copies, self.close = graph.start, graph.time_copies, graph.close

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.fails:
            raise RuntimeError("no such instruction")
        self.cpu.now_s += self.run_s
        time.sleep(self.run_s * self.cpu.pause_s)
        outputs = dict(self.graph.run(inputs))
        probs = outputs["edge_probs"] * np.float32(1 - self.error)
        probs[..., -1] += np.float32(self.error)
        return {**outputs, "edge_probs": probs}


def on(cpu: FakeCpu, monkeypatch: pytest.MonkeyPatch) -> FakeCpu:
    monkeypatch.setattr(choice, "BACKENDS", (cpu.backend(),))
    monkeypatch.setattr("edge_tracker.backends.compute.time", cpu)
    return cpu


def describe(bundle: Bundle, cache: Path, **options: Any) -> str:
    with EdgeTracker(bundle, num_threads=1, cache_dir=cache, **options) as tracker:
        return f"{tracker.choice.compute}\n{tracker.describe()}"


@pytest.mark.parametrize("options", [{}, {"compute": "auto"}])
def test_where_there_is_one_type_nothing_is_measured(
    options: dict[str, str], nano_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpu = on(FakeCpu(types=("f32",)), monkeypatch)
    says = "f32\nfake: chosen, onnx/fp32 in f32 on CPU"
    assert describe(nano_bundle, tmp_path, **options) == says
    assert cpu.opened == ["f32"]
    assert list(tmp_path.iterdir()) == []


def test_none_is_what_the_artefact_is_made_for(
    nano_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpu = on(FakeCpu(), monkeypatch)
    says = "f32\nfake: chosen, onnx/fp32 in f32 on CPU"
    assert describe(nano_bundle, tmp_path, compute=None) == says
    assert cpu.opened == [None]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("compute", ["f32", "bf16"])
def test_a_type_that_is_asked_for_is_what_it_computes_in(
    compute: str, nano_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpu = on(FakeCpu(), monkeypatch)
    assert describe(nano_bundle, tmp_path, compute=compute).startswith(compute)
    assert cpu.opened == [compute]


def test_without_the_hardware_a_type_is_refused_with_what_it_needs_and_the_remedy(
    nano_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on(FakeCpu(types=("f32",)), monkeypatch)
    says = "there is onnx/fp32 in f32 on this machine, nothing in bf16, which needs an OpenVINO "
    for backend in ("auto", "fake"):
        with pytest.raises(BackendUnavailable, match=says) as refusal:
            EdgeTracker(nano_bundle, backend=backend, cache_dir=tmp_path, compute="bf16")
        assert "ask for f32 or auto" in str(refusal.value)
    assert describe(nano_bundle, tmp_path, compute="auto").startswith("f32")


def test_unless_asked_it_takes_the_faster_type_says_why_and_remembers(
    nano_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpu = on(FakeCpu(error=1e-4), monkeypatch)
    first = describe(nano_bundle, tmp_path)
    compute, why, chosen = first.splitlines()
    assert compute == "bf16"
    assert why.startswith("fake: onnx/fp32 in bf16 by measurement: onnx/fp32 in f32 takes ")
    assert "px from PyTorch" in why
    assert chosen == "fake: chosen, onnx/fp32 in bf16 on CPU"
    assert cpu.opened == ["f32", "bf16", "bf16"]
    assert describe(nano_bundle, tmp_path, compute="auto") == first
    assert cpu.opened == ["f32", "bf16", "bf16", "bf16"]


def test_auto_stays_where_the_faster_type_breaks_the_golden_cases_and_says_so(
    nano_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on(FakeCpu(error=0.05), monkeypatch)
    compute, why, _ = describe(nano_bundle, tmp_path, compute="auto").splitlines()
    assert compute == "f32"
    assert "but strays from PyTorch: box error " in why
    assert "limit 0.5 px" in why


def test_auto_stays_where_the_other_type_is_no_faster(
    nano_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on(FakeCpu(slow="bf16"), monkeypatch)
    assert describe(nano_bundle, tmp_path, compute="auto").startswith("f32")


def test_auto_stays_where_golden_cases_are_damaged(
    nano_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A tracker does without them."""
    folder = Path(shutil.copytree(nano_bundle.path, tmp_path / "bundle"))
    (folder / GOLDEN).write_bytes(b"damaged")
    on(FakeCpu(), monkeypatch)
    compute, why, _ = describe(open_bundle(folder), tmp_path).splitlines()
    assert compute == "f32"
    assert why.startswith("fake: onnx/fp32 in f32 without a measurement: ")
    assert GOLDEN in why


def test_auto_takes_no_other_artefact(nano_bundle: Bundle, tmp_path: Path) -> None:
    """Which precision is a choice of its own; a damaged fp16 model is none of its business."""
    folder = Path(shutil.copytree(nano_bundle.path, tmp_path / "bundle"))
    (folder / "onnx/fp16/search.onnx").write_bytes(b"damaged")
    chosen = describe(open_bundle(folder), tmp_path, backend="onnxruntime")
    assert chosen == "f32\nonnxruntime: chosen, onnx/fp32 in f32 on CPU"


def test_beside_int8_nothing_is_measured(
    int8_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpu = on(FakeCpu(), monkeypatch)
    chosen = describe(int8_bundle, tmp_path, precision="int8")
    assert chosen == "f32\nfake: chosen, onnx/int8 in f32 on CPU"
    assert cpu.opened == ["f32"]


@pytest.mark.parametrize("keeps", [True, False])
def test_threads_that_start_together_measure_once(
    keeps: bool, nano_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpu = on(FakeCpu(), monkeypatch)
    if not keeps:
        monkeypatch.setattr(choice, "cache_folder", lambda folder: None)
        monkeypatch.setattr(compute, "_unkept", {})
    with ThreadPoolExecutor(4) as pool:
        chosen = {*pool.map(lambda _: describe(nano_bundle, tmp_path), range(4))}
    assert len(chosen) == 1
    assert ("as nothing can be kept" in chosen.pop()) == (not keeps)
    assert cpu.opened == ["f32", *["bf16"] * 5]


def test_what_cannot_run_is_tried_again(
    nano_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpu = on(FakeCpu(fails="bf16"), monkeypatch)
    assert "onnx/fp32 in bf16 cannot run" in describe(nano_bundle, tmp_path)
    cpu.fails = None
    assert describe(nano_bundle, tmp_path).startswith("bf16")


def test_a_type_within_the_limits_is_taken_for_a_first_that_is_not(
    nano_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on a GPU, where half precision comes first."""
    on(FakeCpu(error=0.05, types=("bf16", "f32")), monkeypatch)
    chosen, why, _ = describe(nano_bundle, tmp_path).splitlines()
    assert chosen == "f32"
    assert "onnx/fp32 in bf16 takes 0.00 ms a frame, but strays from PyTorch" in why


@pytest.mark.parametrize("kept", ["damaged", "of another shape", "of another machine"])
def test_what_is_remembered_wrongly_is_measured_anew(
    kept: str, nano_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpu = on(FakeCpu(), monkeypatch)
    describe(nano_bundle, tmp_path, compute="auto")
    (verdict,) = tmp_path.glob("*.verdict")
    if kept == "damaged":
        verdict.write_bytes(verdict.read_bytes()[:-1])
    else:
        known = load_kept(tmp_path, verdict.name)
        assert known is not None
        content = json.loads(known)
        if kept == "of another shape":
            content["trials"] = {"onnx/fp32 in f32": 3}
        else:
            content["facts"]["cpu"] = ["another"]
        store_kept(tmp_path, verdict.name, json.dumps(content).encode())
    describe(nano_bundle, tmp_path, compute="auto")
    assert cpu.opened == ["f32", "bf16", "bf16"] * 2


def test_another_bundle_or_number_of_threads_is_measured_by_itself(
    nano_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on(FakeCpu(), monkeypatch)
    for threads in (1, 2):
        graphs = open_graphs(nano_bundle, num_threads=threads, cache_dir=tmp_path, compute="auto")
        graphs.close()
    assert len(list(tmp_path.glob("*.verdict"))) == 2


def test_onnx_runtime_computes_in_the_type_of_the_file(nano_bundle: Bundle, tmp_path: Path) -> None:
    with EdgeTracker(nano_bundle, cache_dir=tmp_path, compute="f16", backend="onnxruntime") as half:
        assert (half.choice.precision, half.choice.compute) == ("fp16", "f16")
    with pytest.raises(
        BackendUnavailable, match="there is onnx/fp32 in f32 on this machine, nothing"
    ):
        EdgeTracker(nano_bundle, backend="onnxruntime", precision="fp32", compute="f16")


def test_openvino_has_what_the_cpu_has(
    nano_bundle: Bundle, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the CPU itself reports, and as another might."""
    artefact = nano_bundle.find("openvino", "fp32")
    assert artefact is not None
    capabilities = openvino.openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    here = openvino.BACKEND.computes(artefact, None)
    assert here[0] == "f32"
    assert ("bf16" in here) == ("BF16" in capabilities)
    if "bf16" not in here:
        with pytest.raises(BackendUnavailable, match=NEEDS["bf16"]):
            open_graphs(nano_bundle, backend="openvino", compute="bf16", cache_dir=cache_dir)

    class AnotherCore:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8", "BF16"] if device == "CPU" else ["FP32", "FP16", "INT8"]

    monkeypatch.setattr(openvino, "openvino_core", AnotherCore)
    int8 = dataclasses.replace(artefact, precision="int8")
    assert openvino.BACKEND.computes(artefact, None) == ("f32", "bf16")
    assert openvino.BACKEND.computes(int8, "CPU") == ("bf16", "f32")
    assert openvino.BACKEND.computes(artefact, "GPU") == ("f16", "f32")


def test_on_a_cpu_with_bfloat16_auto_tells_a_network_that_bears_it_from_one_that_does_not(
    trained_bundle: Bundle, nano_bundle: Bundle, cache_dir: Path
) -> None:
    """Really, where FakeCpu stands in above. The random weights are loud: bfloat16 moves boxes."""
    artefact = nano_bundle.find("openvino", "fp32")
    assert artefact is not None
    if "bf16" not in openvino.BACKEND.computes(artefact, None):
        pytest.skip("this CPU has no bfloat16")
    asked: dict[str, Any] = {
        "backends": ["openvino"],
        "precisions": ["fp32"],
        "computes": ["f32", "bf16"],
    }
    rows = verify(trained_bundle, **asked).artefacts
    assert [row.parity_limits for row in rows] == [LIMITS["fp32"], COMPUTE_LIMITS]
    assert [row.status for row in rows] == ["passed", "passed"]
    _, why, _ = describe(trained_bundle, cache_dir, backend="openvino").splitlines()
    assert "openvino/fp32 in bf16" in why
    assert "px from PyTorch" in why
    compute, why, _ = describe(nano_bundle, cache_dir, backend="openvino").splitlines()
    assert compute == "f32"
    assert "but strays from PyTorch: box error " in why


def test_an_unknown_type_is_refused(nano_bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="compute 'fp16' is unknown: choose auto, f32, f16, bf16"):
        EdgeTracker(nano_bundle, compute="fp16")


def test_doctor_says_what_auto_takes_for_a_bundle(
    nano_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    on(FakeCpu(), monkeypatch)
    assert main(["doctor", str(nano_bundle.path)]) == 0
    printed = capsys.readouterr().out
    assert "What runs this bundle" in printed
    assert "chosen, onnx/fp32 in bf16 on CPU" in printed


def test_verify_and_bench_have_a_row_for_each_type_with_its_limits(
    nano_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpu = FakeCpu(error=1e-3, pause_s=0.02)
    monkeypatch.setattr(choice, "BACKENDS", (cpu.backend(), openvino.BACKEND))
    asked: dict[str, Any] = {
        "backends": ["fake"],
        "precisions": ["fp32"],
        "computes": ["f32", "bf16", "f16"],
        "cache_dir": tmp_path,
    }
    exact, fast, lacking = verify(nano_bundle, **asked).artefacts
    assert [exact.artefact, fast.artefact] == ["onnx/fp32 in f32", "onnx/fp32 in bf16"]
    assert (exact.parity_limits, fast.parity_limits) == (LIMITS["fp32"], COMPUTE_LIMITS)
    assert (exact.status, lacking.status) == ("passed", "skipped")
    assert "nothing in f16" in lacking.reasons[0]
    report = benchmark(nano_bundle, iterations=20, cold_starts=0, **asked)
    assert [row.compute for row in report.artefacts] == ["f32", "bf16"]
    assert [failure.what for failure in report.failures] == ["onnx/fp32 in f16"]
    slow, quick = (row.update.p50 for row in report.artefacts)
    assert slow > quick
    if fast.status == "passed":
        assert report.recommendation.artefact == "onnx/fp32 in bf16"
        assert "onnx/fp32 in f32 takes" in report.recommendation.reason


@pytest.mark.parametrize(
    ("error", "computes", "rows"),
    [
        (1e-4, None, ["onnx/fp32", "onnx/fp32 in bf16"]),
        (0.05, None, ["onnx/fp32"]),
        (0.05, ["auto", "f32"], ["onnx/fp32 in f32"]),
        (1e-4, ["auto", "f32"], ["onnx/fp32 in bf16", "onnx/fp32 in f32"]),
    ],
)
def test_rows_are_in_what_an_artefact_is_made_for_and_what_a_tracker_takes(
    error: float,
    computes: list[str] | None,
    rows: list[str],
    nano_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    on(FakeCpu(error), monkeypatch)
    found = rows_to_measure(nano_bundle, ["fake"], ["fp32"], computes, Placement(None, 1, tmp_path))
    assert [row_name(*row) for row in found] == rows


def test_a_row_of_what_cannot_run_is_left_to_measuring(
    nano_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lacking = dataclasses.replace(FakeCpu().backend(), find=lambda: Obstacle("gone", "install it"))
    monkeypatch.setattr(choice, "BACKENDS", (lacking, openvino.BACKEND))
    for computes in (None, ["auto"]):
        found = rows_to_measure(nano_bundle, ["fake"], ["fp32"], computes, Placement())
        assert [row_name(*row) for row in found] == ["onnx/fp32"]
    (row,) = verify(
        nano_bundle, backends=["fake"], precisions=["fp32"], cache_dir=tmp_path
    ).artefacts
    assert (row.status, row.reasons) == (
        "skipped",
        (f"bundle {nano_bundle.path} cannot run here: fake: gone; install it",),
    )
