"""A part of the samples that their content alone decides: no seed, and no order of rows, changes it."""

import numpy as np

from dealrec_core.sequences import Sequences

_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplication modulo 2^64 loses nothing


def spread(samples: Sequences, count: int) -> Sequences:
    """The `count` samples whose contents hash lowest, in the order of their hashes; a uniform draw for other purposes."""
    order = np.argsort(_hashes(samples), kind="stable")
    return samples.take(order[:count])


def _hashes(samples: Sequences) -> np.ndarray:
    """One uint64 (N,) per sample, of its history and its target."""
    highest = int(max(samples.items.max(), samples.targets.max()))
    codes = np.random.default_rng(0).integers(2**63, size=highest + 1).astype(np.uint64)
    powers = np.cumprod(np.concatenate([[np.uint64(1)], np.full(int(samples.lengths.max()), _BASE)]))
    from_end = np.repeat(samples.offsets[1:], samples.lengths) - np.arange(len(samples.items))  # 1 for the last item
    found = np.add.reduceat(codes[samples.items] * powers[from_end], samples.offsets[:-1]) + codes[samples.targets]
    found ^= found >> np.uint64(31)
    return found * _BASE
