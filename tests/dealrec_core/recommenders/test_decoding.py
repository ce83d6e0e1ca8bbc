"""Trie decoding against scoring every title by itself."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import Qwen2Config, Qwen2ForCausalLM

from dealrec_core.language.answer_loss import answer_losses
from dealrec_core.language.prompts import Prompter
from dealrec_core.recommenders.bigrec import BIGRec
from dealrec_core.recommenders.decoding import best_titles, log_probabilities, trie
from dealrec_core.samples.calibration import Calibration, Weights
from dealrec_core.samples.items import Catalogue
from dealrec_core.settings.recommenders import BIGRecConfig
from tests.dealrec_core.conftest import CPU, SeriesWorld


def _answers(world: SeriesWorld, prompter: Prompter) -> list[list[int]]:
    return [prompter.answer(title) for title in world.catalogue.titles]


def test_a_trie_holds_each_title_as_one_path() -> None:
    found = trie([[5, 1], [5, 7, 1], [2, 1]])
    # From the root: 2 and 5. Behind 5: the end of the first title, or 7 and the end of the second.
    assert found.tokens[found.starts[0] : found.starts[1]].tolist() == [2, 5]
    assert sorted(found.leaf[found.leaf >= 0].tolist()) == [0, 1, 2]
    for number, title in enumerate([[5, 1], [5, 7, 1], [2, 1]]):
        node = 0
        for token in title:
            edges = slice(found.starts[node], found.starts[node + 1])
            node = int(found.children[edges][found.tokens[edges].tolist().index(token)])
        assert found.leaf[node] == number


def test_as_many_beams_as_titles_rank_by_the_probability_of_the_whole_title(series_world: SeriesWorld) -> None:
    model, tokenizer = series_world.load()
    prompter = Prompter(tokenizer, series_world.prompt)
    answers = _answers(series_world, prompter)
    histories = [["Crimson Harbor 1"], ["Silent Garden 2", "Silent Garden 3", "Hidden Circuit 1"]]
    prompts = [prompter.prompt(history) for history in histories]
    found = best_titles(model, prompts, trie(answers), beams=len(answers), pad=0)
    for prompt, ranking in zip(prompts, found, strict=True):
        with torch.no_grad():
            means = answer_losses(model, [(prompt, answer) for answer in answers], device=CPU).numpy()
        chances = -means * np.array([len(answer) for answer in answers])  # sums: no length normalisation
        assert sorted(ranking) == list(range(len(answers)))
        assert ranking[:10] == np.argsort(-chances)[:10].tolist()
        assert np.all(np.diff(chances[ranking]) < 1e-4)


def test_a_prompt_is_answered_alike_alone_and_beside_longer_ones(series_world: SeriesWorld) -> None:
    model, tokenizer = series_world.load()
    prompter = Prompter(tokenizer, series_world.prompt)
    titles = trie(_answers(series_world, prompter))
    short, long = prompter.prompt(["Golden Harbor 2"]), prompter.prompt(series_world.catalogue.titles[:9])
    alone = best_titles(model, [short], titles, beams=10, pad=0)
    assert best_titles(model, [short, long, short], titles, beams=10, pad=0)[0] == alone[0]
    assert best_titles(model, [long, short], titles, beams=10, pad=0)[1] == alone[0]


@pytest.mark.parametrize("beams", [1, 3, 7])
def test_beams_are_those_of_a_search_without_a_cache(series_world: SeriesWorld, beams: int) -> None:
    """Hypotheses of one user share a cache, and some die on the way: none may see what another one wrote."""
    tokenizer = series_world.load()[1]
    prompter = Prompter(tokenizer, series_world.prompt)
    shape = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,  # grouped-query attention, as in today's models
    )
    torch.manual_seed(3)
    model = Qwen2ForCausalLM(shape).eval()
    for weight in model.parameters():
        weight.data *= 3  # a fresh model finds all titles almost alike
    answers = _answers(series_world, prompter)
    prompts = [prompter.prompt(series_world.catalogue.titles[:count]) for count in (1, 9, 4)]
    expected = [_beams_without_cache(model, prompt, answers, beams) for prompt in prompts]
    assert best_titles(model, prompts, trie(answers), beams=beams, pad=0) == expected


def _beams_without_cache(model: Qwen2ForCausalLM, prompt: list[int], answers: list[list[int]], beams: int) -> list[int]:
    """Every step keeps the `beams` most probable beginnings of titles, each scored from its first token on."""
    kept: list[tuple[int, ...]] = [()]
    while True:
        ahead = {
            tuple(answer[: len(start) + 1])
            for start in kept
            for answer in answers
            if tuple(answer[: len(start)]) == start
        }
        if ahead <= set(kept):
            return [answers.index(list(start)) for start in kept]
        with torch.no_grad():
            chances = {
                start: -answer_losses(model, [(prompt, list(start))], device=CPU).item() * len(start) for start in ahead
            }
        kept = sorted(ahead, key=lambda start: -chances[start])[:beams]


def test_fewer_titles_than_beams_are_all_found(series_world: SeriesWorld) -> None:
    model, tokenizer = series_world.load()
    prompter = Prompter(tokenizer, series_world.prompt)
    answers = _answers(series_world, prompter)[:3]
    found = best_titles(model, [prompter.prompt(["Golden Harbor 2"])], trie(answers), beams=10, pad=0)
    assert sorted(found[0]) == [0, 1, 2]


def test_a_title_that_begins_another_is_found_too(series_world: SeriesWorld) -> None:
    model, tokenizer = series_world.load()
    prompter = Prompter(tokenizer, series_world.prompt)
    answers = [prompter.answer(title) for title in ("Crimson", "Crimson Harbor", "Crimson Harbor 1", "")]
    found = best_titles(model, [prompter.prompt(["Golden Harbor 2"])], trie(answers), beams=4, pad=0)
    assert sorted(found[0]) == [0, 1, 2, 3]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    titles=st.lists(st.text(max_size=12), min_size=1, max_size=12, unique=True),
    history=st.lists(st.text(max_size=12), min_size=1, max_size=4),
    beams=st.integers(1, 15),
)
def test_whatever_the_titles_each_is_found_once_and_in_one_order(
    series_world: SeriesWorld, titles: list[str], history: list[str], beams: int
) -> None:
    """Any text as titles, also titles that begin others or are equal once cleaned; fewer or more beams than titles."""
    model, tokenizer = series_world.load()
    prompter = Prompter(tokenizer, series_world.prompt)
    answers = list({tuple(prompter.answer(title)): None for title in titles})
    prompts = [prompter.prompt(history), prompter.prompt(history[-1:])]
    found = best_titles(model, prompts, trie(answers), beams=beams, pad=0)
    for ranking in found:
        assert len(ranking) == len(set(ranking)) == min(beams, len(answers))
        assert set(ranking) <= set(range(len(answers)))
    assert best_titles(model, prompts, trie(answers), beams=beams, pad=0) == found
    assert best_titles(model, prompts[:1], trie(answers), beams=beams, pad=0) == found[:1]


def test_the_bound_of_a_beginning_is_the_best_number_of_its_titles() -> None:
    found = trie([[5, 1], [5, 7, 1], [2, 1]])
    bounds = found.bounds(np.array([-3.0, -1.0, -2.0]))
    assert bounds[0] == -1
    ahead = dict(zip(found.tokens[:2].tolist(), bounds[found.children[:2]].tolist(), strict=True))
    assert ahead == {5: -1.0, 2: -2.0}  # behind 5 stand the titles of -3 and -1
    assert bounds[found.leaf >= 0].tolist() == [[-3.0, -1.0, -2.0][number] for number in found.leaf[found.leaf >= 0]]


def test_the_probabilities_of_all_titles_are_those_of_each_by_itself(series_world: SeriesWorld) -> None:
    model, tokenizer = series_world.load()
    prompter = Prompter(tokenizer, series_world.prompt)
    answers, prompt = _answers(series_world, prompter), prompter.prompt([])
    with torch.no_grad():
        means = answer_losses(model, [(prompt, answer) for answer in answers], device=CPU).double().numpy()
    chances = log_probabilities(model, prompt, answers, batch_size=7)
    np.testing.assert_allclose(chances, -means * np.array([len(answer) for answer in answers]), atol=1e-4)


@pytest.mark.parametrize("beams", [20, 120])
def test_a_prior_in_the_beam_gives_the_lists_of_an_exhaustive_search(series_world: SeriesWorld, beams: int) -> None:
    """Against every title of the catalogue scored by itself in float64, two items of one title among them."""
    model, tokenizer = series_world.load()
    model = model.double()
    random = np.random.default_rng(5)
    known = series_world.catalogue
    catalogue = Catalogue([*known.item_ids, "twin"], [*known.titles, known.titles[0]], [[]] * 121)
    added = {item: float(number) for item, number in zip(catalogue.item_ids, random.normal(-5, 3, 121), strict=True)}
    calibration = Calibration(Weights(beta=1), added, -20.0)
    config = BIGRecConfig(prompt=series_world.prompt, beams=beams)
    recommender = BIGRec("bigrec", model, tokenizer, catalogue, [], config, calibration=calibration)
    prompter, histories = Prompter(tokenizer, series_world.prompt), [history for history, _ in series_world.cases[:6]]
    answers = [prompter.answer(title) for title in catalogue.titles]
    for history, found in zip(histories, recommender.recommend(histories, 10), strict=True):
        prompt = prompter.prompt([catalogue.title_of[item] for item in history])
        with torch.no_grad():
            means = answer_losses(model, [(prompt, answer) for answer in answers], device=CPU).double().numpy()
        scores = -means * np.array([len(answer) for answer in answers]) + calibration.of(catalogue.item_ids)
        assert found == [catalogue.item_ids[place] for place in np.argsort(-scores, kind="stable")[:10]]
    plain = BIGRec("plain", model, tokenizer, catalogue, [], config).recommend(histories, 10)
    assert plain != recommender.recommend(histories, 10)  # or the prior would not have been tested
