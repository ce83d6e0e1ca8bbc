"""Rolling hashes modulo 2^64 of histories: they depend on content alone, never on a seed or on the order of rows."""

import numpy as np

from dealrec_core.samples.sequences import Sequences

BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplication modulo 2^64 loses nothing

_ROWS = 2**14


def codes(samples: Sequences) -> np.ndarray:
    """One fixed random number per item, uint64 (V,), up to the highest item of the samples."""
    highest = int(max(samples.items.max(), samples.targets.max()))
    return np.random.default_rng(0).integers(2**63, size=highest + 1).astype(np.uint64)


def powers(count: int) -> np.ndarray:
    """BASE to the powers 0 .. count, uint64 (count + 1,)."""
    return np.cumprod(np.concatenate([np.ones(1, np.uint64), np.full(count, BASE)]))


def hashes(samples: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """Hash of each history, and of each history followed by its target, uint64 (N,): Σ code(item) · BASE^(items after it)."""
    code, power = codes(samples), powers(int(samples.lengths.max()))
    of_history = np.empty(len(samples), dtype=np.uint64)
    for start in range(0, len(samples), _ROWS):  # in blocks, because numbers per item need more memory than the samples
        ends = samples.offsets[start : start + _ROWS + 1]
        items_after = np.repeat(ends[1:], np.diff(ends)) - 1 - np.arange(ends[0], ends[-1])
        terms = code[samples.items[ends[0] : ends[-1]]] * power[items_after]
        of_history[start : start + _ROWS] = np.add.reduceat(terms, ends[:-1] - ends[0])
    return of_history, of_history * BASE + code[samples.targets]


def spread(samples: Sequences, count: int) -> Sequences:
    """The `count` samples whose contents hash lowest, in the order of their hashes: a uniform draw for most purposes."""
    _, numbers = hashes(samples)
    numbers ^= numbers >> np.uint64(31)  # mixes the high bits in: the order must not follow the last items
    return samples.take(np.argsort(numbers * BASE, kind="stable")[:count])
