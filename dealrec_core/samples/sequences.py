"""Integer sequences without padding: the samples as numerics use them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
import torch
from torch import Tensor

from dealrec_core import schema
from dealrec_core.errors import DataError


@dataclass(frozen=True)
class Sequences:
    """N samples as one flat item array. Item numbers start at 0; there is no padding item.

    items: int64 (T,), all histories one after the other, oldest first.
    offsets: int64 (N + 1,); the history of sample n is items[offsets[n]:offsets[n + 1]], never empty.
    targets: int64 (N,), the next item y of each sample.

    >>> samples = Sequences(np.array([7, 8, 9]), np.array([0, 2, 3]), np.array([9, 7]))  # 7 8 -> 9 and 9 -> 7
    >>> samples.lengths.tolist(), samples.take(np.array([1])).items.tolist()
    ([2, 1], [9])
    """

    items: np.ndarray
    offsets: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray) -> "Sequences":
        """The samples `rows`, in the order of `rows`."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        flat = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Sequences(self.items[flat], offsets, self.targets[rows])

    def sampled(self, most: int | None, *, seed: int) -> "Sequences":
        """At most `most` of the samples, drawn without replacement and in their own order; all of them for None."""
        if most is None or len(self) <= most:
            return self
        return self.take(np.sort(np.random.default_rng(seed).choice(len(self), most, replace=False)))

    def batches(self, max_tokens: int) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        """Yields (rows, histories (B, L), targets (B,)) in batches of one exact length L: no padding is ever computed.

        Order: by length, then by row, so that it depends on the data alone. B * L <= max_tokens (B >= 1).
        """
        order = np.argsort(self.lengths, kind="stable")
        sorted_lengths = self.lengths[order]
        edges = np.flatnonzero(np.diff(sorted_lengths, prepend=-1, append=-1))
        for start, stop in pairwise(edges):
            length = int(sorted_lengths[start])
            step = max(1, max_tokens // length)
            for at in range(start, stop, step):
                rows = order[at : min(at + step, stop)]
                flat = self.offsets[rows][:, None] + np.arange(length)  # (B, L)
                yield rows, torch.from_numpy(self.items[flat]), torch.from_numpy(self.targets[rows])


def joined(first: Sequences, second: Sequences) -> Sequences:
    """The samples of `first`, followed by those of `second`."""
    return Sequences(
        np.concatenate([first.items, second.items]),
        np.concatenate([first.offsets, second.offsets[1:] + first.offsets[-1]]),
        np.concatenate([first.targets, second.targets]),
    )


def encode(samples: pl.DataFrame, item_ids: list[str]) -> Sequences:
    """Numbers the items of `samples` (SAMPLES columns) by their place in `item_ids`; row n of the frame is sample n.

    >>> samples = pl.DataFrame({"history": [["a", "b"]], "item_id": ["c"]})
    >>> encode(samples, ["a", "b", "c"]).targets.tolist()
    [2]

    Raises:
        DataError: an item of a sample is not in `item_ids`, or a history is empty.
    """
    places = pl.DataFrame({schema.ITEM_ID: item_ids, "place": np.arange(len(item_ids), dtype=np.int64)})
    lengths = samples[schema.HISTORY].list.len().to_numpy().astype(np.int64)
    if len(lengths) and lengths.min() == 0:
        raise DataError("a sample has an empty history; samples need at least one earlier item")
    flat = samples.select(pl.col(schema.HISTORY).explode().alias(schema.ITEM_ID))
    histories = _places(flat, places)
    targets = _places(samples.select(schema.ITEM_ID), places)
    return Sequences(histories, np.concatenate([[0], np.cumsum(lengths)]), targets)


def _places(column: pl.DataFrame, places: pl.DataFrame) -> np.ndarray:
    numbered = column.join(places, on=schema.ITEM_ID, how="left", maintain_order="left")
    unknown = numbered.filter(pl.col("place").is_null())
    if len(unknown):
        raise DataError(
            f"item '{unknown[schema.ITEM_ID][0]}' of a sample is not in the catalogue ({len(places)} items)"
        )
    return numbered["place"].to_numpy().astype(np.int64)
