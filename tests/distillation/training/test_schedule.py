"""gamma and the learning rate."""

from __future__ import annotations

from itertools import pairwise

import pytest

from distillation.training.schedule import branch_gain, learning_rate_factor


@pytest.mark.parametrize(("step", "gain"), [(0, 1.0), (20, 0.5), (40, 0.0), (41, 0.0), (900, 0.0)])
def test_gamma_is_half_a_cosine_from_one_to_zero(step: int, gain: float) -> None:
    assert branch_gain(step, 40) == pytest.approx(gain, abs=1e-12)


def test_gamma_falls_slowly_at_both_ends() -> None:
    gains = [branch_gain(step, 40) for step in range(41)]
    falls = [before - after for before, after in pairwise(gains)]
    assert falls[0] < falls[20] > falls[-1] > 0


def test_no_prune_steps_mean_gone_at_once() -> None:
    assert branch_gain(0, 0) == 0.0


def test_the_rate_warms_up_then_drops_to_a_tenth_at_four_fifths() -> None:
    factors = [learning_rate_factor(step, 100, 4, "step:0.8") for step in (0, 3, 4, 79, 80, 99)]
    assert factors == pytest.approx([0.25, 1.0, 1.0, 1.0, 0.1, 0.1])


def test_the_cosine_ends_at_zero() -> None:
    factors = [learning_rate_factor(step, 100, 0, "cosine") for step in (0, 50, 100)]
    assert factors == pytest.approx([1.0, 0.5, 0.0])
