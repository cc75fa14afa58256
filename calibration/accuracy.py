"""What int8 costs: the same sequences and crops through fp32 and int8, on this machine."""

from __future__ import annotations

import glob
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from calibration.samples import CalibrationSamples
from edge_tracker.backends.choice import backend_of_format, open_graphs
from edge_tracker.backends.graph import Graphs
from edge_tracker.backends.parity import differences, run_cases
from edge_tracker.bundle.manifest import Int8Accuracy
from edge_tracker.bundle.opening import open_bundle
from edge_tracker.errors import CalibrationError
from edge_tracker.measure.evaluation.evaluate import evaluate
from edge_tracker.measure.evaluation.metrics import box_overlaps
from edge_tracker.options import OnProgress, tell_nobody

LATENCY_ROUNDS = 40


def measure_accuracy(
    bundle_path: Path,
    kind: str,
    dataset: Path,
    sequences: Sequence[str],
    samples: CalibrationSamples,
    cache_dir: Path,
    on_progress: OnProgress = tell_nobody,
) -> Int8Accuracy:
    """Compare a bundle's int8 artefact of a format with the fp32 one.

    dataset, sequences: annotated sequences that the calibration did not see. samples: crops of
    them. Raises what `evaluate` and EdgeTracker raise.

    So many parameters because it takes a bundle, footage, crops of it, and where to say and keep
    what it does.
    """
    backend = backend_of_format(kind)
    evaluation = evaluate(
        bundle_path,
        dataset,
        only=[glob.escape(name) for name in sequences],
        backends=(backend,),
        precisions=("fp32", "int8"),
        cache_dir=cache_dir,
        on_progress=on_progress,
    )
    fp32_name, int8_name = evaluation.contenders
    fp32, int8 = evaluation.overall(fp32_name), evaluation.overall(int8_name)
    if fp32 is None or int8 is None:
        raise CalibrationError(
            f"{dataset} withholds its ground truth: int8 can be judged on annotated sequences only"
        )
    overlaps = [
        float(
            box_overlaps(
                evaluation.results[fp32_name][name].trajectory.boxes_xywh[1:],
                evaluation.results[int8_name][name].trajectory.boxes_xywh[1:],
            ).mean()
        )
        for name in evaluation.sequences
    ]
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
        sequences=evaluation.sequences,
        backend=backend,
        auc_fp32=fp32.success_auc,
        auc_int8=int8.success_auc,
        ao_fp32=fp32.ao,
        ao_int8=int8.ao,
        trajectory_iou_mean=statistics.fmean(overlaps),
        trajectory_iou_worst=min(overlaps),
        box_px_mean=float(found.box_px.mean()),
        box_px_max=float(found.box_px.max()),
        score_mean=float(found.score.mean()),
        score_max=float(found.score.max()),
        edge_kl_mean=float(found.edge_kl.mean()),
        edge_kl_max=float(found.edge_kl.max()),
        latency_ratio=ratio,
    )


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
