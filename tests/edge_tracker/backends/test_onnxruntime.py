"""ONNX Runtime takes the cores that it may use, and rests between frames."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edge_tracker.backends.choice import open_graphs
from edge_tracker.backends.onnxruntime import compile_graphs
from edge_tracker.backends.record import Placement
from edge_tracker.bundle.opening import Bundle
from edge_tracker.errors import BackendUnavailable
from mixformerv2.geometries import NANO
from tests.helpers.random_images import random_images

IDLE_S = 0.2


def test_it_rests_after_a_run(nano_bundle: Bundle) -> None:
    graphs = open_graphs(nano_bundle, backend="onnxruntime", num_threads=3)
    images = random_images(NANO, batch=1)
    template_kv = graphs.template.run({"templates": images["templates"]})["template_kv"]
    burnt_s = []
    for _ in range(3):
        graphs.search.run({"search": images["search"], "template_kv": template_kv})
        before_s = time.process_time()
        time.sleep(IDLE_S)
        burnt_s.append(time.process_time() - before_s)
    graphs.close()
    # Two threads that spin burn several times the pause.
    assert min(burnt_s) < 0.1 * IDLE_S


THREADS_OF_ONE_CORE = """
import os, sys
from edge_tracker.backends.choice import open_graphs
from edge_tracker.bundle.opening import open_bundle
import onnxruntime
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
before = len(os.listdir("/proc/self/task"))
graphs = open_graphs(open_bundle(sys.argv[1]), backend="onnxruntime", num_threads=%s)
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux lists them")
@pytest.mark.parametrize(("asked", "started"), [(None, 0), (3, 4)])
def test_on_one_core_it_starts_no_threads_unless_told(
    asked: int | None, started: int, nano_bundle: Bundle
) -> None:
    command = [sys.executable, "-c", THREADS_OF_ONE_CORE % asked, str(nano_bundle.path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60)
    assert int(done.stdout) == started


def test_of_a_model_that_it_refuses_it_prints_nothing(
    nano_bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(nano_bundle.path, folder)
    artefact = nano_bundle.find("onnx", "fp32")
    assert artefact is not None
    model = folder / artefact.graphs["template"].model
    # ONNX Runtime takes an error's words that are not UTF-8 for a failing device.
    model.write_bytes(model.read_bytes().replace(b"Softmax", b"\xff\xfeftmax"))
    with pytest.raises(BackendUnavailable, match="onnxruntime refuses"):
        compile_graphs(replace(nano_bundle, path=folder), artefact, Placement())
    assert capfd.readouterr() == ("", "")
