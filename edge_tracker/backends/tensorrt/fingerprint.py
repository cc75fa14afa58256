"""What a TensorRT engine belongs to: compared before TensorRT sees the engine.

TensorRT's own check comes late, differs between versions, and does not notice another ONNX.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import PurePosixPath

from edge_tracker.backends.tensorrt.module import installed_modules, load_module
from edge_tracker.bundle.manifest import Artefact
from edge_tracker.bundle.opening import Bundle
from edge_tracker.errors import BundleError, EngineMismatch
from edge_tracker.files.untrusted import read_json, reading
from edge_tracker.hardware import CudaDevice, Nvidia

ENGINE_JSON = "engine.json"

_TITLES: Mapping[str, str] = {
    "module": "module",
    "tensorrt": "TensorRT",
    "compute_capability": "compute capability",
    "gpu": "GPU",
    "cuda": "CUDA",
    "l4t": "Jetson Linux",
    "precision": "precision",
    "onnx_sha256": "ONNX",
}


@dataclass(frozen=True)
class EngineFingerprint:
    """module: "tensorrt" or "tensorrt_rtx", and its version. gpu, cuda, l4t: name of the GPU, CUDA
    version of the driver, Jetson Linux release; gpu is None if the engine was compiled ahead, for
    all GPUs of the compute capability. onnx_sha256: of the files that it was built from.
    """

    module: str
    tensorrt: str
    compute_capability: str
    gpu: str | None
    cuda: str | None
    l4t: str | None
    precision: str
    onnx_sha256: str


def fingerprint_here(
    bundle: Bundle, source: Artefact, module: str, version: str, nvidia: Nvidia, device: CudaDevice
) -> EngineFingerprint:
    """Of an engine that is built on this machine, from the ONNX artefact `source`."""
    return EngineFingerprint(
        module=module,
        tensorrt=version,
        compute_capability=device.compute_capability,
        gpu=device.name,
        cuda=nvidia.cuda,
        l4t=nvidia.l4t,
        precision=source.precision,
        onnx_sha256=onnx_sha256(bundle, source),
    )


def fingerprint_ahead(
    bundle: Bundle, source: Artefact, module: str, version: str, compute_capability: str
) -> EngineFingerprint:
    """Of an engine that is compiled for every GPU of a compute capability."""
    return EngineFingerprint(
        module=module,
        tensorrt=version,
        compute_capability=compute_capability,
        gpu=None,
        cuda=None,
        l4t=None,
        precision=source.precision,
        onnx_sha256=onnx_sha256(bundle, source),
    )


def onnx_sha256(bundle: Bundle, source: Artefact) -> str:
    """Of the manifest's hashes of the ONNX files, which are checked against the files elsewhere."""
    hashes = [bundle.files[path].sha256 for path in sorted(source.files())]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def matching_engine(
    bundle: Bundle, engines: Sequence[Artefact], nvidia: Nvidia, ordinal: int
) -> tuple[Artefact, EngineFingerprint]:
    """The first of `engines` that belongs to this machine.

    Raises EngineMismatch, which says what differs and how to rebuild, if none does; BundleError for
    an engine.json that is damaged.
    """
    nearest: tuple[Artefact, list[str]] | None = None
    for engine in engines:
        fingerprint = read_fingerprint(bundle, engine)
        differences = _differences(bundle, fingerprint, nvidia, ordinal)
        if not differences:
            return engine, fingerprint
        if nearest is None or len(differences) < len(nearest[1]):
            nearest = engine, differences
    if nearest is None:
        raise EngineMismatch(
            f"bundle {bundle.path} has no engine; build one here: {rebuild_command(bundle, 'fp16')}"
        )
    engine, differences = nearest
    raise EngineMismatch(
        f"engine {engine_folder(engine)} of bundle {bundle.path} does not belong to this machine: "
        f"{'; '.join(differences)}. Build one here: {rebuild_command(bundle, engine.precision)}"
    )


def read_fingerprint(bundle: Bundle, engine: Artefact) -> EngineFingerprint:
    """Raises BundleError for an engine.json that is missing, altered or incomplete."""
    relative = f"{engine_folder(engine)}/{ENGINE_JSON}"
    bundle.check_files([relative])
    remedy = f"build the engine again: {rebuild_command(bundle, engine.precision)}"
    with reading(f"bundle {bundle.path}: {relative}", remedy, BundleError):
        entry = read_json(bundle.path / relative)
        said = {field.name: entry[field.name] for field in fields(EngineFingerprint)}
        if wrong := [name for name, value in said.items() if not isinstance(value, str | None)]:
            raise TypeError(f"{wrong[0]} is {said[wrong[0]]!r:.40}, expected text")
        return EngineFingerprint(**said)


def engine_folder(engine: Artefact) -> str:
    return PurePosixPath(engine.graphs["search"].model).parent.as_posix()


def rebuild_command(bundle: Bundle, precision: str) -> str:
    return f"edge-tracker build {bundle.path} --to tensorrt --precision {precision}"


def _differences(
    bundle: Bundle, engine: EngineFingerprint, nvidia: Nvidia, ordinal: int
) -> list[str]:
    if engine.module not in installed_modules():
        have = " and ".join(installed_modules())
        return [f"it was built by {engine.module}, here is {have}"]
    source = bundle.find("onnx", engine.precision)
    if source is None:
        return [f"it was built from onnx/{engine.precision}, which the bundle no longer has"]
    version = load_module(engine.module).__version__
    here = fingerprint_here(bundle, source, engine.module, version, nvidia, nvidia.devices[ordinal])
    any_gpu = ("gpu", "cuda", "l4t") if engine.gpu is None else ()
    found = []
    for name, title in _TITLES.items():
        built, now = getattr(engine, name), getattr(here, name)
        if name in any_gpu or built == now:
            continue
        if name == "onnx_sha256":
            found.append("the ONNX in the bundle is another one than it was built from")
        else:
            found.append(f"{title} {built or 'none'} when it was built, {now or 'none'} here")
    return found
