"""From overlapping samples to windows in which every transition of the log stands exactly once.

A log with one sample per interaction holds each history many times over. Training on windows instead costs one pass
over the interactions, not one per sample.
"""

import numpy as np
import polars as pl

from dealrec_core.samples.sequences import Sequences

_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplication modulo 2^64 loses nothing


def windows(samples: Sequences, *, length: int) -> list[np.ndarray]:
    """Arrays (W, L + 1) of equal-length windows, one array per length 2 <= L + 1 <= length + 1.

    A sample whose history is another sample's history plus target (cut to the longest history of the data) continues
    it; which of several equal ones is taken makes no difference to the transitions. Chains are cut every `length`
    items, and neighbours share one item, so that each item but a chain's first is predicted exactly once.
    """
    starts, stops, items = _pieces(*_chains(samples), length=length)
    sizes = stops - starts
    return [items[starts[sizes == size][:, None] + np.arange(size)] for size in np.unique(sizes)]


def alone(samples: Sequences, *, length: int) -> list[np.ndarray]:
    """Arrays (W, L + 1) of equal-length windows, one window a sample: the latest items of its history and its target."""
    batches = samples.batches(len(samples.items))
    return [np.column_stack([histories[:, -length:], targets]) for _, histories, targets in batches]


def _pieces(items: np.ndarray, offsets: np.ndarray, *, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sizes = np.diff(offsets)
    counts = -(-(sizes - 1) // length)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.repeat(offsets[:-1], counts) + within * length
    stops = np.minimum(starts + length + 1, np.repeat(offsets[1:], counts))
    return starts, stops, items


def _chains(samples: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """Flat items and offsets of the chains: the first history, then every target."""
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
    return flat, np.append(begins, len(flat))


def _predecessors(samples: Sequences) -> np.ndarray:
    """The sample that each sample continues, or -1; every sample is continued at most once."""
    own, continued = _fingerprints(samples)
    rows = np.arange(len(samples))
    histories = _numbered(own, rows, "row")
    ends = _numbered(continued, rows, "before")
    joined = histories.join(ends, on=["key", "occurrence"], how="left").sort("row")
    return joined["before"].fill_null(-1).to_numpy(writable=True)


def _numbered(keys: np.ndarray, rows: np.ndarray, name: str) -> pl.DataFrame:
    frame = pl.DataFrame({"key": keys, name: rows})
    return frame.with_columns(pl.int_range(pl.len()).over("key").alias("occurrence"))


def _fingerprints(samples: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """Rolling hashes modulo 2^64 of each history, and of each history with its target (cut to the longest length)."""
    longest = int(samples.lengths.max())
    powers = np.cumprod(np.concatenate([np.ones(1, np.uint64), np.full(longest, _BASE)]))
    codes = np.random.default_rng(0).integers(2**63, size=max(samples.items.max(), samples.targets.max()) + 1)
    codes = codes.astype(np.uint64)
    from_end = np.repeat(samples.offsets[1:], samples.lengths) - 1 - np.arange(len(samples.items))
    own = np.add.reduceat(codes[samples.items] * powers[from_end], samples.offsets[:-1])
    oldest = codes[samples.items[samples.offsets[:-1]]] * powers[longest]
    continued = own * _BASE + codes[samples.targets] - np.where(samples.lengths == longest, oldest, np.uint64(0))
    return own, continued


def _heads(before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First sample of each sample's chain and the distance to it, by pointer doubling; `before` loses its cycles."""
    head = np.where(before < 0, np.arange(len(before)), before)
    depth = (before >= 0).astype(np.int64)
    for _ in range(int(np.ceil(np.log2(max(2, len(before)))))):
        depth = depth + depth[head]
        head = head[head]
    cyclic = before[head] >= 0  # a user who repeats one item for longer than the histories are
    before[cyclic] = -1
    head[cyclic], depth[cyclic] = np.flatnonzero(cyclic), 0
    return head, depth
