"""The prompt of BIGRec (Bao et al. 2023): one frame for training and inference, to the character."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field
from transformers import PreTrainedTokenizerBase

SEPARATOR = "; "
TAIL = "\n\n### Response:\n"


class PromptConfig(BaseModel):
    """Words and bounds of the prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    items: str = Field(default="products", min_length=1, title="Items, plural")
    """What the items are called, for instance game products or movies."""
    item: str = Field(default="product", min_length=1, title="Item, singular")
    """What one item is called, for instance game product or movie."""
    chosen: str = Field(default="purchased", min_length=1, title="What users do with items")
    """Past participle, for instance purchased or watched."""
    most_tokens: int = Field(default=512, ge=64, title="Most tokens of a prompt")
    """The oldest titles are left out until the prompt fits. No title is ever cut by this; the newest always stays."""
    title_characters: int = Field(default=200, ge=8, title="Most characters of a title")
    """A longer title is known by its beginning, everywhere; items whose titles begin alike are then one title."""


Row = tuple[list[int], list[int]]
"""Token ids of a prompt and of its answer."""


@dataclass(frozen=True)
class Example:
    """One sample as text."""

    history: list[str]
    """Titles, oldest first."""
    target: str
    sample_id: str = ""


def head(config: PromptConfig) -> str:
    """Everything before the first title, in the Alpaca frame; with items 'game products' the paper's Games prompt."""
    return (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        f"### Instruction:\nGiven the {config.items} that the user {config.chosen} before, please recommend "
        f"a new {config.item} that the user likes to the user.\n\n"
        f"### Input:\nThe user has {config.chosen} the following {config.items} before, with titles as: "
    )


class Prompter:
    """Turns titles into token ids with one tokenizer; control tokens inside titles stay plain text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: PromptConfig) -> None:
        self._tokenizer = tokenizer
        self._config = config
        self._head = self._ids(head(config))
        self._tail = self._ids(TAIL)
        self._known: dict[str, list[int]] = {}

    def prompt(self, titles: Sequence[str]) -> list[int]:
        """Token ids up to the place where the answer begins."""
        parts = [self._title(title + SEPARATOR) for title in map(self.clean, titles[:-1])]
        parts += [self._title(self.clean(title)) for title in titles[-1:]]
        start = [self._tokenizer.bos_token_id] if self._tokenizer.bos_token_id is not None else []
        room = self._config.most_tokens - len(start) - len(self._head) - len(self._tail)
        while len(parts) > 1 and sum(map(len, parts)) > room:
            parts.pop(0)
        return [*start, *self._head, *(token for part in parts for token in part), *self._tail]

    def answer(self, title: str) -> list[int]:
        """Token ids of the answer, with the end-of-text token."""
        return [*self._title(self.clean(title)), self._tokenizer.eos_token_id]

    def row(self, example: Example) -> Row:
        """Prompt and answer of an example."""
        return self.prompt(example.history), self.answer(example.target)

    def length(self, example: Example) -> int:
        """Tokens of prompt and answer together."""
        return sum(map(len, self.row(example)))

    def clean(self, title: str) -> str:
        """One line of bounded length."""
        return " ".join(title.split())[: self._config.title_characters]

    def _title(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = self._ids(text)
        return self._known[text]

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
