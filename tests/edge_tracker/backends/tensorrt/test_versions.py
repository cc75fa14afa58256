"""Engines are built and run by a TensorRT that has what a version has, and no attribute more."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from converters.tensorrt.build import build
from converters.tensorrt.engine_builder import BuildOptions, build_engine
from edge_tracker.backends.choice import open_graphs
from edge_tracker.backends.tensorrt.module import make_log
from edge_tracker.bundle.opening import Bundle
from tests.edge_tracker.backends.tensorrt.test_attributes import RECORDED, VERSIONS, classes_of
from tests.helpers.fake_tensorrt import FakeMachine, FakeTensorRt
from tests.helpers.places import REPOSITORY
from tests.helpers.random_images import random_images

RETURNED = {
    "create_network": "INetworkDefinition",
    "create_builder_config": "IBuilderConfig",
    "create_optimization_profile": "IOptimizationProfile",
    "get_error": "ParserError",
    "get_input": "ITensor",
    "get_timing_cache": "ITimingCache",
    "deserialize_cuda_engine": "ICudaEngine",
    "create_execution_context": "IExecutionContext",
}
PLAIN = ("8.6", "10.3", "10.13", "10.16", "11.4")


class Strict:
    """An object of a class of TensorRT that has the recorded attributes of this class only."""

    def __init__(self, inner: Any, kind: str, classes: dict[str, list[str]]) -> None:
        self.__dict__.update(inner=inner, kind=kind, classes=classes)

    def _check(self, name: str) -> None:
        if name not in self.classes[self.kind]:
            raise AttributeError(f"{self.kind} has no {name}")

    def __getattr__(self, name: str) -> Any:
        self._check(name)
        value = getattr(self.inner, name)
        return self._strict(name, value) if callable(value) else value

    def __setattr__(self, name: str, value: object) -> None:
        self._check(name)
        setattr(self.inner, name, value)

    def _strict(self, name: str, function: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            own = [a.inner if isinstance(a, Strict) else a for a in arguments]
            result = function(*own, **more)
            if name in RETURNED and result is not None:
                return Strict(result, RETURNED[name], self.classes)
            return result

        return call


def become(trt: FakeTensorRt, version: str) -> None:
    classes = classes_of(version)
    (entry,) = (e for e in RECORDED if e["version"].startswith(f"{version}."))
    trt.__version__ = entry["version"]
    trt.NetworkDefinitionCreationFlag = SimpleNamespace(**entry["network_flag_bits"])
    for kind in ("BuilderFlag", "MemoryPoolType"):
        setattr(trt, kind, SimpleNamespace(**{name: name for name in classes[kind]}))
    if "IProgressMonitor" not in classes:
        del trt.IProgressMonitor
    for kind in ("Builder", "Runtime", "OnnxParser"):
        setattr(trt, kind, strict_constructor(getattr(trt, kind), kind, classes))


def strict_constructor(plain: Any, kind: str, classes: dict[str, list[str]]) -> Any:
    def construct(*arguments: Any) -> Strict:
        own = [a.inner if isinstance(a, Strict) else a for a in arguments]
        return Strict(plain(*own), kind, classes)

    return construct


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    return FakeMachine(monkeypatch)


@pytest.mark.parametrize("version", PLAIN)
def test_an_engine_is_built_and_run(
    machine: FakeMachine, nano_bundle: Bundle, tmp_path: Path, version: str
) -> None:
    become(machine.trt, version)
    folder = shutil.copytree(nano_bundle.path, tmp_path / "nano")
    done: list[str] = []
    options = BuildOptions("fp32", workspace_mb=64)
    bundle = build(folder, options, lambda step, total, words: done.append(words))
    assert bool(done) == ("IProgressMonitor" in classes_of(version))
    images = random_images(bundle.spec, 1)
    results = []
    for backend in ("tensorrt", "onnxruntime"):
        graphs = open_graphs(bundle, backend=backend, precision="fp32")
        template_kv = graphs.template.run({"templates": images["templates"]})["template_kv"]
        results.append(graphs.search.run({"search": images["search"], "template_kv": template_kv}))
        graphs.close()
    np.testing.assert_array_equal(results[0]["edge_probs"], results[1]["edge_probs"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_typing_is_strong_where_it_can_be_and_flags_are_set_where_it_cannot(
    machine: FakeMachine, nano_bundle: Bundle, version: str, precision: str
) -> None:
    trt = machine.trt
    become(trt, version)
    log = make_log(trt)
    model = nano_bundle.path / "onnx" / "fp32" / "search.onnx"
    assert model.is_file()
    build_engine(trt, trt.Builder(log), log, model, BuildOptions(precision))
    flags = [call[1] for call in trt.build_calls if call[0] == "set_flag"]
    weak = {"fp32": [], "fp16": ["FP16"], "int8": ["FP16", "INT8"]}
    assert flags == (weak[precision] if version == "8.6" else [])
    (created,) = (call[1] for call in trt.build_calls if call[0] == "create_network")
    assert created == (1 if version in ("8.6", "11.4", "1.7") else 2)


def test_an_attribute_that_a_version_lacks_would_be_noticed(machine: FakeMachine) -> None:
    become(machine.trt, "11.4")
    config = machine.trt.Builder(make_log(machine.trt)).create_builder_config()
    with pytest.raises(AttributeError, match="IBuilderConfig has no int8_calibrator"):
        config.int8_calibrator = None


def test_the_page_names_what_tensorrt_11_removed() -> None:
    page = (REPOSITORY / "docs" / "jetson.md").read_text(encoding="utf-8")
    section = page.split("## TensorRT 10 and 11")[1].split("\n## ")[0]
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", section))))
    before, after = classes_of("10.16"), classes_of("11.4")
    gone = {*before["BuilderFlag"]} - {*after["BuilderFlag"]}
    either_constraint = {"OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS"}
    assert gone - either_constraint <= named
    removed = {"int8_calibrator", "EXPLICIT_BATCH", "platform_has_fast_fp16"}
    removed |= {"platform_has_fast_int8", "algorithm_selector", "device_memory_size"}
    assert removed <= named
    assert not removed & {name for names in after.values() for name in names}
