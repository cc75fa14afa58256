"""The benchmarks run and print the ratio that they exist for; what it is depends on the machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from benchmarks import (
    cached_search,
    camera_pace,
    core_distance,
    cpp_program,
    int8,
    search_graph,
    several_targets,
    wear,
)
from benchmarks.core_distance import Second, compile_ping_pong, summary_lines
from benchmarks.interleaved import median_difference, median_ratio, time_in_turn
from converters.to_openvino import read_onnx
from edge_tracker.backends.openvino import openvino_core
from edge_tracker.bundle.opening import Bundle
from mixformerv2.geometries import GEOMETRIES
from tests.helpers.lively_networks import TINY, lively_network


def test_subjects_take_turns_and_warm_up_is_not_counted() -> None:
    calls: list[str] = []
    times_ms = time_in_turn(
        {"first": lambda: calls.append("first"), "second": lambda: calls.append("second")},
        rounds=3,
        warm_up=2,
    )
    assert calls == ["first", "second"] * 5
    assert [len(values) for values in times_ms.values()] == [3, 3]


def test_the_second_call_of_a_turn_is_timed_where_threads_spin() -> None:
    slept_s = iter([0.02, 0.0] * 3)
    times_ms = time_in_turn(
        {"only": lambda: time.sleep(next(slept_s))}, rounds=3, warm_up=0, untimed_first=True
    )
    assert max(times_ms["only"]) < 20


def test_ratio_and_difference_are_medians_over_the_rounds() -> None:
    slow_ms, fast_ms = [4.0, 9.0, 100.0], [2.0, 3.0, 10.0]
    assert median_ratio(slow_ms, fast_ms) == 3.0
    assert median_difference(slow_ms, fast_ms) == 6.0


@pytest.fixture
def tiny_nano(monkeypatch: pytest.MonkeyPatch) -> None:
    """What benchmarks have as nano takes a moment."""
    monkeypatch.setitem(GEOMETRIES, "nano", TINY)


@pytest.mark.usefixtures("tiny_nano")
def test_cached_search_prints_its_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    cached_search.main(["--geometry", "nano", "--rounds", "3"])
    printed = capsys.readouterr().out
    assert "whole / search" in printed
    assert "update() - search" in printed


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    pytest.importorskip("nncf", reason="quantising needs nncf")
    return int8.make_bundle(lively_network(TINY), tmp_path_factory.mktemp("quantised"))


@pytest.mark.usefixtures("tiny_nano")
def test_search_graph_prints_its_forms_beside_the_limit(
    quantised: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search_graph, "make_bundle", lambda *_: quantised)
    search_graph.main(["--geometry", "nano", "--rounds", "3"])
    printed = capsys.readouterr().out
    for row in ("converted", "in f16", "in float", "patches as rows", "limit", "by kind of"):
        assert row in printed


def test_patches_as_rows_are_the_same_network(quantised: Bundle) -> None:
    forms = search_graph.variants(quantised, "fp32")
    found = []
    for form in (search_graph.AS_CONVERTED, "patches as rows of a product on uint8"):
        infer = search_graph.request(forms[form], quantised, {"INFERENCE_PRECISION_HINT": "f32"})
        infer.infer()
        found.append(infer.get_tensor("edge_probs").data.copy())
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)


def test_int8_forms_are_quantised_as_convert_does(quantised: Bundle) -> None:
    converted = openvino_core().read_model(quantised.path / "openvino/int8/search.xml")
    graph = read_onnx(quantised.path / "onnx/fp32/search.onnx")
    form = search_graph.quantised(graph, quantised, in_float=[])
    assert int8_weights(form) == int8_weights(converted)


def int8_weights(model: ov.Model) -> list[tuple[tuple[int, ...], int]]:
    """Their shapes, and the largest of each."""
    constants = (op for op in model.get_ops() if op.get_type_name() == "Constant")
    weights = [op.data for op in constants if op.get_element_type() == ov.Type.i8]
    return sorted((w.shape, int(np.abs(w.astype(int)).max())) for w in weights)


def test_multiplications_are_counted_by_hand() -> None:
    rows = ops.parameter([1, 5, 8], np.float32)
    product = ops.matmul(rows, ops.constant(np.ones((3, 8), np.float32)), False, True)
    image = ops.parameter([1, 2, 6, 6], np.float32)
    kernel = ops.constant(np.ones((4, 2, 3, 3), np.float32))
    convolved = ops.convolution(image, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
    model = ov.Model([product, convolved], [rows, image])
    for port, name in zip(model.inputs, ("rows", "image"), strict=True):
        port.set_names({name})
    assert search_graph.multiplications(model) == 5 * 8 * 3 + 4 * 16 * 2 * 9


@pytest.mark.usefixtures("tiny_nano")
def test_int8_prints_each_type_beside_the_whole_network(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nncf", reason="quantising needs nncf")
    int8.main(["--geometry", "nano", "--rounds", "3", "--threads", "1"])
    printed = capsys.readouterr().out
    updates = [line.split() for line in printed.splitlines() if line.startswith("  update(), ")]
    has = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    words = {"FP32": "f32", "FP16": "f16", "BF16": "bf16"}
    types = [compute for word, compute in words.items() if word in has]
    assert [words[:4] for words in updates] == [
        ["update(),", precision, "in", compute]
        for precision in ("fp32", "int8")
        for compute in types
    ]
    assert all(len(words) == 8 for words in updates)


def test_several_targets_prints_what_a_target_costs_in_each_precision(
    nano_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--graphs", "--backend", "onnxruntime", "--rounds", "2", "--threads", "1"]
    several_targets.main([str(nano_bundle.path), *options, "--compute", "f32,f16"])
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith("onnx/")]
    refused = [line for line in rows if "is left out" in line]
    measured = [line.split()[-5:] for line in rows if line not in refused]
    assert (len(refused), len(measured)) == (2, 2), "each model computes in its own type alone"
    assert all(float(cell) > 0 for row in measured for cell in row)


def test_camera_pace_prints_what_a_frame_costs(
    nano_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    camera_pace.main([str(nano_bundle.path), "--frames", "4", "--fps", "60"])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("frame upon frame")
    assert second.startswith("at its pace")
    assert second.endswith("ms of CPU a frame")


needs_compiler_and_two_cores = pytest.mark.skipif(
    shutil.which("cc") is None or len(os.sched_getaffinity(0)) < 2,
    reason="needs a C compiler and two CPU cores",
)


@needs_compiler_and_two_cores
def test_core_distance_prints_a_line_for_each_group(
    nano_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    core_distance.main([str(nano_bundle.path), "--seconds", "2"])
    *seconds, last = capsys.readouterr().out.splitlines()
    assert all(line.startswith("round trip") for line in seconds[:2])
    assert "one / two" in last


@needs_compiler_and_two_cores
def test_an_interruption_does_not_read_as_distance(tmp_path: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))
    command = [str(compile_ping_pong(tmp_path)), str(cores[0]), str(cores[-1])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ping_pong:
        time.sleep(0.004)
        ping_pong.send_signal(signal.SIGSTOP)
        time.sleep(1.0)
        ping_pong.send_signal(signal.SIGCONT)
        printed, _ = ping_pong.communicate()
    # The second of standing still is 10 000 ns per round trip in the mean.
    assert 0 < float(printed) < 5000


NEAR = [Second(80, 3.0, 1.5), Second(160, 3.1, 1.6), Second(90, 2.9, 1.4)]
FAR = [Second(400, 3.0, 6.0), Second(161, 3.2, 6.4)]


@pytest.mark.parametrize(
    ("seconds", "lines"),
    [
        (
            [NEAR[0], FAR[0], NEAR[1], FAR[1], NEAR[2]],
            [
                "near (3 of 5 seconds): round trip 90 ns, "
                "one thread 3.00 ms, two threads 1.50 ms, one / two 2.00",
                "far (2 of 5 seconds): round trip 280 ns, "
                "one thread 3.10 ms, two threads 6.20 ms, one / two 0.50",
            ],
        ),
        (
            NEAR,
            [
                "the same distance throughout (3 of 3 seconds): round trip 90 ns, "
                "one thread 3.00 ms, two threads 1.50 ms, one / two 2.00",
            ],
        ),
    ],
)
def test_seconds_are_told_apart_by_their_round_trip(
    seconds: list[Second], lines: list[str]
) -> None:
    assert summary_lines(seconds) == lines


def test_core_distance_without_seconds_or_a_compiler_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        core_distance.main(["no.bundle", "--seconds", "0"])
    assert "'0' is not a whole number of at least 1" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"no C compiler .* apt install gcc"):
        core_distance.main(["no.bundle"])


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux")
def test_wear_names_what_is_not_as_it_should_be(
    nano_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(wear.PARTS, "full", lambda *_: False)
    assert wear.main([str(nano_bundle.path), "--only", "threads"]) == 0
    assert "eight threads: 8 ended, boxes equal" in capsys.readouterr().out
    assert wear.main([str(nano_bundle.path), "--only", "full"]) == 1
    assert "not as it should be: full" in capsys.readouterr().out


def test_a_program_is_timed_beside_python(
    nano_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "track"
    program.write_text('#!/bin/sh\necho "$@" >"$0.arguments"\necho "median 2.5 ms" >&2\n')
    program.chmod(0o755)
    arguments = [str(program), str(nano_bundle.path), "--rounds", "2", "--frames", "4"]
    cpp_program.main(arguments)
    printed = capsys.readouterr().out
    assert re.search(r"C\+\+ +2\.50 ms", printed)
    assert "Python / C++" in printed
    bundle, frames, *box, threads = (tmp_path / "track.arguments").read_text().split()
    assert (bundle, frames[-8:], len(box), threads) == (str(nano_bundle.path), "%06d.png", 4, "1")


def test_a_program_that_states_no_median_is_named(nano_bundle: Bundle) -> None:
    with pytest.raises(SystemExit, match="true states no median"):
        cpp_program.main([str(shutil.which("true")), str(nano_bundle.path), "--frames", "2"])
