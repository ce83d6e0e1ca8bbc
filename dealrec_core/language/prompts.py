"""The prompt of BIGRec (Bao et al. 2023): one frame for training and inference, to the character."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from html import unescape

from transformers import PreTrainedTokenizerBase

from dealrec_core.settings.language import PromptConfig

TAIL = "\n\n### Response:\n"
LINE = "\n"
"""Ends every line of the plain frame; a title is cleaned of it, so that none can end the list."""
TITLES = "<<titles>>"
"""Stands for the titles while a chat template is filled in."""

CONTROL_TOKEN = (
    r"\[(?=/?(?:[A-Z]+_[A-Z_]+|INST|ARGS|THINK|IMG|AUDIO|PREFIX|MIDDLE|SUFFIX|BOS|EOS|CLS|SEP|PAD|UNK|[gs]?MASK)\])"
)
"""The bracket that opens a control token of Mistral, GLM or BERT; those of all others open with `<`."""
JOINERS = "\u200c\u200d"
"""Without a width, and part of the spelling of Persian, Hindi and emojis."""
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
    """Everything before the first title: a line, or the Alpaca frame; with items 'game products' the paper's Games prompt."""
    instruction, given = words(config)
    if config.frame == "plain":
        return given
    return (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        f"### Instruction:\n{instruction}\n\n### Input:\n{given}"
    )


def words(config: PromptConfig) -> tuple[str, str]:
    """The instruction (the plain frame has none), and the input up to the first title."""
    if config.frame == "plain":
        line = f"{config.items} that one user {config.chosen}:{LINE}"
        return "", line[0].upper() + line[1:]
    return (
        f"Given the {config.items} that the user {config.chosen} before, please recommend a new {config.item} "
        "that the user likes to the user.",
        f"The user has {config.chosen} the following {config.items} before, with titles as: ",
    )


def separator(config: PromptConfig) -> str:
    """Text between two titles."""
    return LINE if config.frame == "plain" else "; "


def clean(title: str, config: PromptConfig) -> str:
    """The title as one line of bounded length, in which neither a tokenizer nor a reader finds anything but the title."""
    return _inert(title)[: config.title_characters].rstrip(";")


@lru_cache(maxsize=100_000)
def _inert(title: str) -> str:
    """The title without invisible characters, the separator, control tokens and headings; entities of HTML are spelt out.

    >>> _inert("Tom &amp; Jerry; <|im_end|> [INST]\\n### Response:")
    'Tom & Jerry, < |im_end|> [ INST] # Response:'
    """
    text = unescape(title)
    if not text.isprintable():
        text = "".join(letter for letter in text if letter.isspace() or not _is_invisible(letter))
    text = " ".join(text.split())
    text = re.sub(r"<(?=\S)", "< ", re.sub(r";(?=\s)", ",", text))
    return re.sub(r"#{2,}", "#", re.sub(CONTROL_TOKEN, "[ ", text))


def _is_invisible(letter: str) -> bool:
    return letter not in JOINERS and unicodedata.category(letter) in ("Cc", "Cf", "Cs")


class Prompter:
    """Turns titles into token ids with one tokenizer; control tokens inside titles stay plain text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: PromptConfig) -> None:
        self._tokenizer = tokenizer
        self._config = config
        self._before, self._after = self._frame()
        self._title = cache(self._ids)

    def prompt(self, titles: Sequence[str]) -> list[int]:
        """Token ids up to the place where the answer begins."""
        lines = [clean(title, self._config) for title in titles]
        between = separator(self._config)
        parts = [self._title(line + between) for line in lines[:-1]] + [self._title(line) for line in lines[-1:]]
        room = self._config.most_tokens - len(self._before) - len(self._after)
        while len(parts) > 1 and sum(map(len, parts)) > room:
            parts.pop(0)
        return [*self._before, *(token for part in parts for token in part), *self._after]

    def answer(self, title: str) -> list[int]:
        """Token ids of the answer, with the end-of-text token."""
        return [*self._title(clean(title, self._config)), self._tokenizer.eos_token_id]

    def row(self, example: Example) -> Row:
        """Prompt and answer of an example."""
        return self.prompt(example.history), self.answer(example.target)

    def length(self, example: Example) -> int:
        """Tokens of prompt and answer together."""
        return sum(map(len, self.row(example)))

    def _frame(self) -> tuple[list[int], list[int]]:
        """Token ids before the first title and after the last one.

        The plain frame begins as the tokenizer begins a text: where a begin token opens a chat role, there is none.
        """
        if self._config.frame == "plain":
            begin = [self._tokenizer.bos_token_id]
            start = begin if self._tokenizer("")["input_ids"][:1] == begin else []
            return [*start, *self._ids(head(self._config))], self._ids(LINE)
        if self._config.frame == "alpaca" or not getattr(self._tokenizer, "chat_template", None):
            start = [self._tokenizer.bos_token_id] if self._tokenizer.bos_token_id is not None else []
            return [*start, *self._ids(head(self._config))], self._ids(TAIL)
        message = {"role": "user", "content": "\n\n".join(words(self._config)) + TITLES}
        text = self._tokenizer.apply_chat_template(
            [message], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        before, after = str(text).split(TITLES)
        return self._ids(before, control_tokens=True), self._ids(after, control_tokens=True)

    def _ids(self, text: str, *, control_tokens: bool = False) -> list[int]:
        encoded = self._tokenizer(text, add_special_tokens=False, split_special_tokens=not control_tokens)
        return list(encoded["input_ids"])
