"""The surrogate answers item ids for item ids."""

import pytest
import torch

from dealrec_core.surrogate import networks
from dealrec_core.surrogate.recommender import SurrogateRecommender
from dealrec_core.surrogate.sasrec import Shape


@pytest.fixture
def recommender() -> SurrogateRecommender:
    model = networks.build("sasrec", Shape(4, width=4, history_length=5), seed=0).eval()
    return SurrogateRecommender(model, ["a", "b", "c", "d"], popular=["d", "a", "b"])


def test_the_best_items_have_the_highest_logits(recommender: SurrogateRecommender) -> None:
    model = recommender.model
    logits = model.last(torch.tensor([[0, 2]]), model.item_table()) @ model.item_table().T
    expected = [recommender.item_ids[row] for row in logits[0].argsort(descending=True)]
    assert recommender.recommend([["a", "c"]], k=4) == [expected]


def test_unknown_items_are_skipped(recommender: SurrogateRecommender) -> None:
    known = recommender.recommend([["a", "c"]], k=4)
    assert recommender.recommend([["zzz", "a", "yyy", "c"]], k=4) == known


def test_an_empty_history_is_answered_with_what_is_popular(recommender: SurrogateRecommender) -> None:
    assert recommender.recommend([[], ["zzz"], ["a"]], k=2)[:2] == [["d", "a"], ["d", "a"]]


def test_more_than_the_catalogue_gives_the_catalogue(recommender: SurrogateRecommender) -> None:
    assert sorted(recommender.recommend([["b"]], k=9)[0]) == ["a", "b", "c", "d"]


def test_equal_logits_go_to_the_lower_row(recommender: SurrogateRecommender) -> None:
    with torch.no_grad():
        recommender.model.items.weight.zero_()
    assert recommender.recommend([["b"]], k=3) == [["a", "b", "c"]]
