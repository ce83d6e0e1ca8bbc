"""The content of a sample, its history and its target: a late event makes another sample under one sample_id."""

import hashlib
import json

import polars as pl

from dealrec_core import schema

_TEXT = pl.concat_str(pl.col(schema.HISTORY).list.join("\x1f"), pl.lit("\x1e"), pl.col(schema.ITEM_ID))


def with_content(samples: pl.DataFrame) -> pl.DataFrame:
    """The samples with a column `content`: the first 16 hexadecimal digits of a sha256 over history and target."""
    texts = samples.select(_TEXT).to_series().to_list()
    lists = (f"[{json.dumps(text)}]" for text in texts)  # as json.dumps([text]) writes it, in a third of the time
    digests = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in lists]
    return samples.with_columns(pl.Series(schema.CONTENT, digests, dtype=pl.String))


def differences(before: pl.DataFrame, after: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Samples that only `after` holds, and samples that only `before` holds; equal ids need equal content, too.

    >>> before = pl.DataFrame({"sample_id": ["s", "t"], "history": [["a"], ["b"]], "item_id": ["c", "c"]})
    >>> after = pl.DataFrame({"sample_id": ["s", "t"], "history": [["a"], ["b", "a"]], "item_id": ["c", "c"]})
    >>> added, removed = differences(before, after)
    >>> added["history"].to_list(), removed["history"].to_list()
    ([['b', 'a']], [['b']])
    """
    hashed_before, hashed_after = (frame.with_columns(_TEXT.hash(seed=0).alias("words")) for frame in (before, after))
    keys = [schema.SAMPLE_ID, "words"]
    added = hashed_after.join(hashed_before, on=keys, how="anti", maintain_order="left")
    removed = hashed_before.join(hashed_after, on=keys, how="anti", maintain_order="left")
    return added.drop("words"), removed.drop("words")
