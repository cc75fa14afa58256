"""Running engines, on a CUDA driver that records every call: order, memory, and what is freed."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from converters.tensorrt.build import build
from converters.tensorrt.engine_builder import BuildOptions
from edge_tracker import (
    EdgeTracker,
    EdgeTrackerError,
    Engine,
    MultiTracker,
    NotInitialised,
    TrackerOptions,
)
from edge_tracker.backends.choice import open_graphs
from edge_tracker.backends.graph import CopyTimes, Graphs
from edge_tracker.backends.tensorrt.engine import DeviceTensor
from edge_tracker.bundle.opening import Bundle
from edge_tracker.errors import BackendUnavailable
from edge_tracker.video.rendered_clip import render_clip
from mixformerv2.geometries import NANO
from tests.helpers.fake_cuda import BYTES_PER_MS_IN, BYTES_PER_MS_OUT
from tests.helpers.fake_tensorrt import FakeMachine
from tests.helpers.places import REPOSITORY
from tests.helpers.random_images import random_images

SIDE = NANO.search_size_px
WORK = ["copy in", "enqueue", "copy out", "copy out"]
PLAIN_FRAME = ["query event", *WORK, "record event", "synchronise"]
REPLAYED_FRAME = ["query event", "cuGraphLaunch", "record event", "synchronise"]
#: What must be freed at once, also while a traceback still refers to an engine.
MEMORY = ("device memory", "page-locked memory", "context", "current context")
CAPTURE_CALLS = (
    "cuStreamBeginCapture",
    "cuStreamEndCapture",
    "cuGraphInstantiate",
    "cuGraphLaunch",
)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    return FakeMachine(monkeypatch)


@pytest.fixture(params=["pycuda", "cuda.bindings"])
def either(request: pytest.FixtureRequest, machine: FakeMachine) -> FakeMachine:
    """With one and with the other way to the CUDA driver."""
    if request.param == "cuda.bindings":
        machine.swap_pycuda_for_bindings()
    return machine


@pytest.fixture(scope="module")
def bundle(nano_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """With engines for up to three targets, built on the fake machine."""
    folder = tmp_path_factory.mktemp("engines") / "nano"
    shutil.copytree(nano_bundle.path, folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        FakeMachine(monkeypatch)
        return build(folder, BuildOptions("fp32", max_targets=3))


def images(seed: int, targets: int = 1) -> Mapping[str, Any]:
    return random_images(NANO, batch=targets, seed=seed)


def templates(seed: int, targets: int = 1) -> dict[str, Any]:
    return {"templates": images(seed, targets)["templates"]}


def search(graphs: Graphs, seed: int, template_kv: Any, targets: int = 1) -> Mapping[str, Any]:
    inputs = {"search": images(seed, targets)["search"], "template_kv": template_kv}
    return graphs.search.run(inputs)


def trajectory(bundle: Bundle, backend: str) -> np.ndarray:
    """Boxes and scores along a clip on which the online template changes every fifth frame."""
    options = TrackerOptions(update_interval=5, update_score=0.0)
    clip = list(render_clip(frames=22))
    with EdgeTracker(bundle, backend=backend, precision="fp32", options=options) as tracker:
        tracker.init(clip[0].image, clip[0].box)
        results = [tracker.update(frame.image) for frame in clip[1:]]
    return np.array([(*result.box, result.score) for result in results])


@pytest.mark.parametrize("bindings", [False, True])
def test_tracks_exactly_as_onnx_runtime_does_when_that_stands_for_the_engine(
    machine: FakeMachine, bundle: Bundle, bindings: bool
) -> None:
    if bindings:
        machine.swap_pycuda_for_bindings()
    np.testing.assert_array_equal(trajectory(bundle, "tensorrt"), trajectory(bundle, "onnxruntime"))
    assert (machine.cuda.calls.count("cuGraphLaunch") > 10) == bindings
    assert machine.cuda.leaks() == {}


def test_a_frame_is_copy_in_enqueue_copy_out_and_one_wait(
    machine: FakeMachine, bundle: Bundle
) -> None:
    graphs = open_graphs(bundle, backend="tensorrt")
    template_kv = graphs.template.run(templates(0))["template_kv"]
    search(graphs, 0, template_kv)
    for seed in range(1, 4):
        machine.cuda.calls.clear()
        search(graphs, seed, template_kv)
        assert machine.cuda.calls == PLAIN_FRAME
    graphs.close()


@pytest.mark.parametrize("bindings", [False, True])
def test_several_targets_are_tracked_exactly_as_by_onnx_runtime_in_place(
    machine: FakeMachine, bundle: Bundle, bindings: bool
) -> None:
    """Five targets with engines for three; keys and values never leave the device."""
    if bindings:
        machine.swap_pycuda_for_bindings()
    options = TrackerOptions(update_interval=5, update_score=0.0)
    clip = [frame.image for frame in render_clip(frames=14)]
    boxes = [(40.0 + 90 * place, 60.0 + 40 * place, 60.0, 50.0) for place in range(5)]
    tracked = []
    for backend in ("tensorrt", "onnxruntime"):
        with Engine(bundle, backend=backend, precision="fp32") as engine:
            singles = [EdgeTracker(engine, options=options) for _ in boxes]
            with MultiTracker(engine, options=options) as tracker:
                for single, box in zip(singles, boxes, strict=True):
                    tracker.add(clip[0], box)
                    single.init(clip[0], box)
                tracker.remove(1)
                several = [list(tracker.update(frame).values()) for frame in clip[1:]]
            del singles[0]
            alone = [[single.update(frame) for single in singles] for frame in clip[1:]]
        tracked += [(several, alone)]
    (several, alone), (reference_several, reference_alone) = tracked
    assert several == alone
    assert alone == reference_alone
    found, expected = (
        np.array([result.box for row in rows for result in row])
        for rows in (several, reference_several)
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.01)
    assert machine.cuda.leaks() == {}


@pytest.mark.parametrize("bindings", [False, True])
@pytest.mark.parametrize("targets", [1, 2])
def test_copies_are_timed_back_to_back_behind_an_execution_and_change_nothing(
    machine: FakeMachine, bundle: Bundle, bindings: bool, targets: int
) -> None:
    if bindings:
        machine.swap_pycuda_for_bindings()
    graphs = open_graphs(bundle, backend="tensorrt")
    template_kv = graphs.template.run(templates(0, targets))["template_kv"]
    before = [search(graphs, seed, template_kv, targets) for seed in range(3)]
    inputs = {"search": images(2, targets)["search"], "template_kv": template_kv}
    collect = graphs.search.start(inputs)
    assert machine.cuda.made["event"] == 2, "one per engine, at the end of its runs"
    machine.cuda.calls.clear()
    # What Python takes is left out.
    expected = CopyTimes(
        to_device_ms=inputs["search"].nbytes / BYTES_PER_MS_IN,
        from_device_ms=sum(value.nbytes for value in before[2].values()) / BYTES_PER_MS_OUT,
    )
    assert graphs.search.time_copies() == expected
    np.testing.assert_equal(collect(), before[2])
    machine.cuda.calls.clear()
    assert graphs.search.time_copies() == expected
    work = [call for call in machine.cuda.calls if call in ("enqueue", "copy in", "copy out")]
    assert work == ["enqueue", "copy in", "copy out", "copy out"]
    for seed, outputs in enumerate(before):
        np.testing.assert_equal(search(graphs, seed, template_kv, targets), outputs)
    assert machine.cuda.made["event"] == 2 + 3
    graphs.close()
    assert machine.cuda.leaks() == {}


def test_before_the_first_run_there_are_no_copies_to_time(
    machine: FakeMachine, bundle: Bundle
) -> None:
    graphs = open_graphs(bundle, backend="tensorrt")
    graphs.template.run(templates(0))
    machine.cuda.calls.clear()
    assert graphs.search.time_copies() is None
    assert machine.cuda.calls == []
    graphs.close()


def test_with_cuda_graphs_the_second_frame_records_and_the_later_ones_replay(
    machine: FakeMachine, bundle: Bundle
) -> None:
    machine.swap_pycuda_for_bindings()
    graphs = open_graphs(bundle, backend="tensorrt")
    template_kv = graphs.template.run(templates(0))["template_kv"]
    search(graphs, 0, template_kv)
    machine.cuda.calls.clear()
    search(graphs, 1, template_kv)
    assert machine.cuda.calls == [
        "query event",
        "cuStreamBeginCapture",
        *WORK,
        "cuStreamEndCapture",
        "cuGraphInstantiate",
        "cuGraphDestroy",
        "cuGraphLaunch",
        "record event",
        "synchronise",
    ]
    for seed in range(2, 5):
        machine.cuda.calls.clear()
        search(graphs, seed, template_kv)
        assert machine.cuda.calls == REPLAYED_FRAME
    graphs.close()


def test_frames_with_two_template_versions_in_turn_allocate_nothing_once_both_were_recorded(
    machine: FakeMachine, bundle: Bundle
) -> None:
    machine.swap_pycuda_for_bindings()
    graphs = open_graphs(bundle, backend="tensorrt")
    for round_ in range(8):
        machine.cuda.calls.clear()
        template_kv = graphs.template.run(templates(round_))["template_kv"]
        for seed in range(3):
            search(graphs, seed, template_kv)
        if round_ >= 4:
            refresh = ["query event", "cuGraphLaunch", "record event"]
            calls = [call for call in machine.cuda.calls if call != "set address"]
            assert calls == [*refresh, *(3 * REPLAYED_FRAME)]
    graphs.close()


@pytest.mark.parametrize("call", CAPTURE_CALLS)
def test_where_recording_fails_work_is_enqueued_as_before(
    machine: FakeMachine, bundle: Bundle, call: str
) -> None:
    machine.swap_pycuda_for_bindings(refuse=call)
    graphs = open_graphs(bundle, backend="tensorrt")
    reference = open_graphs(bundle, backend="onnxruntime", precision="fp32")
    kv, reference_kv = (g.template.run(templates(0))["template_kv"] for g in (graphs, reference))
    for seed in range(4):
        machine.cuda.calls.clear()
        got, expected = search(graphs, seed, kv), search(reference, seed, reference_kv)
        np.testing.assert_array_equal(got["edge_probs"], expected["edge_probs"])
    assert machine.cuda.calls == PLAIN_FRAME
    graphs.close()
    reference.close()
    assert machine.cuda.leaks() == {}


def test_template_kv_never_visits_the_host(either: FakeMachine, bundle: Bundle) -> None:
    graphs = open_graphs(bundle, backend="tensorrt")
    assert either.cuda.made["page-locked memory"] == len(["templates", "search", "probs", "score"])
    either.cuda.calls.clear()
    template_kv = graphs.template.run(templates(0))["template_kv"]
    assert isinstance(template_kv, DeviceTensor)
    assert template_kv.shape == NANO.template_kv_shape()
    ran = [call for call in either.cuda.calls if not call.startswith("set ")]
    assert ran == ["copy in", "enqueue", "record event"]
    graphs.close()


def test_a_refresh_does_not_disturb_the_template_in_use(
    either: FakeMachine, bundle: Bundle
) -> None:
    graphs = open_graphs(bundle, backend="tensorrt")
    first = graphs.template.run(templates(0))["template_kv"]
    before = search(graphs, 5, first)["edge_probs"]
    collect = graphs.template.start(templates(1))
    np.testing.assert_array_equal(search(graphs, 5, first)["edge_probs"], before)
    second = collect()["template_kv"]
    assert np.abs(search(graphs, 5, second)["edge_probs"] - before).max() > 1e-3
    graphs.close()


def test_images_may_change_while_their_copy_is_still_on_its_way(
    either: FakeMachine, bundle: Bundle
) -> None:
    """Both starts come before anything has run on the device."""
    graphs = open_graphs(bundle, backend="tensorrt")
    own = templates(0)
    first = graphs.template.start(own)
    own["templates"][:] = 0
    second = graphs.template.start(templates(1))
    after_first = search(graphs, 5, first()["template_kv"])["score"]
    after_second = search(graphs, 5, second()["template_kv"])["score"]
    for seed, got in ((0, after_first), (1, after_second)):
        kv = graphs.template.run(templates(seed))["template_kv"]
        np.testing.assert_array_equal(search(graphs, 5, kv)["score"], got)
    graphs.close()


def test_outputs_belong_to_the_caller(either: FakeMachine, bundle: Bundle) -> None:
    graphs = open_graphs(bundle, backend="tensorrt")
    kv = graphs.template.run(templates(0))["template_kv"]
    first = search(graphs, 0, kv)
    kept = {name: value.copy() for name, value in first.items()}
    search(graphs, 1, kv)
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)
    graphs.close()


def test_one_to_three_targets_in_any_order(machine: FakeMachine, bundle: Bundle) -> None:
    machine.swap_pycuda_for_bindings()
    graphs = open_graphs(bundle, backend="tensorrt")
    reference = open_graphs(bundle, backend="onnxruntime", precision="fp32")
    for targets in (1, 1, 1, 3, 3, 2, 1, 1, 1, 3):
        outputs = []
        for pair in (graphs, reference):
            kv = pair.template.run(templates(targets, targets))["template_kv"]
            outputs.append(search(pair, targets, kv, targets))
        np.testing.assert_array_equal(outputs[0]["edge_probs"], outputs[1]["edge_probs"])
        np.testing.assert_array_equal(outputs[0]["score"], outputs[1]["score"])
    graphs.close()
    reference.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"search": np.zeros((1, SIDE, SIDE, 3), np.float32)}, "search is float32"),
        ({"search": np.zeros((1, 64, SIDE, 3), np.uint8)}, f"search is uint8 (1, 64, {SIDE}, 3)"),
        ({"search": np.zeros((4, SIDE, SIDE, 3), np.uint8)}, "--max-targets"),
        ({"search": np.zeros((2, SIDE, SIDE, 3), np.uint8)}, "different numbers of targets"),
        ({"template_kv": np.zeros(NANO.template_kv_shape(), np.float32)}, "from the template"),
        ({"mask": np.zeros(1)}, "it takes ['search', 'template_kv']"),
    ],
)
def test_wrong_inputs_are_named(
    machine: FakeMachine, bundle: Bundle, change: dict[str, Any], message: str
) -> None:
    graphs = open_graphs(bundle, backend="tensorrt")
    kv = graphs.template.run(templates(0))["template_kv"]
    with pytest.raises(ValueError) as error:
        graphs.search.run({"search": images(0)["search"], "template_kv": kv, **change})
    assert message in str(error.value)
    graphs.close()


def test_works_from_a_thread_other_than_the_one_that_opened_it(
    either: FakeMachine, bundle: Bundle
) -> None:
    graphs = open_graphs(bundle, backend="tensorrt")
    scores = []

    def track_and_close() -> None:
        kv = graphs.template.run(templates(0))["template_kv"]
        scores.append(search(graphs, 0, kv)["score"])
        graphs.close()

    thread = threading.Thread(target=track_and_close)
    thread.start()
    thread.join()
    assert len(scores) == 1
    assert either.cuda.leaks() == {}


def test_the_context_of_the_application_is_current_again_after_each_call(
    either: FakeMachine, bundle: Bundle
) -> None:
    application = object()
    either.cuda.stack.append(application)
    graphs = open_graphs(bundle, backend="tensorrt")
    assert either.cuda.stack == [application]
    kv = graphs.template.run(templates(0))["template_kv"]
    search(graphs, 0, kv)
    assert either.cuda.stack == [application]
    graphs.close()
    assert either.cuda.stack == [application]


def test_everything_is_freed_once_however_often_it_is_closed(
    machine: FakeMachine, bundle: Bundle
) -> None:
    machine.swap_pycuda_for_bindings()
    graphs = open_graphs(bundle, backend="tensorrt")
    kv = graphs.template.run(templates(0))["template_kv"]
    for seed in range(3):
        search(graphs, seed, kv)
    assert machine.cuda.made["executable graph"] == 1
    assert machine.cuda.leaks()["device memory"] == 6
    graphs.close()
    graphs.close()
    assert machine.cuda.leaks() == {}
    with pytest.raises(NotInitialised, match="closed"):
        search(graphs, 0, kv)
    with pytest.raises(NotInitialised, match="closed"):
        graphs.search.time_copies()


def test_everything_is_freed_when_it_is_forgotten(either: FakeMachine, bundle: Bundle) -> None:
    graphs = open_graphs(bundle, backend="tensorrt")
    kv = graphs.template.run(templates(0))["template_kv"]
    search(graphs, 0, kv)
    del graphs
    gc.collect()
    assert either.cuda.leaks() == {}


@pytest.mark.parametrize("failure", ["run", "crash", "crash with bindings"])
def test_everything_is_freed_once_when_the_engine_fails_in_the_middle(
    machine: FakeMachine, bundle: Bundle, failure: str
) -> None:
    if failure == "crash with bindings":
        machine.swap_pycuda_for_bindings()
    graphs = open_graphs(bundle, backend="tensorrt")
    kv = graphs.template.run(templates(0))["template_kv"]
    for seed in range(3):
        search(graphs, seed, kv)
    if failure == "run":
        machine.trt.refuses.add("run")
    else:
        machine.cuda.crash = True
    with pytest.raises(EdgeTrackerError, match="search engine"):
        search(graphs, 0, kv)
    cause = "TensorRT cannot run" if failure == "run" else "CUDA fails in"
    with pytest.raises(EdgeTrackerError, match=f"{cause} the search engine"):
        graphs.search.time_copies()
    graphs.close()
    assert machine.cuda.leaks() == {}


@pytest.mark.parametrize("free_bytes", [0, 100_000, 600_000, 1_300_000])
def test_too_little_gpu_memory_is_one_line_and_frees_what_was_taken(
    either: FakeMachine, bundle: Bundle, free_bytes: int
) -> None:
    either.cuda.memory_bytes = free_bytes
    with pytest.raises(BackendUnavailable, match=r"out of GPU memory .* close other programs"):
        open_graphs(bundle, backend="tensorrt")
    gc.collect()
    assert {k: n for k, n in either.cuda.leaks().items() if k in MEMORY} == {}


@pytest.mark.parametrize("refused", ["deserialise", "context"])
def test_an_engine_that_tensorrt_refuses_comes_with_its_reason_and_the_command(
    either: FakeMachine, bundle: Bundle, refused: str
) -> None:
    either.trt.refuses.add(refused)
    with pytest.raises(BackendUnavailable) as error:
        open_graphs(bundle, backend="tensorrt")
    reason = "Error Code 1: it was told to" if refused == "deserialise" else "it gives no reason"
    assert reason in str(error.value)
    assert f"edge-tracker build {bundle.path} --to tensorrt --precision fp32" in str(error.value)
    assert "a warning" not in str(error.value)
    gc.collect()
    assert {k: n for k, n in either.cuda.leaks().items() if k in MEMORY} == {}


@pytest.mark.parametrize("swap", ["", "machine.swap_pycuda_for_bindings()"])
def test_everything_is_freed_when_python_exits_without_a_close(bundle: Bundle, swap: str) -> None:
    script = f"""
import atexit
import pytest
from tests.helpers.fake_cuda import BYTES_PER_MS_IN, BYTES_PER_MS_OUT
from tests.helpers.fake_tensorrt import FakeMachine
from edge_tracker import open_bundle
from edge_tracker.backends.choice import open_graphs
machine = FakeMachine(pytest.MonkeyPatch())
{swap}
atexit.register(lambda: print("left:", machine.cuda.leaks()))
graphs = open_graphs(open_bundle({str(bundle.path)!r}), backend="tensorrt")
assert machine.cuda.leaks()
"""
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (finished.stdout, finished.stderr) == ("left: {}\n", "")
