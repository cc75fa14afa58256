"""Every attribute of TensorRT that the source uses exists in the versions that devices have.

The lists were recorded from NVIDIA's own bindings by record_tensorrt_attributes.py.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.places import REPOSITORY
from tests.helpers.record_tensorrt_attributes import list_attributes

RECORDED = json.loads((REPOSITORY / "tests/helpers/tensorrt_attributes.json").read_text())
#: JetPack 6.0, 6.1 and 6.2, 7.0 and 7.1, 7.2, then desktops.
VERSIONS = ("8.6", "10.3", "10.13", "10.16", "11.4", "1.7")
SOURCES = (
    "converters/tensorrt/engine_builder.py",
    "edge_tracker/backends/tensorrt/opening.py",
    "edge_tracker/backends/tensorrt/engine.py",
    "edge_tracker/backends/tensorrt/module.py",
)
#: Names that variables of each class bear in the sources.
VARIABLES = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "engine": "ICudaEngine",
    "flags": "NetworkDefinitionCreationFlag",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "tensor": "ITensor",
}
RETURNED = {
    "get_error": "ParserError",
    "get_timing_cache": "ITimingCache",
    "get_tensor_dtype": "DataType",
}
Used = tuple[str, str | None]


def uses(path: Path) -> Iterator[Used]:
    """(class, attribute) of each use; the attribute is None where the class itself is meant."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Attribute) or node.attr.startswith("__"):
            continue
        match node.value:
            case ast.Name("trt"):
                yield node.attr, None
            case ast.Attribute(ast.Name("trt"), kind):
                yield kind, node.attr
            case ast.Name(name) | ast.Attribute(_, name) if name in VARIABLES:
                yield VARIABLES[name], node.attr
            case ast.Call(ast.Attribute(_, function)) if function in RETURNED:
                yield RETURNED[function], node.attr


ALL_USES = sorted({use for source in SOURCES for use in uses(REPOSITORY / source)}, key=str)


def classes_of(version: str) -> dict[str, list[str]]:
    (entry,) = (e for e in RECORDED if e["version"].startswith(f"{version}."))
    return {name: attributes.split() for name, attributes in entry["classes"].items()}


def is_gated(use: Used, classes: dict[str, list[str]]) -> bool:
    """Whether the source asks first, and does without where it is missing."""
    kind, attribute = use
    strongly_typed = "STRONGLY_TYPED" in classes["NetworkDefinitionCreationFlag"]
    ahead_of_time = "set_compute_capability" in classes["IBuilderConfig"]
    return (
        (kind == "IProgressMonitor" and "IProgressMonitor" not in classes)
        or (attribute == "progress_monitor" and "IProgressMonitor" not in classes)
        or (kind == "BuilderFlag" and strongly_typed)
        or (attribute == "EXPLICIT_BATCH" and strongly_typed)
        or (kind == "ComputeCapability" and not ahead_of_time)
        or (
            attribute in ("num_compute_capabilities", "set_compute_capability")
            and not ahead_of_time
        )
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_every_attribute_exists(version: str) -> None:
    classes = classes_of(version)
    missing = [
        (kind, attribute)
        for kind, attribute in ALL_USES
        if kind not in classes or (attribute is not None and attribute not in classes[kind])
    ]
    assert [use for use in missing if not is_gated(use, classes)] == []


def test_the_source_was_searched() -> None:
    """The calls without which nothing runs are among those that were found."""
    assert {
        ("IExecutionContext", "execute_async_v3"),
        ("IExecutionContext", "set_tensor_address"),
        ("ICudaEngine", "get_tensor_profile_shape"),
        ("ICudaEngine", "create_execution_context"),
        ("Runtime", "deserialize_cuda_engine"),
        ("Builder", "build_serialized_network"),
        ("OnnxParser", "parse_from_file"),
        ("ParserError", "desc"),
        ("ITimingCache", "serialize"),
        ("MemoryPoolType", "WORKSPACE"),
    } <= set(ALL_USES)
    assert len(ALL_USES) > 40


@pytest.mark.parametrize("version", VERSIONS)
def test_types_that_engines_have_at_their_edges_exist(version: str) -> None:
    assert {"UINT8", "FLOAT", "HALF", "INT8"} <= set(classes_of(version)["DataType"])


def test_strong_typing_is_another_bit_in_other_versions_and_so_looked_up_by_name() -> None:
    bits = {
        e["version"].split(".")[0]: e["network_flag_bits"].get("STRONGLY_TYPED") for e in RECORDED
    }
    assert bits == {"8": None, "10": 1, "11": 0, "1": 0}
    source = (REPOSITORY / "converters/tensorrt/engine_builder.py").read_text()
    assert 'getattr(flags, "STRONGLY_TYPED", None)' in source


def test_the_recorded_lists_are_those_of_the_installed_module() -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt_rtx (pip install tensorrt_rtx)")
    live: dict[str, Any] = list_attributes("tensorrt_rtx", {})
    (recorded,) = (e for e in RECORDED if e["source"] == "tensorrt_rtx")
    if live["version"] != recorded["version"]:
        pytest.skip(f"tensorrt_rtx {live['version']} is installed, {recorded['version']} recorded")
    assert live["classes"] == recorded["classes"]
