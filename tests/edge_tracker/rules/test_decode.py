"""Edge distributions -> edges and their uncertainty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tracker.rules.decode import decode_edges


def one_hot(bins: int, place: int) -> np.ndarray:
    return np.eye(bins, dtype=np.float32)[[place] * 4]


@pytest.mark.parametrize("bins", [64, 72, 96])
@pytest.mark.parametrize("place", [0, 1, 40, -1])
def test_sure_edge_is_at_its_bin_over_the_number_of_bins(bins: int, place: int) -> None:
    mean, std = decode_edges(one_hot(bins, place))
    np.testing.assert_allclose(mean, (place % bins) / bins)
    np.testing.assert_allclose(std, 0, atol=1e-8)


def test_edge_between_two_bins_is_in_the_middle_and_half_a_distance_unsure() -> None:
    probs = (one_hot(64, 10) + one_hot(64, 30)) / 2
    mean, std = decode_edges(probs)
    np.testing.assert_allclose(mean, 20 / 64)
    np.testing.assert_allclose(std, 10 / 64)


def test_each_row_is_decoded_by_itself_and_leading_axes_stay() -> None:
    rows = np.stack([np.eye(64, dtype=np.float32)[[1, 2, 3, 4]], one_hot(64, 9)])
    mean, std = decode_edges(rows)
    assert mean.shape == std.shape == (2, 4)
    np.testing.assert_allclose(mean * 64, [[1, 2, 3, 4], [9, 9, 9, 9]])


@given(st.integers(0, 10**6), st.sampled_from([64, 72, 96]))
def test_decoding_is_the_expectation_and_standard_deviation(seed: int, bins: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (4, bins))
    probs = (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(np.float32)
    mean, std = decode_edges(probs)
    for edge in range(4):
        expected = sum(i / bins * float(p) for i, p in enumerate(probs[edge]))
        spread = sum((i / bins - expected) ** 2 * float(p) for i, p in enumerate(probs[edge]))
        assert mean[edge] == pytest.approx(expected)
        assert std[edge] == pytest.approx(spread**0.5, rel=1e-4)
