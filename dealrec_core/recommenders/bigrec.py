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
from dealrec_core.recommenders.decoding import Trie, best_titles, trie
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

    def recommend(self, histories: Sequence[Sequence[str]], k: int) -> list[list[str]]:
        """The k best items for each history."""
        answers = [self.popular[:k] for _ in histories]
        for rows, prompts in self._batches(histories):
            ranked = self._nearest if self.config.decoding == "ground" else self._most_probable
            for row, items in zip(rows, ranked(prompts, [histories[row] for row in rows], k), strict=True):
                answers[row] = items
        return answers

    def distances(self, histories: Sequence[Sequence[str]]) -> np.ndarray:
        """Distances before any weight, (histories, V), NaN where no item is known: for `grounding.best_gamma`."""
        distances = np.full((len(histories), len(self.catalogue)), np.nan)
        for rows, prompts in self._batches(histories):
            distances[rows] = self._distances(prompts)
        return distances

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

    def _most_probable(self, prompts: list[list[int]], _: list[Sequence[str]], k: int) -> list[list[str]]:
        titles, items = self._titles
        ranked = best_titles(self.model, prompts, titles, beams=max(self.config.beams, k), pad=self._pad)
        return [[item for number in numbers for item in items[number]][:k] for numbers in ranked]

    def _nearest(self, prompts: list[list[int]], histories: list[Sequence[str]], k: int) -> list[list[str]]:
        distances, gamma = self._distances(prompts), self.config.gamma
        if gamma == "validation":
            raise SettingsError("gamma = 'validation' is not chosen yet; choose it by grounding.best_gamma")
        if gamma:
            distances = grounding.weighted(distances, self.weights(histories), gamma)
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        return [[self.catalogue.item_ids[place] for place in places] for places in order]

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
    def _titles(self) -> tuple[Trie, list[list[str]]]:
        """The trie of distinct titles, and the items of each."""
        items: dict[tuple[int, ...], list[str]] = {}
        for item, title in zip(self.catalogue.item_ids, self.catalogue.titles, strict=True):
            items.setdefault(tuple(self._prompter.answer(title)), []).append(item)
        return trie(list(items)), list(items.values())

    @cached_property
    def _title_rows(self) -> list[list[int]]:
        return [self._prompter.answer(title)[:-1] for title in self.catalogue.titles]

    @cached_property
    def _title_embeddings(self) -> Tensor:
        return self._embedded(self._title_rows)


def title_recall(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    titles: Sequence[str],
    config: BIGRecConfig,
    k: int = 10,
) -> Callable[[Any], float]:
    """A function that gives a model's share of examples whose target is among the k most probable titles.

    Fine-tuning keeps the epoch where it is largest. titles: the possible answers, in catalogue order.
    """
    prompter = Prompter(tokenizer, config.prompt)
    number = {answer: place for place, answer in enumerate({tuple(prompter.answer(title)): None for title in titles})}
    answers = trie(list(number))
    questions = [
        (prompter.prompt(example.history[-config.history_length :]), number.get(tuple(prompter.answer(example.target))))
        for example in examples
    ]
    questions.sort(key=lambda pair: len(pair[0]))

    def recall(model: Any) -> float:
        hits = 0
        for start in range(0, len(questions), config.batch_size):
            part = questions[start : start + config.batch_size]
            ranked = best_titles(
                model, [prompt for prompt, _ in part], answers, beams=k, pad=int(tokenizer.pad_token_id)
            )
            hits += sum(target in numbers[:k] for numbers, (_, target) in zip(ranked, part, strict=True))
        return hits / len(questions)

    return recall
