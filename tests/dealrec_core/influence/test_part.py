"""A part of the samples that only their content decides."""

import numpy as np

from dealrec_core.influence import part
from dealrec_core.samples.sequences import Sequences


def sequences(count: int) -> Sequences:
    random = np.random.default_rng(0)
    lengths = random.integers(1, 5, count)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Sequences(random.integers(0, 50, lengths.sum()), offsets, random.integers(0, 50, count))


def contents(samples: Sequences) -> list[tuple[int, ...]]:
    parts = np.split(samples.items, samples.offsets[1:-1])
    return [(*map(int, items), int(target)) for items, target in zip(parts, samples.targets, strict=True)]


def test_the_order_of_rows_changes_nothing() -> None:
    samples = sequences(100)
    shuffled = samples.take(np.random.default_rng(1).permutation(100))
    assert contents(part.spread(samples, 20)) == contents(part.spread(shuffled, 20))


def test_lengths_are_spread_as_in_the_whole() -> None:
    samples = sequences(4000)
    assert abs(part.spread(samples, 1000).lengths.mean() - samples.lengths.mean()) < 0.1


def test_history_and_target_do_not_change_places() -> None:
    """(1, 2) then 3 and (1, 3) then 2 hold the same items; among many such pairs one half is not the other's."""
    samples = sequences(2)
    assert len(set(contents(part.spread(samples, 2)))) == 2
