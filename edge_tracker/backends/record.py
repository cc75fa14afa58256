"""What the project knows of a backend: one record, which the choice, doctor, bench and the command
line loop over. See `BACKENDS` in choice.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edge_tracker.backends.graph import CompiledGraph, TemplateGraph
from edge_tracker.bundle.manifest import Artefact
from edge_tracker.bundle.opening import Bundle
from edge_tracker.installing import install_command

#: Types of floating-point arithmetic, the most exact first.
COMPUTES = ("f32", "f16", "bf16")
#: What each type needs, for those who lack it.
NEEDS: Mapping[str, str] = {
    "f32": "an fp32 artefact (convert with --precision fp32)",
    "f16": "onnx/fp16 (convert with --precision fp16), a GPU, or a CPU with float16 arithmetic",
    "bf16": "an OpenVINO artefact and a CPU with AVX512-BF16, AMX or Arm's BF16",
}


@dataclass(frozen=True)
class Obstacle:
    """Why something cannot run here, and what to do about it."""

    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}"


def missing_package(name: str) -> Obstacle | None:
    """For a backend that is one package of the same name; loads nothing."""
    if find_spec(name) is not None:
        return None
    return Obstacle(f"the package {name} is not installed", install_command(name))


@dataclass(frozen=True)
class Placement:
    """Where an artefact is to run and how; None where the backend chooses.

    device: the backend's name of one. num_threads: of a CPU. cache_dir: where compiled models are
    kept. compute: the type of floating-point arithmetic, one that the backend has for the artefact.
    """

    device: str | None = None
    num_threads: int | None = None
    cache_dir: str | Path | None = None
    compute: str | None = None


@dataclass(frozen=True)
class Candidate:
    """An artefact, and a type that its backend can compute it in here."""

    artefact: Artefact
    compute: str

    @property
    def name(self) -> str:
        return f"{self.artefact.name} in {self.compute}"


#: -> template graph, search graph, device.
Open = Callable[[Bundle, Artefact, Placement], tuple[TemplateGraph, CompiledGraph, str]]


def row_name(artefact: Artefact, compute: str | None) -> str:
    """Of an artefact in a table, in the type that was asked for."""
    return artefact.name if compute is None else Candidate(artefact, compute).name


def _converted_artefact(
    backend: Backend, bundle: Bundle, precision: str | None, device: str | None
) -> Artefact | None:
    found = (bundle.find(kind, precision) for kind in backend.artefact_kinds)
    return next((artefact for artefact in found if artefact is not None), None)


def _convert_again(bundle: Bundle, precision: str | None) -> str:
    have = ", ".join(artefact.name for artefact in bundle.artefacts) or "nothing"
    wanted = f"{precision} artefact" if precision else "artefact"
    return (
        f"the bundle has no {wanted} for it, only {have}; "
        "convert the checkpoint with --to and --precision"
    )


@dataclass(frozen=True)
class Backend:
    """name: as in `--backend`.
    artefact_kinds: formats of a bundle's artefacts that it runs.
    packages: its Python modules -> distributions that bring them.
    find: what keeps it from running here, if anything; loads nothing.
    found: the devices or the version that are here, once `find` has nothing to say; loads it, and
    raises ImportError, RuntimeError or BackendUnavailable if that fails.
    open: both graphs compiled, and the device; raises ImportError, BackendUnavailable, BundleError.
    computes: the types that it can compute an artefact in on a device, the one that it takes unless
    told first; called once `find` has nothing to say.
    choose: the bundle's artefact for a precision and device, None if it has none.
    absent: why the bundle has none, and what makes one.
    device_bound: its artefacts belong to one device, so "auto" passes over those that are damaged.
    """

    name: str
    artefact_kinds: tuple[str, ...]
    packages: Mapping[str, tuple[str, ...]]
    find: Callable[[], Obstacle | None]
    found: Callable[[], str]
    open: Open
    computes: Callable[[Artefact, str | None], tuple[str, ...]]
    choose: Callable[[Backend, Bundle, str | None, str | None], Artefact | None] = (
        _converted_artefact
    )
    absent: Callable[[Bundle, str | None], str] = _convert_again
    device_bound: bool = False
