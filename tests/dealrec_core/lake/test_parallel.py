import time

import pytest

from dealrec_core.lake.parallel import in_order


def test_results_come_in_the_order_of_the_items():
    def slow_first(number: int) -> int:
        time.sleep(0.05 if number == 0 else 0)
        return number * 10

    assert list(in_order(slow_first, range(5), threads=3)) == [0, 10, 20, 30, 40]


def test_few_items_are_taken_before_their_turn():
    taken = []

    def items():
        for number in range(10):
            taken.append(number)
            yield number

    results = in_order(lambda number: number, items(), threads=2)
    assert next(results) == 0
    assert taken == [0, 1, 2]


def test_an_error_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda number: 1 / number, [1, 0], threads=2))
