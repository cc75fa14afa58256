"""A backend as somebody would add one: its record, and nothing else. It runs ONNX by OpenVINO."""

from __future__ import annotations

from dataclasses import replace

from edge_tracker.backends import openvino
from edge_tracker.backends.graph import CompiledGraph, TemplateGraph
from edge_tracker.backends.record import Backend, Obstacle, Placement
from edge_tracker.bundle.manifest import Artefact
from edge_tracker.bundle.opening import Bundle


def compile_graphs(
    bundle: Bundle,
    artefact: Artefact,
    placement: Placement,
) -> tuple[TemplateGraph, CompiledGraph, str]:
    converted = bundle.find("openvino", artefact.precision)
    assert converted is not None
    template, search, _ = openvino.compile_graphs(
        bundle, converted, replace(placement, device="CPU")
    )
    return template, search, placement.device or "TOASTER"


BACKEND = Backend(
    name="toaster",
    artefact_kinds=("onnx",),
    packages={"json": ("toaster-runtime",)},
    find=lambda: None,
    found=lambda: "TOASTER, two slots",
    open=compile_graphs,
    computes=lambda artefact, device: ("f32",),
)


def missing() -> Obstacle:
    return Obstacle("no toaster is plugged in", "plug one in")
