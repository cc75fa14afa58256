"""What int8 costs: the same sequences and crops through fp32 and int8, on this machine."""

from __future__ import annotations

import glob
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from calibration.samples import CalibrationSamples
from calibration.split import Material
from edge_tracker.backends.choice import backend_of_format, open_graphs
from edge_tracker.backends.graph import Graphs
from edge_tracker.backends.parity import differences, run_cases
from edge_tracker.bundle.manifest import Int8Accuracy
from edge_tracker.bundle.opening import open_bundle
from edge_tracker.errors import CalibrationError
from edge_tracker.measure.evaluation.evaluate import evaluate
from edge_tracker.measure.evaluation.metrics import Scores, box_overlaps
from edge_tracker.options import OnProgress, tell_nobody
from edge_tracker.rules.boxes import box_iou
from edge_tracker.tracker import EdgeTracker

LATENCY_ROUNDS = 40
#: Of each video without ground truth so many frames from its start.
JUDGED_FRAMES = 1000


@dataclass(frozen=True)
class _Followed:
    """How both followed what judges. ious: of int8's boxes with fp32's, mean of each sequence."""

    sequences: tuple[str, ...]
    ious: list[float]
    fp32: Scores | None = None
    int8: Scores | None = None


def measure_accuracy(
    bundle_path: Path,
    kind: str,
    material: Material,
    cache_dir: Path,
    on_progress: OnProgress = tell_nobody,
) -> Int8Accuracy:
    """Compare a bundle's int8 artefact of a format with the fp32 one, on what `material` has to
    judge. Raises what `evaluate` and EdgeTracker raise.
    """
    backend = backend_of_format(kind)
    samples = material.crops
    follow = _follow_videos if material.videos else _follow_annotated
    followed = follow(bundle_path, backend, material, cache_dir, on_progress)
    bundle = open_bundle(bundle_path)
    graphs = [
        open_graphs(bundle, backend=backend, precision=precision, cache_dir=cache_dir)
        for precision in ("fp32", "int8")
    ]
    try:
        reference, quantised = (
            run_cases(each, samples.templates, samples.search) for each in graphs
        )
        ratio = _latency_ratio(graphs[0], graphs[1], samples)
    finally:
        for each in graphs:
            each.close()
    found = differences(reference, quantised, samples.search.shape[1])
    return Int8Accuracy(
        sequences=followed.sequences,
        backend=backend,
        auc_fp32=followed.fp32.success_auc if followed.fp32 else None,
        auc_int8=followed.int8.success_auc if followed.int8 else None,
        ao_fp32=followed.fp32.ao if followed.fp32 else None,
        ao_int8=followed.int8.ao if followed.int8 else None,
        trajectory_iou_mean=statistics.fmean(followed.ious),
        trajectory_iou_worst=min(followed.ious),
        box_px_mean=float(found.box_px.mean()),
        box_px_max=float(found.box_px.max()),
        score_mean=float(found.score.mean()),
        score_max=float(found.score.max()),
        edge_kl_mean=float(found.edge_kl.mean()),
        edge_kl_max=float(found.edge_kl.max()),
        latency_ratio=ratio,
    )


def _follow_annotated(
    bundle_path: Path, backend: str, material: Material, cache_dir: Path, on_progress: OnProgress
) -> _Followed:
    evaluation = evaluate(
        bundle_path,
        material.dataset,
        only=[glob.escape(name) for name in material.judges],
        backends=(backend,),
        precisions=("fp32", "int8"),
        cache_dir=cache_dir,
        on_progress=on_progress,
    )
    fp32_name, int8_name = evaluation.contenders
    fp32, int8 = evaluation.overall(fp32_name), evaluation.overall(int8_name)
    if fp32 is None or int8 is None:
        raise CalibrationError(
            f"{material.dataset} withholds its ground truth: int8 can be judged on annotated "
            "sequences and on videos"
        )
    ious = [
        float(
            box_overlaps(
                evaluation.results[fp32_name][name].trajectory.boxes_xywh[1:],
                evaluation.results[int8_name][name].trajectory.boxes_xywh[1:],
            ).mean()
        )
        for name in evaluation.sequences
    ]
    return _Followed(evaluation.sequences, ious, fp32, int8)


def _follow_videos(
    bundle_path: Path, backend: str, material: Material, cache_dir: Path, on_progress: OnProgress
) -> _Followed:
    """Both from the same first box, frame by frame."""
    ious = []
    with ExitStack() as stack:
        fp32, int8 = (
            stack.enter_context(
                EdgeTracker(
                    bundle_path,
                    backend=backend,
                    precision=precision,
                    cache_dir=cache_dir,
                    compute=None,
                )
            )
            for precision in ("fp32", "int8")
        )
        for index, video in enumerate(material.videos):
            on_progress(index, len(material.videos), video.name)
            frames = islice(video.frames(), JUDGED_FRAMES)
            first_frame, box = next(frames)
            assert box is not None
            for tracker in (fp32, int8):
                tracker.init(first_frame, box)
            found = [box_iou(fp32.update(f).box, int8.update(f).box) for f, _ in frames]
            if found:
                ious.append(statistics.fmean(found))
    if not ious:
        raise CalibrationError(
            f"{material.dataset} has videos of one frame only: int8 is judged on longer ones"
        )
    return _Followed(tuple(video.name for video in material.videos), ious)


def _latency_ratio(fp32: Graphs, int8: Graphs, samples: CalibrationSamples) -> float:
    """Median over the rounds of fp32's time over int8's, one search graph each in turn."""
    ratios = []
    kvs = [
        g.template.run({"templates": samples.templates[:1]})["template_kv"] for g in (fp32, int8)
    ]
    for index in range(LATENCY_ROUNDS + 5):
        search = samples.search[index % len(samples)][None]
        times = []
        for graphs, template_kv in zip((fp32, int8), kvs, strict=True):
            start = time.perf_counter()
            graphs.search.run({"search": search, "template_kv": template_kv})
            times.append(time.perf_counter() - start)
        if index >= 5:
            ratios.append(times[0] / times[1])
    return statistics.median(ratios)
