"""int8 artefacts of a bundle: made, judged, and refused where they lose too much."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from calibration.accuracy import measure_accuracy
from calibration.quantise import (
    INT8_OPSET,
    Models,
    chosen_layers,
    layer_names,
    quantise_onnx,
    quantise_openvino,
    save_onnx,
)
from calibration.recording import NUM_SAMPLES
from calibration.samples import MIN_SAMPLES, CalibrationSamples
from calibration.sensitivity import layer_sensitivity
from calibration.split import FoundMaterial, Material, find_material, record_material
from converters.draft import Draft, describe_artefact
from converters.progress import Progress
from converters.to_onnx import OPSET
from edge_tracker.bundle.contract import GRAPHS
from edge_tracker.bundle.goldens import Golden
from edge_tracker.bundle.manifest import Int8Accuracy
from edge_tracker.tracker import EdgeTracker

MAX_AUC_DROP = 0.01
#: Of int8's boxes with fp32's, where there is no ground truth.
MIN_IOU = 0.8
#: Layers that a refusal names.
NUM_SUSPECTS = 5


@dataclass(frozen=True)
class Int8Options:
    """How to quantise; `convert_checkpoint` takes it as its Quantiser.

    calibration: a folder to record from, or an .npz of samples. judged_on: a data set whose
    sequences decide, or a folder of videos; by default every second annotated sequence of the
    folder, or every second video if fewer than two are annotated, which is then left out of the
    samples. max_auc_drop: an artefact that loses more success AUC is refused, and so is
    one whose edges, on equal crops, are off by more than a bin in the mean. min_iou: without ground
    truth, one is refused whose boxes overlap fp32's less, mean over the videos. keep_fp: layers to
    leave in floating point, by name or by the start of a name. num_samples, seed: of what is
    recorded from a folder.

    Raises ValueError for a number out of range.
    """

    calibration: str | Path
    judged_on: str | Path | None = None
    max_auc_drop: float = MAX_AUC_DROP
    min_iou: float = MIN_IOU
    keep_fp: tuple[str, ...] = ()
    num_samples: int = NUM_SAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        if not math.isfinite(self.max_auc_drop):
            raise ValueError(f"max_auc_drop is {self.max_auc_drop}: expected a number like 0.01")
        if not 0 <= self.min_iou <= 1:
            raise ValueError(f"min_iou is {self.min_iou}: expected a number from 0 to 1")
        if self.num_samples < MIN_SAMPLES:
            raise ValueError(f"num_samples is {self.num_samples}: expected at least {MIN_SAMPLES}")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}: expected a whole number from 0")

    @property
    def inputs(self) -> tuple[Path, ...]:
        named = (self.calibration, self.judged_on)
        return tuple(Path(path) for path in named if path is not None)

    def prepare(self, formats: Sequence[str]) -> Int8Quantisation:
        """Raises CalibrationError or DatasetError for samples or sequences that cannot be used."""
        found = find_material(self.calibration, self.judged_on)
        return Int8Quantisation(self, tuple(formats), found)


@dataclass(frozen=True)
class Int8Quantisation:
    """A converter's Quantisation."""

    options: Int8Options
    formats: tuple[str, ...]
    found: FoundMaterial

    @property
    def steps(self) -> list[str]:
        steps = ["Recording calibration samples"]
        for kind in self.formats:
            steps += [f"Quantising {kind}", f"Tracking with {kind} int8 and fp32"]
        return steps

    def add(
        self, draft: Draft, golden: Golden, metadata: Mapping[str, str], progress: Progress
    ) -> list[str]:
        """See `Quantisation`. Raises CalibrationError for samples, sequences or layers that cannot
        be used, DatasetError for sequences that cannot be read.
        """
        folder, keep_fp = draft.folder, self.options.keep_fp
        floating = folder / "onnx" / "fp32"
        chosen_layers(layer_names(floating), keep_fp)
        progress.step()
        material = _gather(folder, self.found, self.options, progress)
        explicit: Models | None = None
        refusals = []
        for kind in self.formats:
            progress.step()
            target = folder / kind / "int8"
            stamped = {**metadata, "calibration_seed": str(material.samples.provenance["seed"])}
            if kind == "onnx":
                explicit = quantise_onnx(floating, material.samples, keep_fp)
                save_onnx(explicit, target, stamped)
            else:
                quantise_openvino(floating, target, material.samples, keep_fp, stamped)
            opset = INT8_OPSET if kind == "onnx" else OPSET
            artefact = describe_artefact(folder, kind, "int8", opset)
            draft.artefacts.append(artefact)
            draft.write()
            artefact = draft.change(artefact, parity=draft.measure(artefact, golden))
            progress.step()
            accuracy = _judge(folder, kind, material, progress)
            bin_px = draft.spec.search_size_px / draft.spec.bins
            if objection := _objection(accuracy, self.options, bin_px):
                refusals.append(f"{kind}/int8 is refused: {objection}")
                draft.artefacts.remove(artefact)
                shutil.rmtree(target)
            else:
                draft.change(artefact, accuracy=replace(accuracy, kept_fp=keep_fp))
                draft.calibration = material.samples.provenance
            draft.write()
        if refusals:
            explicit = explicit or quantise_onnx(floating, material.samples, keep_fp)
            refusals.append(_suspects(floating, explicit, material.crops))
        return refusals


def _gather(
    folder: Path, found: FoundMaterial, options: Int8Options, progress: Progress
) -> Material:
    with (
        tempfile.TemporaryDirectory() as cache_dir,
        EdgeTracker(folder, precision="fp32", cache_dir=cache_dir, compute="f32") as tracker,
    ):
        return record_material(
            tracker,
            found,
            num_samples=options.num_samples,
            seed=options.seed,
            on_progress=lambda done, total, name: progress.detail(f"{name}, {done} of {total}"),
        )


def _judge(folder: Path, kind: str, material: Material, progress: Progress) -> Int8Accuracy:
    with tempfile.TemporaryDirectory() as cache_dir:
        return measure_accuracy(
            folder,
            kind,
            material,
            Path(cache_dir),
            on_progress=lambda done, total, name: progress.detail(f"{done} of {total} sequences"),
        )


def _objection(accuracy: Int8Accuracy, limits: Int8Options, bin_px: float) -> str | None:
    """Why int8 is not good enough; None if it is. Written so that what is no number is not."""
    if accuracy.auc_drop is None:
        if not accuracy.trajectory_iou_mean >= limits.min_iou:
            return (
                f"its boxes overlap fp32's by {accuracy.trajectory_iou_mean:.3f}, mean over "
                f"{len(accuracy.sequences)} videos without annotations; at least "
                f"{limits.min_iou:g} is asked for (--min-iou)"
            )
    elif not accuracy.auc_drop <= limits.max_auc_drop:
        return (
            f"its success AUC is {accuracy.auc_int8:.3f} where fp32 has {accuracy.auc_fp32:.3f}, "
            f"mean over {len(accuracy.sequences)} held-back sequences; a loss of up to "
            f"{limits.max_auc_drop:g} is allowed (--max-auc-drop)"
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
