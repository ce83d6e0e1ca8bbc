"""Ground decoding: distances and weights by hand, embeddings one by one, and real recommendations."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from dealrec_core.errors import SettingsError
from dealrec_core.evaluation import metrics
from dealrec_core.language.lora import with_lora
from dealrec_core.language.prompts import Prompter
from dealrec_core.recommenders import baselines, grounding
from dealrec_core.recommenders.bigrec import BIGRec, title_ndcg
from dealrec_core.samples.items import Catalogue
from dealrec_core.settings.language import LoraConfig
from dealrec_core.settings.recommenders import BIGRecConfig
from tests.dealrec_core.conftest import SeriesWorld


def _bigrec(world: SeriesWorld, *, catalogue: Catalogue | None = None, **config: float) -> BIGRec:
    model, tokenizer = world.load()
    return BIGRec(
        name="ground",
        model=model.eval(),
        tokenizer=tokenizer,
        catalogue=catalogue or world.catalogue,
        popular=["0-0", "1-0"],
        config=BIGRecConfig.model_validate({"prompt": world.prompt, "decoding": "ground", **config}),
        popularity={"0-0": 1000.0},
    )


def test_distances_are_euclidean_and_min_maxed_per_row() -> None:
    texts = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    titles = torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
    # 0, 5, 10 from the first text and 5, 0, 5 from the second
    np.testing.assert_allclose(grounding.distances(texts, titles), [[0, 0.5, 1], [1, 0, 1]])


def test_equal_distances_stay_finite() -> None:
    assert grounding.distances(torch.zeros(1, 2), torch.ones(3, 2)).tolist() == [[0, 0, 0]]


def test_popularity_shrinks_distances_by_the_power_of_gamma() -> None:
    found = grounding.weighted(np.array([[0.4, 0.4, 0.4]]), np.array([10.0, 20.0, 30.0]), 2.0)
    np.testing.assert_allclose(found, [[0.4, 0.4 / 1.5**2, 0.4 / 4]])  # P = 0, 1/2 and 1


def test_scores_of_each_history_are_min_maxed_by_themselves() -> None:
    found = grounding.weighted(np.full((2, 3), 0.4), np.array([[0.0, 1.0, 2.0], [7.0, 7.0, 7.0]]), 2.0)
    np.testing.assert_allclose(found, [[0.4, 0.4 / 1.5**2, 0.4 / 4], [0.4, 0.4, 0.4]])  # equal scores weigh nothing


def test_embeddings_are_the_last_hidden_state_whatever_the_batch(series_world: SeriesWorld) -> None:
    model, tokenizer = series_world.load()
    prompter = Prompter(tokenizer, series_world.prompt)
    rows = [prompter.answer(title)[:-1] for title in ("Crimson Harbor 1", "Golden", "Broken Kingdom 3")]
    found = grounding.embeddings(model, rows, start=tokenizer.bos_token_id, batch_size=2)
    for row, embedding in zip(rows, found, strict=True):
        output = model(input_ids=torch.tensor([[tokenizer.bos_token_id, *row]]), output_hidden_states=True)
        torch.testing.assert_close(embedding, output.hidden_states[-1][0, -1])


def test_the_adapter_has_no_part_in_embeddings(series_world: SeriesWorld) -> None:
    model, tokenizer = series_world.load()
    rows = [Prompter(tokenizer, series_world.prompt).answer("Crimson Harbor 1")]
    plain = grounding.embeddings(model, rows, start=None, batch_size=1)
    tuned = with_lora(model, LoraConfig(), seed=0).eval()
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            weight.data.fill_(0.1)
    torch.testing.assert_close(grounding.embeddings(tuned, rows, start=None, batch_size=1), plain)


def test_the_whole_catalogue_is_ranked_and_the_generated_title_comes_first(series_world: SeriesWorld) -> None:
    recommender = _bigrec(series_world)
    histories = [["3-0", "3-1"], ["7-0"], []]
    first, second, empty = recommender.recommend(histories, len(series_world.catalogue))
    assert sorted(first) == sorted(second) == sorted(series_world.catalogue.item_ids)
    assert empty == ["0-0", "1-0"]
    assert first[0] == "3-2"
    assert recommender.recommend(histories, len(series_world.catalogue))[0] == first


def test_items_of_one_title_stand_together_in_catalogue_order(series_world: SeriesWorld) -> None:
    titles = ["Crimson Harbor 2", "Golden Garden 4", "Crimson Harbor 2"]
    (ranking,) = _bigrec(series_world, catalogue=Catalogue(["b", "x", "a"], titles, [[]] * 3)).recommend([["b"]], 3)
    assert ranking in (["b", "a", "x"], ["x", "b", "a"])


def test_a_heavy_popularity_weight_brings_the_popular_item_forward(series_world: SeriesWorld) -> None:
    plain = _bigrec(series_world).recommend([["3-0", "3-1"]], 120)[0]
    pushed = _bigrec(series_world, gamma=50.0).recommend([["3-0", "3-1"]], 120)[0]
    assert pushed.index("0-0") < min(5, plain.index("0-0"))


def test_neighbours_bring_forward_what_others_took_with_the_history(series_world: SeriesWorld) -> None:
    together = pl.DataFrame({"user_id": ["1", "1", "2"], "item_id": ["3-1", "7-3", "gone"]})
    plain = _bigrec(series_world)
    weighed = replace(
        plain,
        config=plain.config.model_copy(update={"weight": "neighbours", "gamma": 50.0}),
        neighbours=baselines.item_knn(together),
    )
    (weights,) = weighed.weights([["3-0", "3-1"]])
    # Only 7-3 shares a user with the history, and all of them: cosine 1. The item that left the catalogue is passed over.
    assert dict(zip(series_world.catalogue.item_ids, weights, strict=True))["7-3"] == 1
    assert weights.sum() == 1
    before, after = (each.recommend([["3-0", "3-1"]], 120)[0] for each in (plain, weighed))
    assert after.index("7-3") < min(5, before.index("7-3"))
    with pytest.raises(SettingsError, match="needs an ItemKNN"):
        replace(weighed, neighbours=None).recommend([["3-0"]], 5)


def test_title_ndcg_is_the_mean_discount_of_the_places_of_the_targets(series_world: SeriesWorld) -> None:
    model, tokenizer = series_world.load()
    examples, titles = series_world.examples(20), series_world.catalogue.titles
    config = BIGRecConfig(prompt=series_world.prompt)
    found = title_ndcg(tokenizer, examples, titles, config=config, k=10)(model)
    lists = BIGRec("x", model, tokenizer, series_world.catalogue, [], config)
    place_of = {title: place for place, title in enumerate(titles)}
    histories = [
        [series_world.catalogue.item_ids[place_of[title]] for title in example.history] for example in examples
    ]
    targets = [[series_world.catalogue.item_ids[place_of[example.target]]] for example in examples]
    assert found == pytest.approx(metrics.ndcg(lists.recommend(histories, 10), targets, k=10).mean())
    assert title_ndcg(tokenizer, examples, ["Crimson Harbor 1"], config=config, k=1)(model) == pytest.approx(
        np.mean([example.target == "Crimson Harbor 1" for example in examples])
    )
