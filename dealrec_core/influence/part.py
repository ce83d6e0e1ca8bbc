"""A part of the samples that their content alone decides: no seed, and no order of rows, changes it."""

import numpy as np

from dealrec_core.samples import rolling_hash
from dealrec_core.samples.sequences import Sequences


def spread(samples: Sequences, count: int) -> Sequences:
    """The `count` samples whose contents hash lowest, in the order of their hashes: a uniform draw for most purposes."""
    _, hashes = rolling_hash.hashes(samples)
    hashes ^= hashes >> np.uint64(31)  # mixes the high bits in: the order must not follow the last items
    order = np.argsort(hashes * rolling_hash.BASE, kind="stable")
    return samples.take(order[:count])
