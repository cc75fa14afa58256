"""The two backends against each other, and what stays on the device between frames."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_tracker import BackendUnavailable, EdgeTracker, Engine, open_bundle
from edge_tracker.backends.choice import open_graphs
from edge_tracker.backends.graph import Graphs
from edge_tracker.bundle.manifest import MANIFEST
from edge_tracker.bundle.opening import Bundle, sha256_of
from edge_tracker.installing import install_command
from edge_tracker.rules.boxes import box_iou
from edge_tracker.rules.decode import decode_edges
from edge_tracker.video.rendered_clip import render_clip
from mixformerv2.geometries import NANO
from tests.helpers.places import REPOSITORY
from tests.helpers.random_images import random_images

BACKENDS = ("openvino", "onnxruntime")
AGREEMENT_PX = 0.05
AGREEMENT_IOU = 0.99


@pytest.fixture(params=BACKENDS)
def graphs(
    request: pytest.FixtureRequest, nano_bundle: Bundle, cache_dir: Path
) -> Iterator[Graphs]:
    opened = open_graphs(nano_bundle, backend=request.param, num_threads=2, cache_dir=cache_dir)
    yield opened
    opened.close()


def templates(seed: int) -> dict[str, Any]:
    return {"templates": random_images(NANO, batch=1, seed=seed)["templates"]}


def search(seed: int) -> Any:
    return random_images(NANO, batch=1, seed=seed)["search"]


def as_array(template_kv: Any) -> np.ndarray:
    return np.array(template_kv)


def test_backends_agree_on_one_frame(nano_bundle: Bundle, cache_dir: Path) -> None:
    edges, scores = [], []
    for backend in BACKENDS:
        graphs = open_graphs(nano_bundle, backend=backend, num_threads=2, cache_dir=cache_dir)
        template_kv = graphs.template.run(templates(0))["template_kv"]
        outputs = graphs.search.run({"search": search(1), "template_kv": template_kv})
        edges.append(decode_edges(outputs["edge_probs"]).mean * NANO.search_size_px)
        scores.append(outputs["score"])
        graphs.close()
    np.testing.assert_allclose(edges[0], edges[1], rtol=0, atol=AGREEMENT_PX)
    np.testing.assert_allclose(scores[0], scores[1], rtol=0, atol=1e-3)


def test_backends_agree_on_the_trajectory_of_a_rendered_clip(
    trained_or_lively_bundle: Bundle, cache_dir: Path
) -> None:
    clip = list(render_clip(frames=50))
    boxes = {}
    for backend in BACKENDS:
        with EdgeTracker(
            trained_or_lively_bundle,
            backend=backend,
            num_threads=2,
            cache_dir=cache_dir,
            compute="f32",
        ) as tracker:
            tracker.init(clip[0].image, clip[0].box)
            boxes[backend] = [tracker.update(frame.image).box for frame in clip[1:]]
    for openvino_box, reference_box in zip(*boxes.values(), strict=True):
        assert box_iou(openvino_box, reference_box) > AGREEMENT_IOU


def test_outputs_belong_to_the_caller(graphs: Graphs) -> None:
    template_kv = graphs.template.run(templates(0))["template_kv"]
    first = graphs.search.run({"search": search(1), "template_kv": template_kv})
    kept = {name: value.copy() for name, value in first.items()}
    second = graphs.search.run({"search": search(2), "template_kv": template_kv})
    assert not np.array_equal(second["edge_probs"], first["edge_probs"])
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)


def test_run_in_the_background_gives_what_a_run_gives(graphs: Graphs) -> None:
    inputs = templates(3)
    wait = graphs.template.start(inputs)
    inputs["templates"][:] = 0  # the caller may reuse its buffer at once
    started = as_array(wait()["template_kv"])
    np.testing.assert_array_equal(
        started, as_array(graphs.template.run(templates(3))["template_kv"])
    )


def test_refresh_does_not_disturb_the_template_in_use(graphs: Graphs) -> None:
    in_use = graphs.template.run(templates(0))["template_kv"]
    before = as_array(in_use)
    outputs = graphs.search.run({"search": search(1), "template_kv": in_use})
    wait = graphs.template.start(templates(5))
    during = graphs.search.run({"search": search(1), "template_kv": in_use})
    fresh = wait()["template_kv"]
    np.testing.assert_array_equal(as_array(in_use), before)
    np.testing.assert_array_equal(during["edge_probs"], outputs["edge_probs"])
    assert not np.allclose(as_array(fresh), before)


def test_two_runs_in_the_background_each_give_their_own(graphs: Graphs) -> None:
    waits = [graphs.template.start(templates(seed)) for seed in (6, 7)]
    started = [as_array(wait()["template_kv"]) for wait in waits]
    for seed, template_kv in zip((6, 7), started, strict=True):
        alone = as_array(graphs.template.run(templates(seed))["template_kv"])
        np.testing.assert_array_equal(template_kv, alone)


def test_template_kv_is_written_and_read_in_place(nano_bundle: Bundle, cache_dir: Path) -> None:
    """Neither graph copies the memory that a tracker's target has."""
    with Engine(nano_bundle, backend="openvino", cache_dir=cache_dir, num_threads=2) as engine:
        row = engine.reserve(1)
        image = np.zeros((NANO.template_size_px, NANO.template_size_px, 3), np.uint8)
        engine.encode(image, image, row)()
        engine.search(np.zeros((1, NANO.search_size_px, NANO.search_size_px, 3), np.uint8), row)
        for graph in (engine._graphs.template, engine._graphs.search):
            tensor = graph._request.get_tensor("template_kv")  # type: ignore[attr-defined]
            assert np.shares_memory(tensor.data, row)
        assert row.any()


def test_second_start_finds_compiled_models_in_the_cache(
    nano_bundle: Bundle, tmp_path: Path
) -> None:
    def open_and_close() -> dict[str, int]:
        open_graphs(nano_bundle, backend="openvino", cache_dir=tmp_path / "cache").close()
        return {file.name: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()}

    compiled = open_and_close()
    assert len(compiled) == 2
    assert open_and_close() == compiled


@pytest.mark.skipif(sys.platform != "linux", reason="OpenVINO does this on Linux alone")
@pytest.mark.parametrize("closed_first", [0, 1])
def test_ctrl_c_still_interrupts_after_trackers_were_closed_in_any_order(
    nano_bundle: Bundle, cache_dir: Path, closed_first: int
) -> None:
    """An OpenVINO core that goes before a younger one leaves the process a stack for signals that
    is no longer there.
    """
    script = f"""
import os, signal
from edge_tracker import EdgeTracker
bundle, cache_dir = {str(nano_bundle.path)!r}, {str(cache_dir)!r}
trackers = [EdgeTracker(bundle, backend="openvino", cache_dir=cache_dir) for _ in range(2)]
trackers.pop({closed_first}).close()
trackers.pop().close()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
    command = [sys.executable, "-c", script]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "interrupted\n", "")


def test_choice_says_what_runs_and_why(nano_bundle: Bundle, cache_dir: Path) -> None:
    with EdgeTracker(nano_bundle, cache_dir=cache_dir) as tracker:
        assert (tracker.choice.backend, tracker.choice.device) == ("openvino", "CPU")
        assert tracker.choice.precision == "fp32"
        assert tracker.choice.reasons[-1] == "openvino: chosen, openvino/fp32 in f32 on CPU"


def test_auto_falls_back_to_onnxruntime_and_says_why(
    nano_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "edge_tracker.backends.record.find_spec",
        lambda name: None if name == "openvino" else object(),
    )
    with EdgeTracker(nano_bundle) as tracker:
        assert tracker.choice.backend == "onnxruntime"
        assert any(
            f"openvino: the package openvino is not installed; {install_command('openvino')}"
            in reason
            for reason in tracker.choice.reasons
        )


@pytest.fixture
def bundle_with_bad_openvino(nano_bundle: Bundle, tmp_path: Path) -> Bundle:
    """Its IR is what the manifest says it is, but OpenVINO cannot read it."""
    folder = Path(shutil.copytree(nano_bundle.path, tmp_path / "bundle"))
    model = folder / "openvino" / "fp32" / "search.xml"
    model.write_text("<net/>")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"]["openvino/fp32/search.xml"] = {
        "size_bytes": model.stat().st_size,
        "sha256": sha256_of(model),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return open_bundle(folder)


def test_auto_says_which_artefact_it_passes_over_and_why_and_what_runs_instead(
    bundle_with_bad_openvino: Bundle, cache_dir: Path
) -> None:
    with pytest.warns(RuntimeWarning, match=r"^openvino/fp32 is not used: ") as warned:
        tracker = EdgeTracker(bundle_with_bad_openvino, num_threads=1, cache_dir=cache_dir)
    assert tracker.choice.backend == "onnxruntime"
    tracker.close()
    (warning,) = warned
    assert f"openvino refuses {bundle_with_bad_openvino.path}" in str(warning.message)
    assert "search.xml" in str(warning.message)
    assert str(warning.message).endswith("; onnx/fp32 is used instead, by onnxruntime on CPU")
    assert warning.filename == __file__


def test_artefact_that_is_asked_for_is_not_passed_over(
    bundle_with_bad_openvino: Bundle, cache_dir: Path
) -> None:
    with pytest.raises(BackendUnavailable, match=r"openvino refuses .*search\.xml"):
        EdgeTracker(bundle_with_bad_openvino, backend="openvino", cache_dir=cache_dir)


def test_nothing_is_said_to_be_used_instead_where_nothing_can_run(
    bundle_with_bad_openvino: Bundle, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "edge_tracker.backends.record.find_spec",
        lambda name: None if name == "onnxruntime" else object(),
    )
    with pytest.raises(BackendUnavailable, match=r"openvino refuses .*onnxruntime: the package"):
        EdgeTracker(bundle_with_bad_openvino, cache_dir=cache_dir)


def test_no_backend_at_all_lists_every_reason(
    nano_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_tracker.backends.record.find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match=r"openvino: .*onnxruntime: .*not installed"):
        EdgeTracker(nano_bundle)


@pytest.mark.parametrize("backend", BACKENDS)
def test_device_that_is_not_there_is_refused_with_those_that_are(
    nano_bundle: Bundle, backend: str
) -> None:
    with pytest.raises(BackendUnavailable, match=rf"^{backend} has no device 'TOASTER'.*CPU$"):
        EdgeTracker(nano_bundle, backend=backend, device="TOASTER")


def test_device_that_no_backend_has_is_answered_in_three_lines(nano_bundle: Bundle) -> None:
    with pytest.raises(BackendUnavailable, match=r"openvino has no device 'TOASTER'") as error:
        EdgeTracker(nano_bundle, device="TOASTER")
    words = str(error.value).replace(str(nano_bundle.path), "")
    assert len(words) < 3 * 100
    assert "install" not in words.partition("openvino")[0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"backend": "caffe"}, "backend 'caffe' is unknown: choose auto, "),
        ({"num_threads": 0}, "num_threads is 0: expected 1 to 4096"),
    ],
)
def test_unknown_choice_is_refused(nano_bundle: Bundle, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        EdgeTracker(nano_bundle, **options)


def test_a_number_of_threads_may_come_from_numpy(nano_bundle: Bundle, cache_dir: Path) -> None:
    for backend in BACKENDS:
        graphs = open_graphs(
            nano_bundle, backend=backend, num_threads=np.int64(1), cache_dir=cache_dir
        )
        graphs.close()


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({"device": 0}, r"device is 0: expected the backend's name of one, such as 'CPU' or '0'"),
        ({"num_threads": 2.0}, r"num_threads is 2\.0: expected a whole number"),
        ({"num_threads": "2"}, r"num_threads is '2': expected a whole number"),
        ({"num_threads": True}, r"num_threads is True: expected a whole number"),
        ({"options": {"update_interval": 10}}, r"options is \{'update_interval': 10\}: expected"),
        (
            {"options": {}},
            r"options is \{\}: expected such as TrackerOptions\(update_interval=10\)",
        ),
    ],
)
def test_choice_of_another_type_is_refused_by_name(
    nano_bundle: Bundle, choice: dict[str, Any], says: str
) -> None:
    with pytest.raises(TypeError, match=says):
        EdgeTracker(nano_bundle, **choice)


WITHOUT_TRAINING_PACKAGES = """
import sys

ABSENT = {"torch", "onnx", "onnxsim", "safetensors", "mixformerv2", "converters"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from edge_tracker import EdgeTracker
from edge_tracker.video.rendered_clip import render_clip

bundle, backend, cache_dir = sys.argv[1:]
clip = list(render_clip(frames=3))
with EdgeTracker(bundle, backend=backend, cache_dir=cache_dir) as tracker:
    tracker.init(clip[0].image, clip[0].box)
    print(len([tracker.update(frame.image) for frame in clip[1:]]))
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_runtime_tracks_where_no_training_package_can_be_imported(
    nano_bundle: Bundle, cache_dir: Path, backend: str
) -> None:
    arguments = [str(nano_bundle.path), backend, str(cache_dir)]
    command = [sys.executable, "-c", WITHOUT_TRAINING_PACKAGES, *arguments]
    finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "2"
