"""What an evaluation found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tracker.measure.evaluation.ground_truth import AnnotatedSequence
from edge_tracker.measure.evaluation.long_term import LongTerm, long_term, told
from edge_tracker.measure.evaluation.metrics import Scores, mean_scores
from edge_tracker.measure.evaluation.one_pass import Trajectory


@dataclass(frozen=True)
class SequenceResult:
    """One contender on one sequence. scores: None where the ground truth is withheld."""

    sequence: AnnotatedSequence
    contender: str
    trajectory: Trajectory
    scores: Scores | None


@dataclass(frozen=True)
class Failure:
    """contender: None if the sequence itself cannot be used."""

    sequence: str
    contender: str | None
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """Every contender on every sequence.

    sequences: names of those that every contender finished, in order; means are over these.
    results: by contender and sequence. failures: what could not be evaluated, and why.
    """

    dataset: str
    layout: str
    contenders: tuple[str, ...]
    sequences: tuple[str, ...]
    results: dict[str, dict[str, SequenceResult]]
    failures: tuple[Failure, ...]
    camera_fps: float | None
    num_threads: int | None
    jobs: int
    cluster: str | None

    def scores(self, contender: str) -> dict[str, Scores]:
        """Of each sequence that has public ground truth."""
        results = (self.results[contender][name] for name in self.sequences)
        return {
            result.sequence.name: result.scores for result in results if result.scores is not None
        }

    def overall(self, contender: str, *, by_frames: bool = False) -> Scores | None:
        """Mean over sequences, or over their frames; None where none has public ground truth."""
        scores = list(self.scores(contender).values())
        return mean_scores(scores, by_frames=by_frames) if scores else None

    def long_term(self, contender: str) -> LongTerm | None:
        """None of contenders that tell boxes alone, and where the ground truth is withheld."""
        parts = []
        for name in self.sequences:
            result = self.results[contender][name]
            trajectory, sequence = result.trajectory, result.sequence
            if trajectory.confidences is None or trajectory.found is None or sequence.withheld:
                continue
            parts.append(
                told(
                    sequence.truth_xywh,
                    trajectory.boxes_xywh,
                    trajectory.confidences,
                    trajectory.found,
                )
            )
        return long_term(parts) if parts else None

    def update_times_ms(self, contender: str, sequence: str | None = None) -> NDArray[np.float64]:
        """Of every `update`, in one sequence or in all."""
        names = self.sequences if sequence is None else (sequence,)
        return np.concatenate(
            [self.results[contender][name].trajectory.update_times_ms for name in names]
        )

    def frames_skipped(self, contender: str) -> int:
        return sum(
            self.results[contender][name].trajectory.frames_skipped for name in self.sequences
        )
