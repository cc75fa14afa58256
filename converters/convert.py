"""A checkpoint in, a bundle out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from converters.draft import Draft, describe_artefact
from converters.golden_cases import make_golden
from converters.progress import Progress
from converters.quantiser import Quantiser
from converters.to_onnx import export_onnx
from converters.to_openvino import convert_to_openvino
from edge_tracker.backends.parity import LIMITS
from edge_tracker.bundle.goldens import GOLDEN, Golden
from edge_tracker.bundle.manifest import Artefact, Parity, Source, parse_presence
from edge_tracker.bundle.opening import Bundle, open_bundle, sha256_of
from edge_tracker.bundle.spec import spec_to_dict
from edge_tracker.bundle.writing import replacing_folder
from edge_tracker.errors import CheckpointError, EdgeTrackerError, Int8Refused
from edge_tracker.files.untrusted import read_json, reading
from edge_tracker.options import OnProgress, TrackerOptions, tell_nobody
from edge_tracker.rules.presence_model import PresenceModel
from mixformerv2.checkpoint import build_network, read_checkpoint
from mixformerv2.model import MixFormerV2

TARGETS = ("onnx", "openvino")
PRECISIONS = ("fp32", "fp16", "int8")
TOOLS = ("edge-tracker", "torch", "onnx", "onnxsim", "onnxruntime", "openvino", "nncf", "numpy")


def convert_checkpoint(
    checkpoint: str | Path,
    output: str | Path,
    *,
    targets: Sequence[str] = TARGETS,
    precisions: Sequence[str] = ("fp32", "fp16"),
    tracker: TrackerOptions | None = None,
    int8: Quantiser | None = None,
    on_progress: OnProgress = tell_nobody,
) -> Bundle:
    """Convert a MixFormerV2 checkpoint into the bundle folder `output`, replacing an old bundle
    there.

    The ONNX pair is always made, in fp32, and again where "fp16" is asked for; "openvino" adds an
    IR for each precision, made from the ONNX pair in fp32. Every artefact
    is run against PyTorch's full forward on golden inputs; the largest errors go into the manifest.
    `tracker` are the defaults that the bundle carries; None for the official tracker's, with the
    search factor that the checkpoint states, if it does. A file NAME.presence.json beside the
    checkpoint NAME.* (`python -m distillation.presence`) lets the bundle tell presence.

    "int8" among the precisions needs `int8`, an Int8Options, which says what calibrates and judges
    it, and the package nncf; it adds an int8 artefact of each target, and OpenVINO's fp32 to judge
    it by.

    Raises CheckpointError for a bad checkpoint, ValueError for unknown targets or precisions or an
    output that is not a bundle, EdgeTrackerError for an artefact that strays too far from PyTorch,
    OSError if writing fails, CalibrationError for samples or sequences that cannot be used; then
    `output` is as it was. Raises Int8Refused for int8 artefacts that lose too much; then the bundle
    is there without them.

    So many parameters because each is an option of `edge-tracker convert`.
    """
    checkpoint, output = Path(checkpoint), Path(output)
    _check_choice("target", targets, TARGETS)
    _check_choice("precision", precisions, PRECISIONS)
    if ("int8" in precisions) != (int8 is not None):
        raise ValueError(
            'int8 needs something to calibrate on: give both "int8" among the precisions and '
            "int8=Int8Options(...), or neither"
        )
    artefacts = _floating_artefacts(targets, precisions)
    quantisation = None
    if int8 is not None:
        quantisation = int8.prepare([kind for kind in TARGETS if kind in targets])
    steps = [*_steps(artefacts), *(quantisation.steps if quantisation is not None else ())]
    progress = Progress(steps, on_progress)
    inputs = [checkpoint, *(int8.inputs if int8 is not None else ())]
    with replacing_folder(output, inputs) as folder:
        progress.step()
        conversion = _begin(checkpoint, folder, tracker)
        progress.step()
        conversion.export_onnx("fp32")
        progress.step()
        golden = conversion.write_golden()
        for kind, precision in artefacts[1:]:
            progress.step()
            conversion.add_models(kind, precision)
        draft = conversion.draft(artefacts)
        draft.write()
        for artefact in list(draft.artefacts):
            progress.step()
            draft.change(artefact, parity=_checked_parity(draft, artefact, golden))
        draft.write()
        refusals = []
        if quantisation is not None:
            refusals = quantisation.add(draft, golden, conversion.metadata, progress)
    if refusals:
        raise Int8Refused(". ".join([*refusals, f"{output} was written without what is refused"]))
    return open_bundle(output)


def _floating_artefacts(targets: Sequence[str], precisions: Sequence[str]) -> list[tuple[str, str]]:
    """Formats and precisions, the one that all others are made from first."""
    artefacts = [("onnx", "fp32")]
    if "fp16" in precisions:
        artefacts.append(("onnx", "fp16"))
    if "openvino" in targets:
        wanted = [precision for precision in ("fp32", "fp16") if precision in precisions]
        if "int8" in precisions and "fp32" not in wanted:
            wanted.insert(0, "fp32")
        artefacts += [("openvino", precision) for precision in wanted]
    return artefacts


def _steps(artefacts: Sequence[tuple[str, str]]) -> list[str]:
    return [
        "Reading the checkpoint",
        "Exporting ONNX",
        "Computing golden outputs",
        *(f"Converting to {kind} {precision}" for kind, precision in artefacts[1:]),
        *(f"Measuring {kind} {precision} against PyTorch" for kind, precision in artefacts),
    ]


@dataclass(frozen=True)
class _Conversion:
    """A network on its way into a bundle's folder. metadata: what the models' own files say."""

    folder: Path
    network: MixFormerV2
    tracker: TrackerOptions
    source: Source
    presence: PresenceModel | None

    @property
    def metadata(self) -> dict[str, str]:
        spec = spec_to_dict(self.network.spec)
        return {"source_sha256": self.source.sha256, **_as_text(spec)}

    def export_onnx(self, precision: str) -> None:
        dtype = torch.float16 if precision == "fp16" else torch.float32
        export_onnx(self.network, self.folder / "onnx" / precision, self.metadata, dtype)

    def write_golden(self) -> Golden:
        golden = make_golden(self.network, self.tracker)
        golden.save(self.folder / GOLDEN)
        return golden

    def add_models(self, kind: str, precision: str) -> None:
        if kind == "onnx":
            self.export_onnx(precision)
            return
        fp32 = self.folder / "onnx" / "fp32"
        convert_to_openvino(fp32, self.folder / "openvino" / precision, precision, self.metadata)

    def draft(self, artefacts: Sequence[tuple[str, str]]) -> Draft:
        """Before any parity is known."""
        described = [describe_artefact(self.folder, *artefact) for artefact in artefacts]
        return Draft(
            self.folder,
            self.network.spec,
            self.tracker,
            self.source,
            _tool_versions(),
            described,
            presence=self.presence,
        )


def _begin(checkpoint: Path, folder: Path, tracker: TrackerOptions | None) -> _Conversion:
    stated = read_checkpoint(checkpoint)
    network = build_network(stated)
    if tracker is None and stated.search_factor is not None:
        tracker = TrackerOptions(search_factor=stated.search_factor)
    source = Source(checkpoint.name, sha256_of(checkpoint))
    return _Conversion(
        folder, network, tracker or TrackerOptions(), source, _presence_beside(checkpoint)
    )


def _presence_beside(checkpoint: Path) -> PresenceModel | None:
    name = checkpoint.name.split(".")[0]
    file = checkpoint.with_name(f"{name}.presence.json")
    if not file.is_file():
        return None
    remedy = "make it anew by python -m distillation.presence, or move it away"
    with reading(f"presence {file}", remedy, CheckpointError):
        return parse_presence(read_json(file))


def _check_choice(kind: str, chosen: Sequence[str], known: Sequence[str]) -> None:
    if unknown := [name for name in chosen if name not in known]:
        raise ValueError(f"unknown {kind} {', '.join(unknown)}: choose from {', '.join(known)}")
    if not chosen:
        raise ValueError(f"no {kind} given: choose from {', '.join(known)}")


def _checked_parity(draft: Draft, artefact: Artefact, golden: Golden) -> Parity:
    parity = draft.measure(artefact, golden)
    limit = LIMITS[artefact.precision].box_px
    if not parity.box_px <= limit:
        raise EdgeTrackerError(
            f"{artefact.format} {artefact.precision} strays {parity.box_px:.3g} px from PyTorch in "
            f"the search crop, more than the {limit} px allowed: weights may overflow in this "
            "precision; leave it out with --precision"
        )
    return parity


def _tool_versions() -> dict[str, str]:
    versions = {}
    for tool in TOOLS:
        try:
            versions[tool] = re.sub(r"\+.*", "", version(tool))
        except PackageNotFoundError:
            continue
    return versions


def _as_text(values: Mapping[str, object]) -> dict[str, str]:
    return {key: str(value) for key, value in values.items()}
