"""Texts of one's own as token ids: a prompt with its answer, or a chat whose last message is the answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from dealrec_core.errors import DataError
from dealrec_core.language.prompts import Row

Chat = Sequence[Mapping[str, str]]
"""Messages with `role` and `content`, the answer last."""
Text = tuple[str, str] | Chat
"""A prompt and its answer, or a chat."""


def rows_of(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text]) -> list[Row]:
    """Token ids of prompt and answer of each text.

    A prompt begins as the tokenizer begins a text, and an answer ends with the end-of-text token. A chat is rendered by the
    tokenizer's own template, so it begins and ends as that says.

    Raises:
        DataError: a chat that the template cannot render or that changes earlier messages, or an empty answer.
    """
    return [_row(tokenizer, text, number) for number, text in enumerate(texts)]


def _row(tokenizer: Any, text: Text, number: int) -> Row:
    if isinstance(text[0], str):
        prompt, answer = str(text[0]), str(text[1])
        ends = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
        row = list(tokenizer(prompt)["input_ids"]), [*_ids(tokenizer, answer), *ends]
    else:
        prompt, answer = _rendered(tokenizer, text, number)
        row = _ids(tokenizer, prompt), _ids(tokenizer, answer)
    if not answer or not row[0]:
        raise DataError(f"text {number} has an empty {'prompt' if answer else 'answer'}; leave it out")
    return row


def _rendered(tokenizer: Any, chat: Any, number: int) -> tuple[str, str]:
    """A chat up to its answer, and the answer, as the template writes them."""
    if not getattr(tokenizer, "chat_template", None):
        raise DataError(f"text {number} is a chat, and the tokenizer has no chat template; give pairs (prompt, answer)")
    before = str(tokenizer.apply_chat_template(list(chat[:-1]), tokenize=False, add_generation_prompt=True))
    whole = str(tokenizer.apply_chat_template(list(chat), tokenize=False))
    if not whole.startswith(before):
        raise DataError(
            f"the chat template renders the messages before the answer of text {number} in another way once the answer is "
            "there; give pairs (prompt, answer)"
        )
    return before, whole.removeprefix(before)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
