"""Turns raw values into ids, and finds those that are no single id: lists, objects, rounded numbers."""

import polars as pl

from dealrec_core.ingest.raw.batch import Batch

WHOLE = r"^(-?\d+)(?:\.0+|,0)$"
"""A whole number that pandas or a database has written with a fraction: 10.0 is the item 10, and so is 10,0 (but not 10,000)."""
LIST = "a list where one id is expected"
OBJECT = "an object where one id is expected"
ROUNDED = "a rounded number where an id is expected"
BRACKETS = r"""^\[\s*(?:(?:"[^"]*"|'[^']*'|-?\d+(?:\.\d+)?|null|None|\{.*\})[,\s]*)*\]$"""
TOKENS = r"^[A-Za-z]{0,4}\d[\w-]*(?:[ ,|;]+[A-Za-z]{0,4}\d[\w-]*){2,}$"
LABELS = r"^\S+-[01](?: \S+-[01])+$"
"""Impressions with clicks, as MIND has them: N55689-1 N35729-0."""
BRACES = r"^\{.*[:,].*\}$"
SCIENTIFIC = r"^\d(?:[.,]\d+)?[eE]\+\d{2,3}$"
FORMULA = r'^="([^"]*)"$'
"""Excel's form of a text that it should not take for a number: ="007" is the item 007."""
EXACT, EXACT_32 = 2.0**53, 2.0**24
"""Larger whole numbers are not exact as floats, of 64 and of 32 bits."""
ADVICE = {
    LIST: "write one event a row, or map a column with single ids",
    OBJECT: "name a field inside it with dots, such as user.id",
    ROUNDED: "export ids as text",
}


def text_of(column: pl.Series, *, batch: Batch, null_words: list[str]) -> pl.Series:
    """Returns ids as text, null for null words; whole numbers lose their .0, whatever type they had."""
    text = _text(column, batch)
    is_word = text.is_in(null_words)
    return text.set(is_word, None) if is_word.any() else text


def _text(column: pl.Series, batch: Batch) -> pl.Series:
    kind = column.dtype
    if kind.is_float():
        number = pl.col(column.name)
        is_whole = (number == number.round()) & (number.abs() < 2**63)
        whole = pl.when(is_whole).then(number).cast(pl.Int64).cast(pl.String)
        text = pl.coalesce(whole, pl.when(number.is_finite()).then(number).cast(pl.String))
        return column.to_frame().select(text.alias(column.name)).to_series()
    if kind != pl.String:
        text_column = column.cast(pl.String)
        return text_column.str.replace(WHOLE, "$1") if kind.is_decimal() else text_column
    if column.null_count() == len(column):
        return column
    if batch.may_have(b"="):
        column = column.str.replace(FORMULA, "$1")
    return column.str.replace(WHOLE, "$1") if batch.may_have(b".") or batch.may_have(b",") else column


def doubts(column: pl.Series, batch: Batch, *, name: str, may_be_tokens: bool) -> dict[str, pl.Series]:
    """Returns, by reason, which values are no single id; only what the batch may have is looked for.

    name: the raw column.
    """
    if column.dtype.is_float():
        exact = EXACT_32 if column.dtype == pl.Float32 else EXACT
        return {ROUNDED: (column.abs() > exact).fill_null(False)}
    if column.dtype != pl.String:
        return {}
    patterns = {}
    if batch.may_have(b"["):
        patterns[LIST] = BRACKETS
    if may_be_tokens and (not batch.is_stripped or any(batch.may_have(mark) for mark in (b",", b"|", b";"))):
        patterns[LIST] = "|".join(pattern for pattern in (patterns.get(LIST), TOKENS, LABELS) if pattern)
    if name in batch.lists:
        patterns[LIST] = r"\S\s+\S"
    if batch.may_have(b"{"):
        patterns[OBJECT] = BRACES
    if batch.may_have(b"+"):
        patterns[ROUNDED] = SCIENTIFIC
    return {reason: column.str.contains(pattern).fill_null(False) for reason, pattern in patterns.items()}


def told(reason: str, value: str) -> str:
    """Returns a reason with the value that it is about, and what to do."""
    shown = value if len(value) <= 40 else f"{value[:40]}..."
    return f"{reason}: '{shown}'; {ADVICE[reason]}" if reason in ADVICE else reason
