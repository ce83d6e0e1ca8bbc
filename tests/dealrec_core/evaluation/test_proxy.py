"""The comparison with random coresets: it sees a coreset that teaches more, and not what the model learns anyway."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from dealrec_core import schema
from dealrec_core.evaluation import proxy
from dealrec_core.settings.evaluation import EvaluationConfig

ITEMS = [f"i{number:02}" for number in range(40)]


def samples(name: str, count: int, *, shift: int | None) -> pl.DataFrame:
    """Samples whose target is the item `shift` places after the last of the history; any item for None."""
    random = np.random.default_rng(len(name))
    last = random.integers(len(ITEMS), size=count)
    targets = random.integers(len(ITEMS), size=count) if shift is None else (last + shift) % len(ITEMS)
    frame = {
        schema.SAMPLE_ID: [f"{name}-{number}" for number in range(count)],
        schema.USER_ID: ["u"] * count,
        schema.ITEM_ID: [ITEMS[place] for place in targets],
        schema.TIMESTAMP: [datetime(2026, 1, 1, tzinfo=UTC)] * count,
        schema.HISTORY: [[ITEMS[place]] for place in last],
    }
    return pl.DataFrame(frame, schema=schema.SAMPLES)


@pytest.mark.parametrize("learnt_anyway", [False, True])
def test_a_coreset_is_better_only_if_it_teaches_what_the_model_does_not_learn_anyway(learnt_anyway):
    coreset, noise = samples("good", 300, shift=1), samples("noise", 3000, shift=None)
    beside = samples("newest", 2000, shift=1)
    found = proxy.compare(
        coreset,
        pl.concat([coreset, noise]),
        samples("judges", 200, shift=1).with_columns(pl.col(schema.SAMPLE_ID).alias(schema.USER_ID)),
        ITEMS,
        beside=beside if learnt_anyway else beside.clear(),
        evaluation=EvaluationConfig(),
        seeds=2,
        seed=0,
    )
    assert (found.word == "better") is not learnt_anyway, found


def test_random_coresets_are_drawn_from_what_is_not_learnt_anyway():
    pool, known = samples("good", 60, shift=1), samples("good", 60, shift=1)[:40]
    rest = pool.join(known, on=schema.SAMPLE_ID, how="anti")
    compared = proxy.compare(rest, pool, known, ITEMS, beside=known, evaluation=EvaluationConfig(), seeds=1, seed=0)
    assert compared.chosen == compared.random  # only one draw is possible
