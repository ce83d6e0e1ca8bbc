"""A part of the samples that their content alone decides: no seed, and no order of rows, changes it."""

import numpy as np

from dealrec_core.samples.sequences import Sequences

_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplication modulo 2^64 loses nothing

_ROWS = 2**14


def spread(samples: Sequences, count: int) -> Sequences:
    """The `count` samples whose contents hash lowest, in the order of their hashes; a uniform draw for other purposes."""
    order = np.argsort(_hashes(samples), kind="stable")
    return samples.take(order[:count])


def _hashes(samples: Sequences) -> np.ndarray:
    """One uint64 (N,) per sample, of its history and its target."""
    highest = int(max(samples.items.max(), samples.targets.max()))
    codes = np.random.default_rng(0).integers(2**63, size=highest + 1).astype(np.uint64)
    powers = np.cumprod(np.concatenate([[np.uint64(1)], np.full(int(samples.lengths.max()), _BASE)]))
    found = codes[samples.targets]
    for start in range(0, len(samples), _ROWS):  # what is written down by item is larger than the samples
        ends = samples.offsets[start : start + _ROWS + 1]
        from_end = np.repeat(ends[1:], np.diff(ends)) - np.arange(ends[0], ends[-1])  # 1 for the last item
        parts = codes[samples.items[ends[0] : ends[-1]]] * powers[from_end]
        found[start : start + _ROWS] += np.add.reduceat(parts, ends[:-1] - ends[0])
    found ^= found >> np.uint64(31)
    return found * _BASE
