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
