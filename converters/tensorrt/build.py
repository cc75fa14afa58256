"""ONNX pair in the bundle -> TensorRT engines in the bundle, on the device that will run them.

Needs neither torch nor onnx.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from converters.tensorrt.engine_builder import BuildOptions, build_engine, find_capability
from converters.tensorrt.quantisers import refuse_unsigned_quantisers
from edge_tracker.backends.tensorrt.fingerprint import (
    ENGINE_JSON,
    EngineFingerprint,
    engine_folder,
    fingerprint_ahead,
    fingerprint_here,
    read_fingerprint,
)
from edge_tracker.backends.tensorrt.module import (
    device_obstacle,
    installed_modules,
    load_module,
    make_log,
    module_obstacle,
)
from edge_tracker.bundle.contract import GRAPHS
from edge_tracker.bundle.manifest import Artefact, artefact_entry
from edge_tracker.bundle.opening import Bundle, open_bundle, sha256_of
from edge_tracker.bundle.writing import add_folder, adding_folder
from edge_tracker.errors import BackendUnavailable, BundleError
from edge_tracker.hardware import read_nvidia
from edge_tracker.options import OnProgress

TIMING_CACHE = "timing.cache"


def build(
    bundle: str | Path | Bundle, options: BuildOptions, on_progress: OnProgress | None = None
) -> Bundle:
    """Build both engines from the bundle's ONNX and add them to the bundle.

    They replace engines for the same GPU, TensorRT and precision. Raises BackendUnavailable where
    nothing can be built, BundleError if the ONNX is missing or altered, EdgeTrackerError if
    TensorRT fails, OSError if writing does. Whatever fails, the bundle is as it was.
    """
    bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    source = _source(bundle, options.precision)
    trt, fingerprint = _target(bundle, source, options)
    log = make_log(trt)
    try:
        builder = trt.Builder(log)
    except TypeError as error:  # what pybind11 raises for a constructor that gives nothing
        raise BackendUnavailable(
            f"{trt.__name__} {trt.__version__} cannot start here: {log.last_words()}"
        ) from error
    with adding_folder(bundle.path) as folder:
        timing_cache = _timing_cache(bundle, fingerprint)
        for graph in GRAPHS:
            path = bundle.path / source.graphs[graph].model
            engine, timing_cache = build_engine(
                trt, builder, log, path, options, timing_cache, _titled(on_progress, graph)
            )
            (folder / f"{graph}.engine").write_bytes(engine)
        if timing_cache:
            (folder / TIMING_CACHE).write_bytes(timing_cache)
        belongs = {**asdict(fingerprint), "max_targets": options.max_targets}
        (folder / ENGINE_JSON).write_text(json.dumps(belongs, indent=2) + "\n", encoding="utf-8")
        name = f"tensorrt/{_folder_name(fingerprint, folder)}"
        entry = artefact_entry(_describe(source, name))
        add_folder(bundle.path, folder, name, entry, _replaced(bundle, fingerprint))
    return open_bundle(bundle.path)


def _source(bundle: Bundle, precision: str) -> Artefact:
    source = bundle.find("onnx", precision)
    if source is None:
        remedy = f"convert the checkpoint again, with --precision {precision}"
        if precision == "int8":
            remedy += " --calibration FOLDER, or build --precision fp16"
        raise BundleError(
            f"bundle {bundle.path} has no onnx/{precision}, from which the engine is built: "
            f"{remedy}"
        )
    bundle.check_files(source.files())
    for graph in GRAPHS:
        refuse_unsigned_quantisers(bundle.path / source.graphs[graph].model)
    return source


def _target(
    bundle: Bundle, source: Artefact, options: BuildOptions
) -> tuple[Any, EngineFingerprint]:
    """The TensorRT module to build with, and what its engines will belong to."""
    nvidia = read_nvidia(Path("/"))
    if options.compute_capability is not None:
        if "tensorrt_rtx" not in installed_modules():
            raise BackendUnavailable(
                "only TensorRT for RTX builds for another GPU (pip install tensorrt_rtx); plain "
                "TensorRT builds on the device itself, without --compute-capability"
            )
        trt = load_module("tensorrt_rtx")
        find_capability(trt, options.compute_capability)
        capability = options.compute_capability
        return trt, fingerprint_ahead(bundle, source, "tensorrt_rtx", trt.__version__, capability)
    if (obstacle := device_obstacle(nvidia)) is not None:
        raise BackendUnavailable(
            f"{obstacle}; plain TensorRT builds on the device only, TensorRT for RTX also ahead: "
            "--compute-capability 8.6"
        )
    if (obstacle := module_obstacle(nvidia)) is not None:
        raise BackendUnavailable(str(obstacle))
    trt = load_module(installed_modules()[0])
    return trt, fingerprint_here(
        bundle, source, trt.__name__, trt.__version__, nvidia, nvidia.devices[0]
    )


def _describe(source: Artefact, folder: str) -> Artefact:
    """Parity is not known here: `edge-tracker verify` measures it."""
    graphs = {
        name: replace(graph, model=f"{folder}/{name}.engine", weights=None)
        for name, graph in source.graphs.items()
    }
    return Artefact("tensorrt", source.precision, graphs, parity=None, size_bytes=0)


def _replaced(bundle: Bundle, fingerprint: EngineFingerprint) -> list[str]:
    """Folders of engines that differ from this one in nothing but the ONNX."""
    folders = []
    for engine in bundle.artefacts:
        if engine.format != "tensorrt":
            continue
        try:
            earlier = read_fingerprint(bundle, engine)
        except BundleError:
            folders.append(engine_folder(engine))
            continue
        if replace(earlier, onnx_sha256=fingerprint.onnx_sha256) == fingerprint:
            folders.append(engine_folder(engine))
    return folders


def _timing_cache(bundle: Bundle, fingerprint: EngineFingerprint) -> bytes:
    """That of an earlier build for the same GPU and TensorRT, or empty."""
    for engine in bundle.artefacts:
        cache = bundle.path / engine_folder(engine) / TIMING_CACHE
        if engine.format != "tensorrt" or not cache.is_file():
            continue
        try:
            earlier = read_fingerprint(bundle, engine)
        except BundleError:
            continue
        same = ("module", "tensorrt", "compute_capability", "gpu")
        if all(getattr(earlier, name) == getattr(fingerprint, name) for name in same):
            return cache.read_bytes()
    return b""


def _folder_name(fingerprint: EngineFingerprint, folder: Path) -> str:
    """Ends in a hash of the files, so that an engine never takes the place of another."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        digest.update(sha256_of(file).encode())
    capability = fingerprint.compute_capability.replace(".", "")
    version = f"{fingerprint.module}{fingerprint.tensorrt}"
    return f"sm{capability}-{version}-{fingerprint.precision}-{digest.hexdigest()[:8]}"


def _titled(on_progress: OnProgress | None, graph: str) -> OnProgress | None:
    if on_progress is None:
        return None
    return lambda done, total, words: on_progress(done, total, f"{graph} engine: {words}")
