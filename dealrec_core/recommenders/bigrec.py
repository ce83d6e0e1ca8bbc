"""BIGRec (Bao et al. 2023): a language model that answers a history of titles with a title of the catalogue."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from dealrec_core.errors import SettingsError
from dealrec_core.language.prompts import Example, Prompter
from dealrec_core.recommenders import grounding
from dealrec_core.recommenders.baselines import ItemKNN
from dealrec_core.recommenders.decoding import Trie, best_titles, log_probabilities, scored_titles, trie
from dealrec_core.samples.calibration import Calibration, Scored
from dealrec_core.samples.items import Catalogue
from dealrec_core.settings.recommenders import BIGRecConfig


@dataclass(frozen=True)
class BIGRec:
    """Ranks titles by their probability after the prompt, or by their distance to a generated title.

    Every answer is a catalogue item. Items of one title share its place and follow in catalogue order. Unknown ids of a
    history are skipped; a history with no known item is answered with the popular items.
    """

    name: str
    model: Any = field(repr=False)
    """A causal model of transformers; with its adapter for ground decoding, which embeds by the model without it."""
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    catalogue: Catalogue = field(repr=False)
    popular: list[str] = field(repr=False)
    """Item ids, best first."""
    config: BIGRecConfig
    popularity: Mapping[str, float] = field(default_factory=dict, repr=False)
    """Interactions of each item, for `gamma`; an item that is missing has none."""
    neighbours: ItemKNN | None = field(default=None, repr=False)
    """For `gamma` where `config.weight` is neighbours; items that it does not know have no weight."""
    calibration: Calibration | None = field(default=None, repr=False)

    def recommend(self, histories: Sequence[Sequence[str]], k: int) -> list[list[str]]:
        """The k best items for each history."""
        return [[item for item, _ in ranking] for ranking in self.scored(histories, k, self.calibration)]

    def scored(self, histories: Sequence[Sequence[str]], k: int, calibration: Calibration | None) -> list[Scored]:
        """The k best items for each history, with the log probabilities of their titles (`samples.calibration`).

        For ground decoding the distance stands for it, in standard deviations of the history's distances, as a loss.
        """
        answers: list[Scored] = [[(item, 0.0) for item in self.popular[:k]] for _ in histories]
        added = None if calibration is None else calibration.of(self.catalogue.item_ids)
        ranked = self._nearest if self.config.decoding == "ground" else self._most_probable
        for rows, prompts in self._batches(histories):
            for row, ranking in zip(rows, ranked(prompts, [histories[row] for row in rows], k, added), strict=True):
                answers[row] = ranking
        return answers

    @cached_property
    def title_chances(self) -> np.ndarray | None:
        """Log probability of each item's title after the prompt without a title, float64 (V,); None for ground decoding."""
        if self.config.decoding == "ground":
            return None
        titles = list(dict.fromkeys(self._answers))
        prompt, size = self._prompter.prompt([]), self.config.batch_size
        chances = dict(zip(titles, log_probabilities(self.model, prompt, titles, batch_size=size), strict=True))
        return np.array([chances[answer] for answer in self._answers])

    def weights(self, histories: Sequence[Sequence[str]]) -> np.ndarray:
        """The weights behind `gamma`, float64: interactions of each item (V,), or its scores for each history (histories, V)."""
        if self.config.weight == "popularity":
            return np.array([self.popularity.get(item, 0.0) for item in self.catalogue.item_ids], dtype=np.float64)
        if self.neighbours is None:
            raise SettingsError("weight = 'neighbours' needs an ItemKNN; give one, or weigh by popularity")
        scores = self.neighbours.scores(histories)
        places = np.array([self.catalogue.place.get(item, -1) for item in self.neighbours.item_ids])
        weights = np.zeros((len(scores), len(self.catalogue)))
        weights[:, places[places >= 0]] = scores[:, places >= 0]
        return weights

    def _batches(self, histories: Sequence[Sequence[str]]) -> Iterator[tuple[list[int], list[list[int]]]]:
        """Rows with a known item and their prompts, prompts of about one length together."""
        title_of = self.catalogue.title_of
        prompts: dict[int, list[int]] = {}
        for row, history in enumerate(histories):
            titles = [title_of[item] for item in history if item in title_of]
            if titles:
                prompts[row] = self._prompter.prompt(titles[-self.config.history_length :])
        order = sorted(prompts, key=lambda row: (len(prompts[row]), row))
        for start in range(0, len(order), self.config.batch_size):
            rows = order[start : start + self.config.batch_size]
            yield rows, [prompts[row] for row in rows]

    def _most_probable(
        self, prompts: list[list[int]], _: list[Sequence[str]], k: int, added: np.ndarray | None
    ) -> list[Scored]:
        titles, places = self._titles
        bounds = None if added is None else titles.bounds(np.array([max(added[rows]) for rows in places]))
        beams = max(self.config.beams, k)
        ranked = scored_titles(self.model, prompts, titles, beams=beams, pad=self._pad, bounds=bounds)
        answers = []
        for ranking in ranked:
            items = [(place, chance) for number, chance in ranking for place in places[number]]
            if added is not None:  # items of one title differ in what is added to each
                items.sort(key=lambda pair: -(pair[1] + added[pair[0]]))
            answers.append([(self.catalogue.item_ids[place], chance) for place, chance in items[:k]])
        return answers

    def _nearest(
        self, prompts: list[list[int]], histories: list[Sequence[str]], k: int, added: np.ndarray | None
    ) -> list[Scored]:
        distances = self._distances(prompts)
        if self.config.gamma:
            distances = grounding.weighted(distances, self.weights(histories), self.config.gamma)
        deviation = distances.std(1, keepdims=True)
        scores = -distances / np.where(deviation > 0, deviation, 1.0)
        order = np.argsort(distances if added is None else -(scores + added), axis=1, kind="stable")[:, :k]
        return [
            [(self.catalogue.item_ids[place], float(row[place])) for place in places]
            for places, row in zip(order, scores, strict=True)
        ]

    def _distances(self, prompts: list[list[int]]) -> np.ndarray:
        most, end = max(map(len, self._title_rows)) + 1, int(self.tokenizer.eos_token_id)
        beams = self.config.ground_beams
        texts = grounding.generate(self.model, prompts, beams=beams, most_tokens=most, pad=self._pad, end=end)
        return grounding.distances(self._embedded(texts), self._title_embeddings)

    def _embedded(self, rows: list[list[int]]) -> Tensor:
        start = self.tokenizer.bos_token_id
        return grounding.embeddings(self.model, rows, start=start, batch_size=self.config.batch_size)

    @cached_property
    def _prompter(self) -> Prompter:
        return Prompter(self.tokenizer, self.config.prompt)

    @property
    def _pad(self) -> int:
        return int(self.tokenizer.pad_token_id)

    @cached_property
    def _titles(self) -> tuple[Trie, list[list[int]]]:
        """The trie of distinct titles, and the places of the items of each in the catalogue."""
        places: dict[tuple[int, ...], list[int]] = {}
        for place, answer in enumerate(self._answers):
            places.setdefault(answer, []).append(place)
        return trie(list(places)), list(places.values())

    @cached_property
    def _answers(self) -> list[tuple[int, ...]]:
        return [tuple(self._prompter.answer(title)) for title in self.catalogue.titles]

    @cached_property
    def _title_rows(self) -> list[list[int]]:
        return [self._prompter.answer(title)[:-1] for title in self.catalogue.titles]

    @cached_property
    def _title_embeddings(self) -> Tensor:
        return self._embedded(self._title_rows)


def title_ndcg(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    titles: Sequence[str],
    config: BIGRecConfig,
    k: int = 10,
) -> Callable[[Any], float]:
    """A function that gives a model's mean NDCG@k of the examples' targets, by `title_places`. Fine-tuning keeps its best epoch."""
    places_of = title_places(tokenizer, examples, titles, config, k)

    def ndcg(model: Any) -> float:
        places = places_of(model)
        return float(np.where(places < k, 1 / np.log2(places + 2), 0).mean())

    return ndcg


def title_places(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    titles: Sequence[str],
    config: BIGRecConfig,
    k: int,
) -> Callable[[Any], np.ndarray]:
    """A function that gives the place of each example's target among a model's k most probable titles, from 0; k if it is not there.

    titles: the possible answers, in catalogue order. The places, int64 (N,), are sorted by the length of the prompt.
    """
    prompter = Prompter(tokenizer, config.prompt)
    number = {answer: place for place, answer in enumerate({tuple(prompter.answer(title)): None for title in titles})}
    answers = trie(list(number))
    questions = [
        (prompter.prompt(example.history[-config.history_length :]), number.get(tuple(prompter.answer(example.target))))
        for example in examples
    ]
    questions.sort(key=lambda pair: len(pair[0]))

    def places(model: Any) -> np.ndarray:
        found: list[int] = []
        for start in range(0, len(questions), config.batch_size):
            part = questions[start : start + config.batch_size]
            prompts = [prompt for prompt, _ in part]
            ranked = best_titles(model, prompts, answers, beams=k, pad=int(tokenizer.pad_token_id))
            for (_, target), numbers in zip(part, ranked, strict=True):
                found.append(numbers.index(target) if target in numbers[:k] else k)
        return np.array(found)

    return places
