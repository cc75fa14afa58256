"""One-pass evaluation of a bundle's artefacts, and of peers, on an annotated data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path

import cv2

from edge_tracker.backends.choice import checked_computes
from edge_tracker.bundle.manifest import Artefact
from edge_tracker.bundle.opening import Bundle, open_bundle
from edge_tracker.errors import BackendUnavailable, DatasetError, EdgeTrackerError
from edge_tracker.hardware import read_cpu
from edge_tracker.installing import install_command
from edge_tracker.measure.evaluation.cluster import open_cluster
from edge_tracker.measure.evaluation.contenders import BundleContender, Contender
from edge_tracker.measure.evaluation.ground_truth import AnnotatedSequence, read_sequence
from edge_tracker.measure.evaluation.layouts import SequenceFolder, find_sequences
from edge_tracker.measure.evaluation.metrics import score_boxes
from edge_tracker.measure.evaluation.one_pass import follow
from edge_tracker.measure.evaluation.result import Evaluation, Failure, SequenceResult
from edge_tracker.measure.evaluation.result_files import claim_folder, read_results, write_results
from edge_tracker.options import (
    OnProgress,
    checked_function,
    checked_list,
    checked_path,
    checked_positive,
    checked_whole,
    tell_nobody,
)


def evaluate(
    bundle: str | Path | Bundle,
    dataset: str | Path,
    *,
    layout: str | None = None,
    only: Sequence[str] | None = None,
    max_frames: int | None = None,
    backends: Sequence[str] = ("auto",),
    precisions: Sequence[str | None] = (None,),
    computes: Sequence[str | None] = (None,),
    recoveries: Sequence[str | None] = (None,),
    device: str | None = None,
    num_threads: int | None = None,
    cache_dir: Path | None = None,
    peers: Sequence[Contender] = (),
    results: str | Path | None = None,
    camera_fps: float | None = None,
    jobs: int = 1,
    cluster: str | None = None,
    on_progress: OnProgress = tell_nobody,
) -> Evaluation:
    """Track every sequence of a data set from its first box; -> boxes, times and scores of each
    contender on each sequence, with means over sequences, and what failed.

    layout: see `layouts.LAYOUTS`; recognised by default. only: names or patterns of sequences.
    max_frames: of each sequence, from its start. backends, precisions, computes, recoveries: each
    backend in each precision and type of arithmetic, with each way of looking for a lost target, is
    a contender. peers: further ones. They run a sequence in turn, before the next sequence.

    results: folder for files that the official toolkits read, one folder inside for each contender;
    sequences that have their files there are not tracked again.

    camera_fps: see `one_pass.follow`. jobs: processes, each with a sequence of its own and a share
    of the cores. cluster: address of a Dask scheduler, whose workers take a sequence each. They are
    sent the bundle; data set and results, and what peers read, must have the same paths on all
    machines.

    on_progress: called with how many sequences are done, of how many, and the name of the last.

    A sequence that cannot be used becomes a failure and the others go on. Raises DatasetError if
    none can be found, ValueError or TypeError for wrong arguments, and what EdgeTracker
    raises if a contender cannot run at all.

    So many parameters because each is an option of `edge-tracker eval`.
    """
    bundle = bundle.path if isinstance(bundle, Bundle) else checked_path("bundle", bundle)
    dataset = checked_path("dataset", dataset)
    results = None if results is None else checked_path("results", results)
    if only is not None:
        only = [str(pattern) for pattern in checked_list("only", only, "['car*']")]
    checked_function("on_progress", on_progress)
    _refuse_wrong(max_frames, camera_fps, jobs, cluster)
    if cluster is not None:
        dataset = dataset.absolute()
        results = None if results is None else results.absolute()
    if jobs > 1 and num_threads is None:
        num_threads = max(1, read_cpu(Path("/")).usable_cores // jobs)
    found = _chosen(find_sequences(dataset, layout), only)
    contenders: list[Contender] = [
        BundleContender(
            bundle, backend, precision, device, num_threads, cache_dir, compute, recovery
        ).resolved()
        for backend, precision, compute, recovery in product(
            checked_list("backends", backends, "['openvino']"),
            checked_list("precisions", precisions, "['fp32', 'int8']"),
            checked_computes(computes),
            checked_list("recoveries", recoveries, "['off', 'frame']"),
        )
    ]
    contenders += checked_list("peers", peers, "[NanoTrackContender(folder)]")
    _refuse_equal_names(contenders)
    run = _Run(tuple(contenders), results, max_frames, camera_fps, num_threads)
    run.claim_folders(found[0].layout)
    outcomes: dict[str, list[SequenceResult | Failure]] = {}
    for name, outcome in _run_all(run, found, jobs, cluster):
        outcomes[name] = outcome
        on_progress(len(outcomes), len(found), name)
    return _evaluation(dataset, found, run, outcomes, jobs, cluster)


def _refuse_wrong(
    max_frames: int | None, camera_fps: float | None, jobs: int, cluster: str | None
) -> None:
    if max_frames is not None:
        checked_whole("max_frames", max_frames, 1)
    checked_whole("jobs", jobs, 1)
    if cluster is not None and not isinstance(cluster, str):
        raise TypeError(f"cluster is {cluster!r:.60}: expected such as tcp://HOST:8786")
    if camera_fps is not None:
        checked_positive("camera_fps", camera_fps)
    if camera_fps is not None and jobs > 1:
        raise ValueError(
            f"a camera of {camera_fps} fps needs the machine to itself: leave out jobs ({jobs})"
        )
    if cluster is not None and (camera_fps is not None or jobs > 1):
        other = f"jobs ({jobs})" if jobs > 1 else f"a camera of {camera_fps} fps"
        raise ValueError(f"cluster {cluster} goes with machines of its own: leave out {other}")


def _refuse_equal_names(contenders: Sequence[Contender]) -> None:
    for contender in contenders:
        if not isinstance(getattr(contender, "name", None), str):
            raise TypeError(f"peers has {contender!r:.60}: expected what has a Contender's methods")
    names = [contender.name for contender in contenders]
    if len(set(names)) < len(names):
        raise ValueError(
            f"contenders {', '.join(names)}: two have the same name, ask for each once"
        )


def _chosen(found: list[SequenceFolder], only: Sequence[str] | None) -> list[SequenceFolder]:
    if only is None:
        return found
    for pattern in only:
        if not any(fnmatchcase(sequence.name, pattern) for sequence in found):
            have = ", ".join(sequence.name for sequence in found[:5])
            raise DatasetError(f"no sequence is named {pattern!r}; the first names are {have}")
    return [s for s in found if any(fnmatchcase(s.name, pattern) for pattern in only)]


@dataclass(frozen=True)
class _Run:
    """What a process must know to evaluate a sequence."""

    contenders: tuple[Contender, ...]
    results: Path | None
    max_frames: int | None
    camera_fps: float | None
    num_threads: int | None

    def claim_folders(self, layout: str) -> None:
        """Those of the results, as `claim_folder`."""
        if self.results is not None:
            for contender in self.contenders:
                conditions: dict[str, object] = {"layout": layout, "max_frames": self.max_frames}
                conditions |= {"camera_fps": self.camera_fps, **contender.identity()}
                claim_folder(self.results / contender.name, conditions)

    def bundle_in_use(self) -> tuple[Bundle | None, list[Artefact]]:
        """With those of its artefacts that the contenders open; None where all are peers."""
        ours = [each for each in self.contenders if isinstance(each, BundleContender)]
        if not ours:
            return None, []
        return open_bundle(ours[0].bundle), [
            artefact for each in ours for artefact in each.artefacts()
        ]

    def with_bundle(
        self, found: SequenceFolder, bundle: Path | None
    ) -> tuple[str, list[SequenceResult | Failure]]:
        """As a call, with the bundle where this machine has it."""
        contenders = (
            replace(each, bundle=bundle or each.bundle)
            if isinstance(each, BundleContender)
            else each
            for each in self.contenders
        )
        return replace(self, contenders=tuple(contenders))(found)

    def __call__(self, found: SequenceFolder) -> tuple[str, list[SequenceResult | Failure]]:
        if self.num_threads is not None:
            cv2.setNumThreads(self.num_threads)
        try:
            sequence = read_sequence(found, self.max_frames)
        except DatasetError as error:
            return found.name, [Failure(found.name, None, str(error))]
        return found.name, [self._one(contender, sequence) for contender in self.contenders]

    def _one(self, contender: Contender, sequence: AnnotatedSequence) -> SequenceResult | Failure:
        folder = None if self.results is None else self.results / contender.name
        try:
            trajectory = read_results(folder, sequence) if folder is not None else None
            if trajectory is None:
                tracker = contender.open()
                try:
                    trajectory = follow(tracker, sequence, self.camera_fps)
                finally:
                    tracker.close()
                if folder is not None:
                    write_results(folder, sequence, trajectory)
        except (EdgeTrackerError, cv2.error) as error:
            return Failure(sequence.name, contender.name, str(error))
        scores = None
        if not sequence.withheld:
            scores = score_boxes(
                trajectory.boxes_xywh, sequence.truth_xywh, sequence.overlap_bound_xyxy
            )
        return SequenceResult(sequence, contender.name, trajectory, scores)


def _run_all(
    run: _Run, found: Sequence[SequenceFolder], jobs: int, cluster: str | None
) -> Iterator[tuple[str, list[SequenceResult | Failure]]]:
    """Outcome of each sequence as it becomes known."""
    if cluster is not None:
        with open_cluster(cluster, *run.bundle_in_use()) as workers:
            yield from workers.run(run.with_bundle, _lost, found)
        return
    if jobs == 1:
        yield from map(run, found)
        return
    try:
        from joblib import Parallel, delayed  # type: ignore[import-untyped]
    except ImportError as error:
        raise BackendUnavailable(
            f"jobs {jobs} needs the Python package joblib: {install_command('eval')}"
        ) from error
    parallel = Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
    try:
        yield from parallel(delayed(run)(sequence) for sequence in found)
    except BrokenProcessPool as error:
        raise EdgeTrackerError(
            f"jobs {jobs}: one of the processes died, as where memory is short: take fewer jobs; "
            "with results, those of finished sequences are kept and taken up again"
        ) from error


def _lost(found: SequenceFolder, reason: str) -> tuple[str, list[SequenceResult | Failure]]:
    return found.name, [Failure(found.name, None, f"sequence {found.name}: {reason}")]


def _evaluation(
    dataset: str | Path,
    found: Sequence[SequenceFolder],
    run: _Run,
    outcomes: dict[str, list[SequenceResult | Failure]],
    jobs: int,
    cluster: str | None,
) -> Evaluation:
    contenders = [contender.name for contender in run.contenders]
    failures: list[Failure] = []
    results: dict[str, dict[str, SequenceResult]] = {name: {} for name in contenders}
    for sequence in found:
        for part in outcomes[sequence.name]:
            if isinstance(part, Failure):
                failures.append(part)
            else:
                results[part.contender][sequence.name] = part
    finished = [s.name for s in found if all(s.name in results[name] for name in contenders)]
    if not finished:
        raise DatasetError(
            f"data set {dataset}: no sequence could be evaluated; the first of {len(failures)} "
            f"failures: {failures[0].reason}"
        )
    return Evaluation(
        dataset=str(dataset),
        layout=found[0].layout,
        contenders=tuple(contenders),
        sequences=tuple(finished),
        results=results,
        failures=tuple(failures),
        camera_fps=run.camera_fps,
        num_threads=run.num_threads,
        jobs=jobs,
        cluster=cluster,
    )
