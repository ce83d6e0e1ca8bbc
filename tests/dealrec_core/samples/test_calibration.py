"""Priors by hand, and no trace of what happens later."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from dealrec_core.samples import calibration
from dealrec_core.samples.calibration import Priors, Weights

NOW, DAY = datetime(2026, 1, 11, tzinfo=UTC), timedelta(days=1)
EVENTS = [("a", -8), ("a", -8), ("a", -4), ("b", -4)]
"""Items, and days from NOW."""


def _priors(events: list[tuple[str, int]]) -> Priors:
    rows = [(item, NOW + days * DAY) for item, days in events]
    frame = pl.DataFrame(rows, {"item_id": pl.String, "timestamp": pl.Datetime("us", "UTC")}, orient="row")
    return calibration.priors(frame, ["a", "b", "c"], trained_until=NOW - 6 * DAY, now=NOW, length=4 * DAY)


def test_train_counts_what_was_learnt_and_recent_halves_with_every_half_life() -> None:
    priors = _priors(EVENTS)
    # Learnt: a twice. Shares (2 + 1) / (2 + 3), and 1 / 5 for both others.
    np.testing.assert_allclose(np.exp(priors.train), [3 / 5, 1 / 5, 1 / 5])
    # A slice is four days: at half-life 1 an event of 4 days ago counts 1/2 and one of 8 days ago 1/4.
    np.testing.assert_allclose(np.exp(priors.recent[1.0]) * (1.5 + 3), [2 * 0.25 + 0.5 + 1, 0.5 + 1, 1])
    np.testing.assert_allclose(
        np.exp(priors.recent[0.25]) * (2 / 16 + 2 / 256 + 3), [1 / 16 + 2 / 256 + 1, 1 / 16 + 1, 1]
    )


def test_what_happens_at_the_moment_or_later_leaves_no_trace() -> None:
    before, after = _priors(EVENTS), _priors([*EVENTS, ("b", 0), ("b", 1), *[("c", 2)] * 50])
    np.testing.assert_array_equal(after.train, before.train)
    for half_life in calibration.HALF_LIVES:
        np.testing.assert_array_equal(after.recent[half_life], before.recent[half_life])


def test_the_terms_are_added_with_their_weights_and_signs() -> None:
    titles = np.array([-7.0, -8.0, -9.0])
    priors = Priors(["a", "b", "c"], np.array([-1.0, -2.0, -3.0]), {1.0: np.array([-4.0, -5.0, -6.0])}, titles)
    made = priors.calibration(Weights(alpha=0.5, beta=2, title=0.25))
    # −0.5 · (−1) + 2 · (−4) − 0.25 · (−7) and so on; an item that is not known gets the least of all.
    assert made.of(["a", "c", "?"]).tolist() == [0.5 - 8 + 1.75, 1.5 - 12 + 2.25, 1.5 - 12 + 2.25]
    assert priors.calibration(Weights(half_life=4.0)) is None


def test_a_calibration_survives_json_to_the_bit() -> None:
    before = _priors(EVENTS).calibration(Weights(alpha=0.25, beta=1.5, half_life=0.25))
    after = calibration.read(json.loads(json.dumps(before.described())))
    assert after.weights == before.weights
    assert after.of(["a", "b", "c", "?"]).tolist() == before.of(["a", "b", "c", "?"]).tolist()
    assert calibration.read(None) is None


def test_shares_sum_to_one() -> None:
    assert np.exp(calibration.log_shares(np.array([5.0, 0.0, 0.5]))).sum() == pytest.approx(1)
