"""Writes a small log, a catalogue and a language model into a folder, so that the examples of the library's pages can run there."""

import re
from pathlib import Path

import polars as pl

from dealrec_core.language import language_model
from dealrec_core.settings.language import LanguageModelConfig, PromptConfig

COLOURS, THINGS = ("Red", "Blue", "Green", "Gold"), ("cup", "plate", "fork", "spoon", "bowl")
SMALL = LanguageModelConfig(vocabulary=512, width=32, layers=1, steps=3)
DAY_MS = 86_400_000


def prepare(folder: Path) -> None:
    """Writes log.parquet, items.parquet and the folder `model`: 24 customers, who buy 10 of 20 articles each."""
    rows = [
        (customer, (customer * 3 + day * (1 + customer % 2)) % 20, 1_700_000_000_000 + day * DAY_MS + customer * 1000)
        for customer in range(24)
        for day in range(10)
    ]
    titles = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
    pl.DataFrame(rows, schema=["customer", "article", "time"], orient="row").write_parquet(folder / "log.parquet")
    pl.DataFrame({"article": range(20), "title": titles}).write_parquet(folder / "items.parquet")
    histories = [titles[:5], titles[5:10]]
    language_model.build(folder / "model", titles, histories, config=SMALL, prompt=PromptConfig(), seed=0)


def blocks(page: Path) -> list[str]:
    """The Python blocks of a page, in order."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
