"""BIGRec (Bao et al. 2023): a language model that answers a history of titles with a title of the catalogue."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dealrec_core.items import Catalogue
from dealrec_core.recommenders.decoding import Trie, best_titles, trie
from dealrec_core.recommenders.prompts import PromptConfig, Prompter


class BIGRecConfig(BaseModel):
    """How the tuned model recommends."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    prompt: PromptConfig = PromptConfig()
    history_length: int = Field(default=10, ge=1, le=1000, title="Titles in a prompt")
    """The newest ones."""
    beams: int = Field(default=20, ge=1, le=1000, title="Beams")
    """At least the length of the list is used."""
    batch_size: int = Field(default=32, ge=1, title="Histories decoded at once")


@dataclass(frozen=True)
class BIGRec:
    """Ranks titles by their probability after the prompt; every answer is a catalogue item.

    Items of one title share its place and follow in catalogue order. Unknown ids of a history are skipped; a history
    with no known item is answered with the popular items.
    """

    name: str
    model: PreTrainedModel = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    catalogue: Catalogue = field(repr=False)
    popular: list[str] = field(repr=False)
    """Item ids, best first."""
    config: BIGRecConfig

    def recommend(self, histories: Sequence[Sequence[str]], k: int) -> list[list[str]]:
        """The k most probable items for each history."""
        title_of = self.catalogue.title_of
        known = [[title_of[item] for item in history if item in title_of] for history in histories]
        answers = [self.popular[:k] for _ in histories]
        prompts = {
            row: self._prompter.prompt(titles[-self.config.history_length :])
            for row, titles in enumerate(known)
            if titles
        }
        order = sorted(prompts, key=lambda row: (len(prompts[row]), row))
        for start in range(0, len(order), self.config.batch_size):
            rows = order[start : start + self.config.batch_size]
            found = best_titles(
                self.model,
                [prompts[row] for row in rows],
                self._titles[0],
                beams=max(self.config.beams, k),
                pad=self._pad,
            )
            for row, numbers in zip(rows, found, strict=True):
                answers[row] = [item for number in numbers for item in self._titles[1][number]][:k]
        return answers

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
