import numpy as np

from dealrec_core.samples import rolling_hash
from dealrec_core.samples.sequences import Sequences

SAMPLES = Sequences(np.array([0, 1, 0, 1, 2]), np.array([0, 2, 5]), np.array([2, 0]))  # 0 1 -> 2 and 0 1 2 -> 0


def test_a_hash_is_the_polynomial_of_its_items_modulo_two_to_the_64th():
    code, base = [int(value) for value in rolling_hash.codes(SAMPLES)], int(rolling_hash.BASE)
    expected = [code[0] * base + code[1], (code[0] * base + code[1]) * base + code[2]]
    of_history, continued = rolling_hash.hashes(SAMPLES)
    assert of_history.tolist() == [value % 2**64 for value in expected]
    assert continued.tolist() == [(expected[0] * base + code[2]) % 2**64, (expected[1] * base + code[0]) % 2**64]


def test_a_history_that_continues_a_sample_has_its_hash():
    of_history, continued = rolling_hash.hashes(SAMPLES)
    assert of_history[1] == continued[0]


def test_blocks_of_rows_change_nothing(monkeypatch):
    whole = rolling_hash.hashes(SAMPLES)
    monkeypatch.setattr(rolling_hash, "_ROWS", 1)
    assert [part.tolist() for part in rolling_hash.hashes(SAMPLES)] == [part.tolist() for part in whole]


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
    assert contents(rolling_hash.spread(samples, 20)) == contents(rolling_hash.spread(shuffled, 20))


def test_lengths_are_spread_as_in_the_whole() -> None:
    samples = sequences(4000)
    assert abs(rolling_hash.spread(samples, 1000).lengths.mean() - samples.lengths.mean()) < 0.1


def test_history_and_target_do_not_change_places() -> None:
    """(1, 2) then 3 and (1, 3) then 2 hold the same items; among many such pairs one half is not the other's."""
    samples = sequences(2)
    assert len(set(contents(rolling_hash.spread(samples, 2)))) == 2
