"""Turns overlapping samples into windows in which every transition of the log stands exactly once.

A log with one sample per interaction holds each history many times. Training on windows costs one pass over the
interactions, not one pass per sample.
"""

import numpy as np
import polars as pl

from dealrec_core.samples import rolling_hash
from dealrec_core.samples.sequences import Sequences


def windows(samples: Sequences, *, length: int) -> list[np.ndarray]:
    """Arrays (W, L + 1) of equal-length windows, one array per length 2 <= L + 1 <= length + 1.

    A sample whose history is another sample's history plus target (cut to the longest history of the data) continues
    it; the choice among several equal ones makes no difference to the transitions. Chains are cut every `length`
    items, and neighbours share one item, so that each item but a chain's first is predicted exactly once.
    """
    items, offsets, _ = _chains(samples)
    return _cut(items, *_pieces(offsets, length=length))


def around(samples: Sequences, rows: np.ndarray, *, length: int, seed: int) -> list[np.ndarray]:
    """Those of `windows` that predict the target of one of the samples `rows`, and as many others, drawn by the seed."""
    items, offsets, places = _chains(samples)
    starts, stops = _pieces(offsets, length=length)
    until = np.append(0, np.cumsum(np.bincount(places[rows], minlength=len(items))))
    wanted = until[stops] > until[starts + 1]
    others = np.flatnonzero(~wanted)
    drawn = np.random.default_rng(seed).permutation(others)[: wanted.sum()]
    wanted[drawn] = True
    return _cut(items, starts[wanted], stops[wanted])


def alone(samples: Sequences, *, length: int) -> list[np.ndarray]:
    """Arrays (W, L + 1) of equal-length windows, one window a sample: the latest items of its history and its target."""
    batches = samples.batches(len(samples.items))
    return [np.column_stack([histories[:, -length:], targets]) for _, histories, targets in batches]


def _cut(items: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> list[np.ndarray]:
    sizes = stops - starts
    return [items[starts[sizes == size][:, None] + np.arange(size)] for size in np.unique(sizes)]


def _pieces(offsets: np.ndarray, *, length: int) -> tuple[np.ndarray, np.ndarray]:
    sizes = np.diff(offsets)
    counts = -(-(sizes - 1) // length)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.repeat(offsets[:-1], counts) + within * length
    stops = np.minimum(starts + length + 1, np.repeat(offsets[1:], counts))
    return starts, stops


def _chains(samples: Sequences) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flat items and offsets of the chains (the first history, then every target), and the place of each sample's target."""
    before = _predecessors(samples)
    head, depth = _heads(before)
    order = np.lexsort((depth, head))
    lengths = np.where(before[order] < 0, samples.lengths[order] + 1, 1)
    flat = np.empty(lengths.sum(), dtype=np.int64)
    stops = np.cumsum(lengths)
    flat[stops - 1] = samples.targets[order]
    first = order[before[order] < 0]
    histories = samples.take(first)
    begins = (stops - lengths)[before[order] < 0]
    inside = np.arange(len(histories.items)) - np.repeat(histories.offsets[:-1], histories.lengths)
    flat[np.repeat(begins, histories.lengths) + inside] = histories.items
    places = np.empty(len(samples), dtype=np.int64)
    places[order] = stops - 1
    return flat, np.append(begins, len(flat)), places


def _predecessors(samples: Sequences) -> np.ndarray:
    """The sample that each sample continues, or -1; every sample is continued at most once."""
    of_history, continued = _fingerprints(samples)
    rows = np.arange(len(samples))
    histories = _numbered(of_history, rows, "row")
    ends = _numbered(continued, rows, "before")
    joined = histories.join(ends, on=["key", "occurrence"], how="left").sort("row")
    return joined["before"].fill_null(-1).to_numpy(writable=True)


def _numbered(keys: np.ndarray, rows: np.ndarray, name: str) -> pl.DataFrame:
    frame = pl.DataFrame({"key": keys, name: rows})
    return frame.with_columns(pl.int_range(pl.len()).over("key").alias("occurrence"))


def _fingerprints(samples: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """Hash of each history, and of each history with its target (cut to the longest length), uint64 (N,)."""
    of_history, continued = rolling_hash.hashes(samples)
    longest = int(samples.lengths.max())
    oldest = rolling_hash.codes(samples)[samples.items[samples.offsets[:-1]]] * rolling_hash.powers(longest)[-1]
    return of_history, continued - np.where(samples.lengths == longest, oldest, np.uint64(0))


def _heads(before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First sample of each sample's chain and the distance to it, by pointer doubling; `before` loses its cycles."""
    head = np.where(before < 0, np.arange(len(before)), before)
    depth = (before >= 0).astype(np.int64)
    for _ in range(int(np.ceil(np.log2(max(2, len(before)))))):
        depth = depth + depth[head]
        head = head[head]
    cyclic = before[head] >= 0  # histories of one item repeated, longer than the longest history
    before[cyclic] = -1
    head[cyclic], depth[cyclic] = np.flatnonzero(cyclic), 0
    return head, depth
