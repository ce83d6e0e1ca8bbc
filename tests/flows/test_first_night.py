"""docs/first-night.md is what the commands print to a newcomer."""

import re
import runpy
from pathlib import Path

import pytest

NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")
TITLE = re.compile(r"\b[A-Z][a-z]+ Eiche")
"""On another processor the order of two titles, or of two models, may be another one."""


def test_the_first_night_page_is_what_the_commands_print(tmp_path, prefect_server):
    module = runpy.run_path("docs/first_night.py")
    played = module["play"](tmp_path)
    assert [command.code for command in played] == [0] * 7
    night = next(command for command in played if command.line.startswith("dealrec nightly"))
    assert len(night.output.splitlines()) <= 8 + 12  # the log, the seven steps, the closing summary
    walked, written = module["page"](played, tmp_path), Path("docs/first-night.md").read_text("utf-8")
    same = [sorted(re.split(r"[\W_]+", NUMBER.sub("#", TITLE.sub("title", text)))) for text in (walked, written)]
    assert same[0] == same[1], "run python docs/first_night.py and commit the page"
    figures = [[float(number.replace(",", "")) for number in NUMBER.findall(text)] for text in (walked, written)]
    assert figures[0] == pytest.approx(figures[1], rel=0.1, abs=0.1)  # another processor rounds otherwise
