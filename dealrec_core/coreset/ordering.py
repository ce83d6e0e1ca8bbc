"""Sorting for selection over millions of samples: one sort of one number per sample instead of an argsort.

On 10 million numbers `np.argsort` takes about 2.5 times as long as `np.sort`, which never leaves the vector unit.
"""

import numpy as np


def argsort(keys: np.ndarray) -> np.ndarray:
    """Rows in ascending order of uint64 keys (N,), equal keys in order of row: `np.argsort(keys, kind="stable")`.

    The row takes the place of the key's lowest bits, and the whole is sorted as one number. Where keys that differ in those bits
    alone came out in the wrong order, they are sorted again.
    """
    bits = np.uint64(max(len(keys) - 1, 1).bit_length())
    row = (np.uint64(1) << bits) - np.uint64(1)
    packed = keys & ~row
    packed |= np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    order = (packed & row).view(np.int64)
    level = (packed[1:] ^ packed[:-1]) <= row
    if level.any():
        doubtful = np.flatnonzero(np.append(level, False) | np.append(False, level))
        high, whole = packed[doubtful] & ~row, keys[order[doubtful]]
        if ((high[1:] == high[:-1]) & (whole[1:] < whole[:-1])).any():
            order[doubtful] = order[doubtful][np.lexsort((whole, high))]
    return order


def keys(values: np.ndarray) -> np.ndarray:
    """uint64 keys in the order of finite float64 values (N,); -0.0 and 0.0 have one key."""
    bits = (values + 0.0).view(np.uint64)
    flipped = (bits.view(np.int64) >> 63).view(np.uint64)  # all bits of negative numbers, whose order is reversed
    flipped |= np.uint64(1) << np.uint64(63)
    bits ^= flipped
    return bits
