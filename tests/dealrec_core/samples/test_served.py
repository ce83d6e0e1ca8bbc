import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pandas as pd
import pytest

from dealrec_core.samples.served import TOGETHER, Served


class Slow:
    """Recommends the history backwards; its first answer waits until it is told to go on."""

    name = "slow"

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.has_begun, self.go_on = Event(), Event()

    def recommend(self, histories: Sequence[Sequence[str]], k: int) -> list[list[str]]:
        self.batches.append(len(histories))
        self.has_begun.set()
        self.go_on.wait(10)
        if any("bad" in history for history in histories):
            raise ValueError("a bad history")
        return [list(reversed(history))[:k] for history in histories]


def asked(histories: list[list[str]], ks: list[int]) -> tuple[list[object], Slow]:
    """The answer or error of a first request and of those that come while it is computed, each with its own k."""
    model = Slow()
    served = Served(model)

    def ask(history: list[str], k: int) -> object:
        try:
            return served.predict(pd.DataFrame({"history": [history]}), params={"k": k})["item_ids"][0]
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(len(histories)) as pool:
        first = pool.submit(ask, histories[0], ks[0])
        assert model.has_begun.wait(10)
        rest = [pool.submit(ask, *request) for request in zip(histories[1:], ks[1:], strict=True)]
        while len(served._waiting) < len(rest):
            time.sleep(0.001)
        model.go_on.set()
        return [request.result() for request in [first, *rest]], model


def test_requests_that_come_during_an_answer_are_computed_together():
    histories = [[str(n), "a"] for n in range(5)]
    answers, model = asked(histories, [1, 2, 2, 2, 2])
    assert answers == [["a"], *([["a", str(n)] for n in range(1, 5)])]
    assert model.batches == [1, 4]


def test_a_batch_has_one_k_and_a_limit():
    count = TOGETHER + 3
    _, model = asked([["a"]] * count, [1] * count)
    assert model.batches == [1, TOGETHER, 2]
    answers, _ = asked([["a", "b"]] * 4, [1, 1, 2, 1])
    assert answers == [["b"], ["b"], ["b", "a"], ["b"]]


def test_a_faulty_request_of_a_batch_fails_alone():
    answers, model = asked([["a"], ["b"], ["bad"], ["c"]], [1] * 4)
    assert answers == [["a"], ["b"], "a bad history", ["c"]]
    assert model.batches[:2] == [1, 3]


@pytest.mark.parametrize(("cell", "items"), [(["b", "a"], ["a", "b"]), (None, []), ("a", ["a"])])
def test_a_lone_request_is_answered_as_it_is(cell, items):
    model = Slow()
    model.go_on.set()
    answer = Served(model).predict(pd.DataFrame({"history": [cell]}))
    assert (answer["item_ids"].to_list(), model.batches) == ([items], [1])
