"""What a frame tells of the target besides its score, and what a model makes of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tracker.rules.boxes import Box
from edge_tracker.rules.crop import Image
from edge_tracker.rules.presence import PresenceFeatures
from edge_tracker.rules.presence_model import FEATURES, PresenceModel

BOX: Box = (100.0, 80.0, 40.0, 30.0)
STILL = (1.0, 1.0, 1.0, 1.0)
NUMBERS: dict[str, Any] = {
    "intercept": 0.5,
    "weights": (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "found_presence": 0.5,
    "false_alarms": 0.05,
    "regained_presence": 0.9,
}


def picture(seed: int) -> Image:
    return np.random.default_rng(seed).integers(0, 255, (240, 320, 3), dtype=np.uint8)


def named(features: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(FEATURES, features, strict=True))


def test_the_same_picture_is_alike_and_another_is_not() -> None:
    measuring = PresenceFeatures(picture(0), BOX)
    same = named(measuring.measure(picture(0), BOX, 0.9, STILL))
    other = named(measuring.measure(picture(1), BOX, 0.9, STILL))
    assert same["similarity"] == pytest.approx(1.0, abs=1e-6)
    assert same["colours"] == pytest.approx(1.0, abs=1e-6)
    assert abs(other["similarity"]) < 0.3


def test_values_of_one_frame_by_hand() -> None:
    measuring = PresenceFeatures(picture(0), BOX)
    seen = named(measuring.measure(picture(0), (106.0, 80.0, 40.0, 30.0), 0.8, (2, 3, 4, 6)))
    assert seen["log_odds"] == seen["log_odds_mean"] == pytest.approx(math.log(4))
    assert seen["edge_spread"] == pytest.approx(math.log(6 / 30 + 1e-3))
    assert seen["jump"] == pytest.approx(math.log(6 / math.sqrt(1200) + 0.01))
    assert seen["scale_jump"] == pytest.approx(math.log(0.01))
    later = named(measuring.measure(picture(0), (106.0, 80.0, 80.0, 30.0), 0.5, (2, 3, 4, 6)))
    assert later["log_odds_mean"] == pytest.approx(math.log(4) / 2)
    assert later["scale_jump"] == pytest.approx(math.log(math.log(2) + 0.01))


def test_a_candidate_has_not_jumped_and_changes_nothing() -> None:
    measuring, untouched = (PresenceFeatures(picture(0), BOX) for _ in range(2))
    far: Box = (200.0, 150.0, 40.0, 30.0)
    candidate = named(measuring.measure_candidate(picture(0), far, 0.9, STILL))
    assert candidate["jump"] == pytest.approx(math.log(0.01))
    after = [m.measure(picture(0), BOX, 0.9, STILL) for m in (measuring, untouched)]
    assert after[0] == after[1]


def test_what_was_taken_up_has_been_there() -> None:
    measuring = PresenceFeatures(picture(0), BOX)
    measuring.measure(picture(0), BOX, 0.01, STILL)
    measuring.move_to((200.0, 150.0, 40.0, 30.0))
    seen = named(measuring.measure(picture(0), (200.0, 150.0, 40.0, 30.0), 0.9, STILL))
    assert seen["jump"] == pytest.approx(math.log(0.01))
    assert seen["log_odds_mean"] == seen["log_odds"]


@given(
    st.tuples(st.floats(-50, 350), st.floats(-50, 270), st.floats(1, 400), st.floats(1, 400)),
    st.floats(0, 1),
    st.tuples(*[st.floats(0, 500)] * 4),
)
def test_every_frame_has_a_probability(
    box: Box, score: float, std: tuple[float, float, float, float]
) -> None:
    features = PresenceFeatures(picture(0), BOX).measure(picture(1), box, score, std)
    assert all(math.isfinite(value) for value in features)
    assert 0 <= PresenceModel(**NUMBERS)(features) <= 1


def test_a_model_is_a_logistic_regression() -> None:
    assert PresenceModel(**NUMBERS)((2.0, *[9.0] * 6)) == pytest.approx(1 / (1 + math.exp(-2.5)))
    assert PresenceModel(**NUMBERS | {"intercept": -1e6})([0.0] * 7) < 1e-9


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weights": (1.0,)}, "presence has 1 weights: expected those of log_odds, "),
        ({"intercept": math.nan}, "presence has the number nan"),
        ({"intercept": 1e7}, "expected -1e6 to 1e6"),
        ({"found_presence": 1.5}, "found_presence is 1.5: expected 0 to 1"),
        ({"regained_presence": -1}, "regained_presence is -1"),
        ({"false_alarms": math.nan}, "false_alarms is nan"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PresenceModel(**NUMBERS | wrong)
