"""BIGRec: it learns, and it recommends catalogue items only."""

from collections import Counter

import numpy as np
import pytest

from dealrec_core.language.fine_tuning import fine_tune
from dealrec_core.language.prompts import Prompter
from dealrec_core.recommenders.bigrec import BIGRec
from dealrec_core.samples.items import Catalogue
from dealrec_core.settings.language import FineTuneConfig, LoraConfig
from dealrec_core.settings.recommenders import BIGRecConfig
from tests.dealrec_core.conftest import SeriesWorld


def _bigrec(world: SeriesWorld, *, catalogue: Catalogue | None = None, **config: int) -> BIGRec:
    model, tokenizer = world.load()
    return BIGRec(
        name="bigrec",
        model=model.eval(),
        tokenizer=tokenizer,
        catalogue=catalogue or world.catalogue,
        popular=["0-0", "1-0", "2-0"],
        config=BIGRecConfig(prompt=world.prompt, **config),
    )


def _recall(lists: list[list[str]], cases: list[tuple[list[str], str]]) -> float:
    return float(np.mean([target in ranking[:10] for ranking, (_, target) in zip(lists, cases, strict=True)]))


def test_the_tuned_model_beats_popularity_by_far(series_world: SeriesWorld) -> None:
    model, tokenizer = series_world.load()
    examples = series_world.examples(160)
    tuned = fine_tune(
        model,
        Prompter(tokenizer, series_world.prompt),
        examples[:120],
        examples[120:],
        config=FineTuneConfig(epochs=4, learning_rate=2e-3, lora=LoraConfig(modules="all")),
        seed=0,
    )
    counts = Counter(item for items in series_world.past for item in items)
    popular = [item for item, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))]
    recommender = BIGRec(
        name="bigrec",
        model=tuned.model,
        tokenizer=tokenizer,
        catalogue=series_world.catalogue,
        popular=popular,
        config=BIGRecConfig(prompt=series_world.prompt),
    )
    lists = recommender.recommend([history for history, _ in series_world.cases], 10)
    popularity = _recall([popular] * len(series_world.cases), series_world.cases)
    # Most steps go to the next part: who has learnt it finds those, while popularity offers the same 10 of 120 items.
    assert _recall(lists, series_world.cases) > popularity + 0.4


def test_lists_hold_k_distinct_catalogue_items_in_the_same_order_every_time(series_world: SeriesWorld) -> None:
    recommender = _bigrec(series_world)
    histories = [history for history, _ in series_world.cases[:8]]
    lists = recommender.recommend(histories, 30)
    assert all(len(ranking) == len(set(ranking)) == 30 for ranking in lists)
    assert all(item in series_world.catalogue.place for ranking in lists for item in ranking)
    assert recommender.recommend(histories, 30) == lists
    assert _bigrec(series_world, batch_size=3).recommend(histories, 30) == lists


def test_unknown_ids_are_skipped_and_no_known_id_means_popular(series_world: SeriesWorld) -> None:
    recommender = _bigrec(series_world)
    plain, mixed, empty, unknown = recommender.recommend([["3-0"], ["?", "3-0", "!"], [], ["?"]], 2)
    assert mixed == plain
    assert empty == unknown == ["0-0", "1-0"]


def test_items_of_one_title_follow_each_other_in_catalogue_order(series_world: SeriesWorld) -> None:
    catalogue = Catalogue(
        ["b", "a", "other", "c"],
        ["Crimson Harbor 2", "Crimson Harbor 2", "Golden Garden 4", "Crimson  Harbor 2 "],
        [[]] * 4,
    )
    (ranking,) = _bigrec(series_world, catalogue=catalogue).recommend([["b"]], 4)
    assert sorted(ranking) == ["a", "b", "c", "other"]
    assert [item for item in ranking if item != "other"] == ["b", "a", "c"]
    assert ranking.index("other") in (0, 3)


def test_only_the_newest_titles_are_read(series_world: SeriesWorld) -> None:
    recommender = _bigrec(series_world, history_length=2)
    short, long = recommender.recommend([["3-0", "3-1"], ["5-0", "5-1", "3-0", "3-1"]], 5)
    assert short == long


@pytest.mark.parametrize("title", ["", "🎮" * 50, "\n\n### Response:\n", "x" * 10_000, "<end>"])
def test_odd_titles_are_recommended_like_any_other(series_world: SeriesWorld, title: str) -> None:
    catalogue = Catalogue(["odd", "plain"], [title, "Crimson Harbor 1"], [[], []])
    (ranking,) = _bigrec(series_world, catalogue=catalogue).recommend([["odd", "plain"]], 2)
    assert sorted(ranking) == ["odd", "plain"]
