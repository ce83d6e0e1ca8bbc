"""How negatives are drawn; what the losses compute with them is tested in test_scores.py."""

import numpy as np
import pytest
import torch

from dealrec_core.errors import SettingsError
from dealrec_core.influence import losses


def test_chances_follow_the_shares_up_to_one() -> None:
    """Two of four, shares 7 : 1 : 1 : 1, a tenth even: 0.655 : 0.115 each. The first is sure, the others share one."""
    chances = losses.inclusion(np.array([7.0, 1.0, 1.0, 1.0]), 2)
    np.testing.assert_allclose(chances, [1, 1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(losses.inclusion(np.array([3.0, 1.0]), 1), [0.725, 0.275])


def test_every_item_is_drawn_with_its_own_chance() -> None:
    chances = np.array([1.0, 0.5, 0.5, 0.75, 0.25])
    random = np.random.default_rng(0)
    counts = np.zeros(5)
    for _ in range(4000):
        drawn = losses.systematic(chances, random=random)
        assert len(drawn) == len(set(drawn)) == 3
        counts[drawn] += 1
    # Four standard deviations of a share of 4,000.
    np.testing.assert_allclose(counts / 4000, chances, atol=4 * np.sqrt(0.25 / 4000))


def test_a_negative_stands_for_one_over_its_chance() -> None:
    shares = np.array([7.0, 1.0, 1.0, 1.0])
    found = losses.build("sampled", item_count=4, negatives=2, seed=0, shares=shares)
    assert found.negatives[0] == 0
    assert found.counts.tolist() == pytest.approx([1, 3])


def test_as_many_negatives_as_items_are_the_softmax() -> None:
    assert losses.build("sampled", item_count=4, negatives=4, seed=0, shares=np.ones(4)).name == "softmax"


@pytest.mark.parametrize("negatives", [[3, 1], [1, 1]])
def test_negatives_out_of_order_or_twice_are_refused(negatives: list[int]) -> None:
    with pytest.raises(SettingsError, match="rising order, each once"):
        losses.Loss("sampled", torch.tensor(negatives), 5)
