"""int8 artefacts of a bundle: made, judged, and refused where they lose too much."""

from __future__ import annotations

import math
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from calibration.accuracy import Accuracy, measure_accuracy
from calibration.quantise import (
    INT8_OPSET,
    Models,
    chosen_layers,
    layer_names,
    quantise_onnx,
    quantise_openvino,
    save_onnx,
)
from calibration.recording import NUM_SAMPLES, record_sources
from calibration.samples import MIN_SAMPLES, CalibrationSamples, load_samples
from calibration.sensitivity import layer_sensitivity
from calibration.sources import find_sources, sequence_source
from converters.artefacts import describe_artefact, replay_golden
from converters.bundle_folder import write_manifest
from converters.progress import Progress
from edge_tracker.bundle import GRAPHS
from edge_tracker.errors import CalibrationError
from edge_tracker.evaluation.layouts import SequenceFolder, find_sequences
from edge_tracker.golden import Golden
from edge_tracker.tracker import EdgeTracker

MAX_AUC_DROP = 0.01
#: Crops of the judged sequences that both networks are compared on.
NUM_JUDGED_CROPS = 128
#: Layers that a refusal names.
NUM_SUSPECTS = 5


@dataclass(frozen=True)
class Int8Options:
    """How to quantise.

    calibration: a folder to record from, or an .npz of samples. judged_on: a data set whose
    sequences decide; by default every second annotated sequence of the folder, which is then left
    out of the samples. max_auc_drop: an artefact that loses more success AUC is refused, and so is
    one whose edges, on equal crops, are off by more than a bin in the mean. keep_fp: layers to
    leave in floating point, by name or by the start of a name. num_samples, seed: of what is
    recorded from a folder.

    Raises ValueError for a number out of range.
    """

    calibration: Path
    judged_on: Path | None = None
    max_auc_drop: float = MAX_AUC_DROP
    keep_fp: tuple[str, ...] = ()
    num_samples: int = NUM_SAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        if not math.isfinite(self.max_auc_drop):
            raise ValueError(f"max_auc_drop is {self.max_auc_drop}: expected a number like 0.01")
        if self.num_samples < MIN_SAMPLES:
            raise ValueError(f"num_samples is {self.num_samples}: expected at least {MIN_SAMPLES}")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}: expected a whole number from 0")


@dataclass(frozen=True)
class _Material:
    """What calibrates and what judges: `crops` are of the sequences `judges` of `dataset`."""

    samples: CalibrationSamples
    dataset: Path
    judges: tuple[str, ...]
    crops: CalibrationSamples


def int8_steps(formats: tuple[str, ...]) -> list[str]:
    """What `add_int8` does, as `progress` is told."""
    steps = ["Recording calibration samples"]
    for kind in formats:
        steps += [f"Quantising {kind}", f"Tracking with {kind} int8 and fp32"]
    return steps


def add_int8(
    folder: Path,
    manifest: dict[str, Any],
    golden: Golden,
    formats: tuple[str, ...],
    options: Int8Options,
    metadata: Mapping[str, str],
    progress: Progress,
) -> list[str]:
    """Add an int8 artefact of each format to a bundle folder and its manifest; -> why some were
    refused.

    The folder must hold the fp32 artefacts of these formats. Raises CalibrationError for samples,
    sequences or layers that cannot be used, DatasetError for sequences that cannot be read.
    """
    floating = folder / "onnx" / "fp32"
    chosen_layers(layer_names(floating), options.keep_fp)
    progress.step()
    material = _gather(folder, options, progress)
    explicit: Models | None = None
    refusals = []
    for kind in formats:
        progress.step()
        target = folder / kind / "int8"
        stamped = {**metadata, "calibration_seed": str(material.samples.provenance.get("seed"))}
        if kind == "onnx":
            explicit = quantise_onnx(floating, material.samples, options.keep_fp)
            save_onnx(explicit, target, stamped)
        else:
            quantise_openvino(floating, target, material.samples, options.keep_fp, stamped)
        entry = describe_artefact(folder, kind, "int8")
        if kind == "onnx":
            entry["opset"] = INT8_OPSET
        manifest["artefacts"].append(entry)
        write_manifest(folder, manifest)
        entry["parity"] = asdict(replay_golden(folder, entry, golden))
        progress.step()
        accuracy = _judge(folder, kind, material, progress)
        bin_px = manifest["model"]["search_size_px"] / manifest["model"]["bins"]
        if objection := _objection(accuracy, options.max_auc_drop, bin_px):
            explicit = explicit or quantise_onnx(floating, material.samples, options.keep_fp)
            suspects = _suspects(floating, explicit, material.crops)
            refusals.append(f"{kind}/int8 is refused: {objection}. {suspects}")
            manifest["artefacts"].remove(entry)
            shutil.rmtree(target)
        else:
            entry["accuracy"] = {**asdict(accuracy), "kept_fp": list(options.keep_fp)}
            manifest["calibration"] = material.samples.provenance
        write_manifest(folder, manifest)
    return refusals


def _gather(folder: Path, options: Int8Options, progress: Progress) -> _Material:
    with (
        tempfile.TemporaryDirectory() as cache_dir,
        EdgeTracker(folder, precision="fp32", cache_dir=cache_dir) as tracker,
    ):
        return _record(tracker, options, progress)


def _record(tracker: EdgeTracker, options: Int8Options, progress: Progress) -> _Material:
    calibration, judged_on = options.calibration, options.judged_on
    if calibration.is_file():
        samples = load_samples(calibration)
        samples.check_sizes(tracker.bundle.spec, calibration)
        if len(samples) < MIN_SAMPLES:
            raise CalibrationError(
                f"{calibration} holds {len(samples)} calibration samples, at least {MIN_SAMPLES} "
                "are needed: record more with edge-tracker calibrate"
            )
        _check_factors(samples, tracker, calibration)
        if judged_on is None:
            raise CalibrationError(
                f"{calibration} holds samples without ground truth: name annotated sequences that "
                "they are not from, on which int8 is judged, with --judge-on"
            )
        judges = find_sequences(judged_on)
    else:
        sources = find_sources(calibration)
        if judged_on is not None:
            judges = find_sequences(judged_on)
        else:
            judged_on = calibration
            annotated = {s.name for s in sources if s.kind == "sequence"}
            if len(annotated) < 2:
                raise CalibrationError(
                    f"{calibration} has too few annotated sequences ({len(annotated)}): every "
                    "second one judges int8, so at least 2 are needed, or a data set for --judge-on"
                )
            judges = [s for s in find_sequences(calibration) if s.name in annotated][1::2]
            held_back = {judge.name for judge in judges}
            sources = [s for s in sources if s.kind != "sequence" or s.name not in held_back]
        samples = record_sources(
            tracker,
            sources,
            str(calibration),
            num_samples=options.num_samples,
            seed=options.seed,
            on_source=lambda done, total, name: progress.detail(f"{name}, {done} of {total}"),
        )
    judges = _not_recorded(judges, samples, judged_on)
    crops = record_sources(
        tracker,
        [sequence_source(judge) for judge in judges],
        str(judged_on),
        num_samples=NUM_JUDGED_CROPS,
        seed=options.seed,
    )
    return _Material(samples, judged_on, tuple(crops.provenance["sources"]), crops)


def _check_factors(samples: CalibrationSamples, tracker: EdgeTracker, calibration: Path) -> None:
    """Crops of another scale than the tracker's would calibrate for what it never sees."""
    recorded = samples.provenance.get("tracker", {})
    for name in ("template_factor", "search_factor"):
        wanted = getattr(tracker.options, name)
        if recorded.get(name, wanted) != wanted:
            raise CalibrationError(
                f"{calibration} was recorded with a {name} of {recorded[name]:g}, this network is "
                f"tracked with {wanted:g}: record samples with a bundle of this network"
            )


def _not_recorded(
    judges: Sequence[SequenceFolder], samples: CalibrationSamples, judged_on: Path
) -> list[SequenceFolder]:
    """The sequences that samples are not from: int8 would do too well on the others."""
    recorded = samples.provenance.get("sources", {})
    unseen = [judge for judge in judges if judge.name not in recorded]
    if not unseen:
        raise CalibrationError(
            f"samples are from every sequence of {judged_on} ({len(judges)}): int8 is judged on "
            "others, name a data set of them with --judge-on"
        )
    if len(unseen) < len(judges):
        warnings.warn(
            f"{len(judges) - len(unseen)} of {len(judges)} sequences of {judged_on} do not judge "
            "int8, as samples are from them",
            RuntimeWarning,
            stacklevel=2,
        )
    return unseen


def _judge(folder: Path, kind: str, material: _Material, progress: Progress) -> Accuracy:
    with tempfile.TemporaryDirectory() as cache_dir:
        return measure_accuracy(
            folder,
            kind,
            material.dataset,
            material.judges,
            material.crops,
            Path(cache_dir),
            on_sequence=lambda done, total, name: progress.detail(f"{done} of {total} sequences"),
        )


def _objection(accuracy: Accuracy, max_auc_drop: float, bin_px: float) -> str | None:
    """Why int8 is not good enough; None if it is. Written so that what is no number is not."""
    if not accuracy.auc_drop <= max_auc_drop:
        return (
            f"its success AUC is {accuracy.auc_int8:.3f} where fp32 has {accuracy.auc_fp32:.3f}, "
            f"mean over {len(accuracy.sequences)} held-back sequences; a loss of up to "
            f"{max_auc_drop:g} is allowed (--max-auc-drop)"
        )
    if not accuracy.box_px_mean <= bin_px:
        return (
            f"on equal crops its edges are {accuracy.box_px_mean:.2f} px from fp32's in the mean; "
            f"up to {bin_px:g} px is allowed, one bin of the distributions"
        )
    return None


def _suspects(floating: Path, explicit: Models, crops: CalibrationSamples) -> str:
    """Which layers cost most, and what to do; as quantised for ONNX, whatever the format."""
    fp32 = {graph: onnx.load(floating / f"{graph}.onnx") for graph in GRAPHS}
    suspects = layer_sensitivity(fp32, explicit, crops)[:NUM_SUSPECTS]
    named = ", ".join(f"{each.layer} ({each.share:.0%})" for each in suspects)
    example = f" (for example --keep-fp {suspects[0].layer})" if suspects else ""
    return (
        "Layers that cost most, with the part of the edges' divergence that leaving each in "
        f"floating point takes away in the ONNX model: {named or 'none'}. Leave some in floating "
        f"point{example}, or record more samples"
    )
