import pytest

from dealrec_core.coreset import budget
from dealrec_core.settings.coreset import CoresetConfig


def test_a_number_wins_over_a_share_and_neither_exceeds_the_pool():
    assert budget.samples(CoresetConfig(count=7, ratio=0.5), 100) == 7
    assert budget.samples(CoresetConfig(ratio=0.5), 100) == 50
    assert budget.samples(CoresetConfig(count=7), 5) == 5
    assert budget.samples(CoresetConfig(ratio=0.001), 100) == 1


def test_a_share_does_not_fall_below_the_least_number_and_a_number_may():
    assert budget.samples(CoresetConfig(ratio=0.02, least=30), 1000) == 30
    assert budget.samples(CoresetConfig(ratio=0.02, least=10), 1000) == 20
    assert budget.samples(CoresetConfig(ratio=0.02, least=30), 25) == 25
    assert budget.samples(CoresetConfig(count=5, least=30), 1000) == 5


def test_minutes_become_tokens_by_the_speed_and_the_passes():
    settings = CoresetConfig(gpu_minutes=3, tokens=5)
    assert budget.tokens(settings, passes=2, measured=lambda: 10.0) == 900  # 3 · 60 · 10 / 2
    told = settings.model_copy(update={"tokens_per_second": 20.0})
    assert budget.tokens(told, passes=2, measured=lambda: pytest.fail("a speed is set")) == 1800
    assert budget.counts_tokens(settings)


def test_without_tokens_or_minutes_there_is_no_budget_of_tokens():
    assert budget.tokens(CoresetConfig(), passes=2, measured=lambda: pytest.fail("nothing to measure")) is None
    assert not budget.counts_tokens(CoresetConfig())
