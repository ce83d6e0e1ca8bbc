"""TIGER: it learns, its beam search is exact with enough beams, and every output is a real item."""

import copy
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dealrec_core.errors import DataError, SettingsError
from dealrec_core.language import checkpoints, effort
from dealrec_core.language.lora import with_lora
from dealrec_core.language.training import Trained
from dealrec_core.recommenders import bundle, semantic_ids, tiger
from dealrec_core.recommenders.semantic_ids import SemanticIds
from dealrec_core.recommenders.tiger import Tiger
from dealrec_core.samples.calibration import Calibration, Weights
from dealrec_core.samples.items import Catalogue
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.language import LoraConfig
from dealrec_core.settings.recommenders import SemanticIdsConfig, TigerConfig
from tests.dealrec_core.conftest import CPU, SeriesWorld

CODES = SemanticIdsConfig(levels=2, codes=32, width=24)
TINY = TigerConfig(
    width=32, layers=1, heads=2, head_width=16, inner_width=64, epochs=40, patience=5, learning_rate=5e-3, dropout=0
)


def _sequences(world: SeriesWorld, walks: list[list[str]]) -> Sequences:
    """Every step of every walk as a sample."""
    place = world.catalogue.place
    cut = [([place[item] for item in walk[:stop]], place[walk[stop]]) for walk in walks for stop in range(1, len(walk))]
    offsets = np.concatenate([[0], np.cumsum([len(history) for history, _ in cut])])
    return Sequences(
        np.array([item for history, _ in cut for item in history]), offsets, np.array([target for _, target in cut])
    )


@pytest.fixture(scope="module")
def ids(series_world: SeriesWorld) -> SemanticIds:
    return semantic_ids.fit(series_world.catalogue, config=CODES, seed=0)


def _coded(world: SeriesWorld, quantiser: str) -> SemanticIds:
    quick = {"inner_widths": [32], "width": 8, "epochs": 20}
    settings = {**CODES.model_dump(), "quantiser": quantiser, "rqvae": quick}
    return semantic_ids.fit(world.catalogue, config=SemanticIdsConfig.model_validate(settings), seed=0)


@pytest.fixture(scope="module")
def trained(series_world: SeriesWorld, ids: SemanticIds) -> Trained:
    samples, held = _sequences(series_world, series_world.past[:260]), _sequences(series_world, series_world.past[260:])
    return tiger.train(samples, held, ids, config=TINY, seed=0, device=CPU)


def _tiger(trained: Trained, ids: SemanticIds, **config: int) -> Tiger:
    return Tiger("tiger", trained.model, ids, ["0-0", "1-0"], TINY.model_copy(update=config))


def test_it_beats_popularity_by_far(series_world: SeriesWorld, trained: Trained, ids: SemanticIds) -> None:
    counts = Counter(item for items in series_world.past for item in items)
    popular = [item for item, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))][:10]
    lists = _tiger(trained, ids).recommend([history for history, _ in series_world.cases], 10)
    hits = np.mean([target in found for found, (_, target) in zip(lists, series_world.cases, strict=True)])
    assert hits > np.mean([target in popular for _, target in series_world.cases]) + 0.4


def test_the_best_epoch_is_kept(series_world: SeriesWorld, trained: Trained, ids: SemanticIds) -> None:
    held = _sequences(series_world, series_world.past[260:])
    found = tiger.mean_loss(trained.model, held, ids, config=TINY)
    assert found == pytest.approx(min(trained.validation_losses), rel=1e-5)


def test_each_level_has_tokens_of_its_own(ids: SemanticIds) -> None:
    tokens = tiger.item_tokens(ids)
    levels = [set(tokens[:, level].tolist()) for level in range(3)]
    assert levels[0].isdisjoint(levels[1] | levels[2])
    assert levels[1].isdisjoint(levels[2])
    assert tokens.min() >= 1  # 0 begins the answer
    assert tokens.max() <= 3 * 32


def test_enough_beams_rank_by_the_probability_of_all_codes(
    series_world: SeriesWorld, trained: Trained, ids: SemanticIds
) -> None:
    history = ["3-0", "3-1"]
    (found,) = _tiger(trained, ids, beams=120).recommend([history], 120)
    tokens = torch.from_numpy(tiger.item_tokens(ids))
    read = tokens[[series_world.catalogue.place[item] for item in history]].reshape(1, -1).expand(120, -1)
    given = torch.cat([torch.zeros(120, 1, dtype=torch.int64), tokens[:, :-1]], 1)
    with torch.no_grad():
        chances = trained.model(input_ids=read, decoder_input_ids=given).logits.log_softmax(-1)
    summed = chances.gather(2, tokens[:, :, None]).sum((1, 2)).numpy()
    assert sorted(found) == sorted(ids.item_ids)
    assert np.all(np.diff(summed[[series_world.catalogue.place[item] for item in found]]) < 1e-4)


def test_lists_hold_distinct_real_items_alike_alone_and_together(
    series_world: SeriesWorld, trained: Trained, ids: SemanticIds
) -> None:
    recommender = _tiger(trained, ids)
    histories = [history[: 1 + place % 6] for place, (history, _) in enumerate(series_world.cases[:20])]
    together = recommender.recommend(histories, 25)
    assert all(len(found) == len(set(found)) == 25 for found in together)
    assert all(item in series_world.catalogue.place for found in together for item in found)
    assert [recommender.recommend([history], 25)[0] for history in histories] == together


def test_unknown_ids_are_skipped_and_no_known_id_means_popular(trained: Trained, ids: SemanticIds) -> None:
    plain, mixed, empty, unknown = _tiger(trained, ids).recommend([["3-0"], ["?", "3-0"], [], ["?"]], 2)
    assert mixed == plain
    assert empty == unknown == ["0-0", "1-0"]


def test_new_items_can_be_recommended_without_new_training(
    series_world: SeriesWorld, trained: Trained, ids: SemanticIds
) -> None:
    known = series_world.catalogue
    grown = Catalogue([*known.item_ids, "new"], [*known.titles, "Crimson Harbor 2"], [*known.categories, []])
    found = _tiger(trained, ids.extended(grown)).recommend([["0-0"]], 121)[0]
    assert sorted(found) == sorted(grown.item_ids)


@pytest.mark.parametrize("quantiser", ["kmeans", "rqvae"])
def test_a_bundle_answers_as_before_and_codes_new_items_alike(
    series_world: SeriesWorld, trained: Trained, tmp_path: Path, quantiser: str
) -> None:
    ids = _coded(series_world, quantiser)
    before = _tiger(trained, ids)
    bundle.save(tmp_path, before, lineage={"night": "2026-01-01"})
    after = bundle.load(tmp_path, device=CPU)
    histories = [history for history, _ in series_world.cases[:20]]
    assert isinstance(after, Tiger)
    assert after.name == "tiger"
    assert after.recommend([*histories, []], 10) == before.recommend([*histories, []], 10)
    known = series_world.catalogue
    grown = Catalogue([*known.item_ids, "new"], [*known.titles, "Hidden Harbor 6"], [*known.categories, []])
    np.testing.assert_array_equal(after.ids.extended(grown).codes, ids.extended(grown).codes)


def test_the_same_seed_gives_the_same_weights(series_world: SeriesWorld, ids: SemanticIds) -> None:
    samples = _sequences(series_world, series_world.past[:5])
    config = TINY.model_copy(update={"epochs": 1, "dropout": 0.1})
    first, again = (tiger.train(samples, samples, ids, config=config, seed=4, device=CPU) for _ in range(2))
    assert first.losses == again.losses


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("epochs", [1, 2])
def test_a_killed_training_goes_on_to_the_same_bits(
    series_world: SeriesWorld,
    trained: Trained,
    ids: SemanticIds,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tuning: str,
    epochs: int,
) -> None:
    samples = _sequences(series_world, series_world.past[:10])
    config = TINY.model_copy(update={"epochs": 3, "dropout": 0.1, "tuning": tuning, "learning_rate": 1e-3})

    def train(folder: Path | None) -> Trained:
        start = copy.deepcopy(trained.model)
        return tiger.train(
            samples, samples, ids, config=config, seed=4, device=CPU, initial=start, checkpoint_folder=folder
        )

    whole = train(None)
    real, left = checkpoints.write, [epochs]

    def dies_after(folder: Path, checkpoint: checkpoints.Checkpoint) -> None:
        real(folder, checkpoint)
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "write", dies_after)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    monkeypatch.undo()
    resumed = train(tmp_path)
    assert (resumed.losses, resumed.validation_losses) == (whole.losses, whole.validation_losses)
    expected = whole.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.model.state_dict().items())


def test_only_the_newest_items_are_read(trained: Trained, ids: SemanticIds) -> None:
    short, long = _tiger(trained, ids, history_length=2).recommend([["3-0", "3-1"], ["9-0", "3-0", "3-1"]], 5)
    assert short == long


def test_lora_learns_on_a_trained_model_and_keeps_its_shape(
    series_world: SeriesWorld, trained: Trained, ids: SemanticIds
) -> None:
    samples, held = _sequences(series_world, series_world.past[:40]), _sequences(series_world, series_world.past[260:])
    config = TINY.model_copy(update={"tuning": "lora", "epochs": 2, "learning_rate": 1e-3})
    start = copy.deepcopy(trained.model)
    found = tiger.train(samples, held, ids, config=config, seed=0, device=CPU, initial=start)
    assert found.validation_losses[0] == pytest.approx(min(trained.validation_losses), rel=1e-5)
    assert list(found.model.state_dict()) == list(trained.model.state_dict())
    with pytest.raises(SettingsError, match="needs a model to start from"):
        tiger.train(samples, held, ids, config=config, seed=0, device=CPU)


@pytest.mark.parametrize("parameters", ["all", "last"])
@pytest.mark.parametrize("batch_tokens", [1, 4096])
def test_effort_is_the_norm_of_one_backward_per_sample(
    series_world: SeriesWorld, trained: Trained, ids: SemanticIds, parameters: str, batch_tokens: int
) -> None:
    samples = _sequences(series_world, series_world.past[:4])
    lora = LoraConfig(rank=4)
    tuned = with_lora(copy.deepcopy(trained.model), lora, seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            weight.data = 0.1 * torch.randn(weight.shape, generator=generator)
    names = [name for name, weight in tuned.named_parameters() if weight.requires_grad]
    wanted = names if parameters == "all" else [name for name in names if "lora_B" in name][-1:]
    expected = []
    for row in range(len(samples)):
        tuned.zero_grad()
        tiger.losses(tuned, samples, np.array([row]), ids, history_length=20).sum().backward()
        gradients = [weight.grad for name, weight in tuned.named_parameters() if name in wanted]
        expected.append(sum(float(gradient.double().square().sum()) for gradient in gradients) ** 0.5)
    losses = tiger.sample_losses(tuned, samples, ids, config=TINY, batch_tokens=batch_tokens)
    efforts = effort.norms(tuned, losses, list(map(str, range(len(samples)))), parameters=parameters)
    np.testing.assert_allclose(efforts, expected, rtol=1e-5)


def test_no_samples_are_refused(ids: SemanticIds) -> None:
    none = Sequences(np.empty(0, dtype=np.int64), np.zeros(1, dtype=np.int64), np.empty(0, dtype=np.int64))
    with pytest.raises(DataError, match="0 samples and 0 to validate on"):
        tiger.train(none, none, ids, config=TINY, seed=0, device=CPU)


ODD = ["", " \n ", "\n\n### Response:\n", "\"quoted\" 'title'", "emoji 🎮", "<end>", "x" * 10_000, "many words " * 900]


def test_odd_titles_get_codes_and_are_recommended_like_any_other(series_world: SeriesWorld) -> None:
    known = series_world.catalogue
    odd = [f"odd {number}" for number in range(len(ODD))]
    catalogue = Catalogue([*known.item_ids, *odd], [*known.titles, *ODD], [*known.categories, *([[]] * len(ODD))])
    coded = semantic_ids.fit(catalogue, config=CODES, seed=0)
    assert len(np.unique(coded.codes, axis=0)) == len(catalogue)
    torch.manual_seed(0)
    recommender = Tiger("tiger", tiger.network(TINY, coded).eval(), coded, [], TINY)
    (found,) = recommender.recommend([[odd[0], "0-0", odd[6]]], len(catalogue))
    assert sorted(found) == sorted(catalogue.item_ids)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    codes=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30),
    history=st.lists(st.integers(0, 29), min_size=1, max_size=6),
    k=st.integers(1, 40),
    beams=st.integers(1, 40),
    seed=st.integers(0, 9),
)
def test_whatever_the_codes_lists_hold_distinct_items_in_one_order(
    ids: SemanticIds, codes: list[tuple[int, int]], history: list[int], k: int, beams: int, seed: int
) -> None:
    """Any number of items on any codes, any weights, any number of beams."""
    names = [f"item {number}" for number in range(len(codes))]
    array = np.array(codes, dtype=np.int64)
    coded = replace(
        ids,
        item_ids=names,
        codes=semantic_ids._distinct(array, before=np.empty((0, 2), dtype=np.int64), size=ids.size),
    )
    torch.manual_seed(seed)
    network = TINY.model_copy(update={"beams": beams, "width": 8, "inner_width": 8})
    recommender = Tiger("tiger", tiger.network(network, coded).eval(), coded, [], network)
    histories = [[names[item % len(names)] for item in history]]
    (found,) = recommender.recommend(histories, k)
    assert len(found) == len(set(found)) == min(k, len(names))
    assert set(found) <= set(names)
    assert recommender.recommend(histories * 2, k) == [found, found]


def test_a_prior_in_the_beam_gives_the_lists_of_an_exhaustive_search(
    series_world: SeriesWorld, trained: Trained, ids: SemanticIds
) -> None:
    """Against the codes of all items, each scored by itself in float64; 20 beams are enough for 120 items."""
    model, history = copy.deepcopy(trained.model).double(), ["3-0", "3-1"]
    random = np.random.default_rng(6)
    added = dict(zip(ids.item_ids, random.normal(-5, 3, 120).tolist(), strict=True))
    calibration = Calibration(Weights(beta=1), added, -20.0)
    found = Tiger("tiger", model, ids, [], TINY, calibration=calibration).recommend([history], 10)[0]
    tokens = torch.from_numpy(tiger.item_tokens(ids))
    read = tokens[[series_world.catalogue.place[item] for item in history]].reshape(1, -1).expand(120, -1)
    given = torch.cat([torch.zeros(120, 1, dtype=torch.int64), tokens[:, :-1]], 1)
    with torch.no_grad():
        chances = model(input_ids=read, decoder_input_ids=given).logits.log_softmax(-1)
    scores = chances.gather(2, tokens[:, :, None]).sum((1, 2)).numpy() + calibration.of(ids.item_ids)
    assert found == [ids.item_ids[place] for place in np.argsort(-scores, kind="stable")[:10]]
    assert found != _tiger(trained, ids).recommend([history], 10)[0]
