"""docs/walk.md is what the nights of these tests say."""

import re
import runpy
from pathlib import Path

import pytest

NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")


def test_the_walk_page_follows_a_real_row_as_trace_does(two_nights):
    walked, written = runpy.run_path("docs/walk.py")["page"](two_nights), Path("docs/walk.md").read_text("utf-8")
    assert NUMBER.sub("#", walked) == NUMBER.sub("#", written), "run python docs/walk.py and commit the page"
    figures = [[float(number) for number in NUMBER.findall(text)] for text in (walked, written)]
    assert figures[0] == pytest.approx(figures[1], rel=0.02)  # another processor rounds otherwise
