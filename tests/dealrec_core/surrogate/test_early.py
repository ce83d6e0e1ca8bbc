"""Error and gradient norms are means over the epochs of one training."""

import numpy as np
import pytest

from dealrec_core.settings.surrogate import EarlyConfig, SurrogateConfig
from dealrec_core.surrogate import early, training
from tests.dealrec_core.surrogate.test_training import ITEMS, cycle

FAST = SurrogateConfig(width=8, heads=2, layers=1, batch_tokens=64, history_length=8, learning_rate=1e-6)


def test_every_epoch_is_scored_once_also_where_validation_was_no_better() -> None:
    samples, validation = cycle(24), cycle(6)
    seen: list[dict[str, np.ndarray]] = []
    config = FAST.model_copy(update={"epochs": 3, "patience": 3})
    trained = training.train(
        samples,
        validation,
        item_count=ITEMS,
        config=config,
        seed=1000,
        after_epoch=lambda model: seen.append(early.of_model(model, samples)),
    )
    assert trained.best.epoch < 3  # steps too small to change a rank: the last epoch is no better
    assert len({figures["el2n"].tobytes() for figures in seen}) == 3
    norms = early.norms(
        samples,
        validation,
        item_count=ITEMS,
        surrogate=FAST,
        config=EarlyConfig(initialisations=1, epochs=3),
        seed=1000,
    )
    for name in ("el2n", "grand"):
        assert norms[name] == pytest.approx(np.mean([figures[name] for figures in seen], axis=0))
