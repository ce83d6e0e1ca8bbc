"""Writes docs/first-night.md: the first night of a newcomer with a small log of a shape of its own, as the commands print it.

python docs/first_night.py     # about a minute
"""

import io
import os
import re
import tempfile
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from rich.console import Console

from benchmarks import newcomer
from benchmarks.newcomer import Command, Shop
from flows import cli

PAGE = Path(__file__).resolve().parent / "first-night.md"
SHOP = Shop(users=60, items=100, events=1500, days=10)
SMALL = {
    "SURROGATE__EPOCHS": "2",
    "SURROGATE__WIDTH": "8",
    "LANGUAGE_MODEL__STEPS": "30",
    "LANGUAGE_MODEL__WIDTH": "32",
    "LANGUAGE_MODEL__LAYERS": "4",
    "EVALUATION__USERS": "40",
    "FINE_TUNE__EPOCHS": "2",
    "CORESET__LEAST": "100",
    "GATE__FIRST_BEATS": '["popularity"]',
    "GATE__CONFIDENCE": "0",
    "GATE__RESAMPLES": "200",
}
"""Sizes at which a night takes seconds; its model learns little."""
HEAD = """# The first night with a log of your own

This page shows the output of the commands for a small log with unusual files: semicolons between the fields, times in milliseconds,
and German column names. No setting was written by hand, because `dealrec init` recognised the files and the columns. The commands ran
in the folder that holds `rohdaten`. Times are replaced by dots. The models have the size of a test, so the figures do not show the
quality of a real night. `python benchmarks/newcomer.py` runs these commands in full size, with 30,000 events, 800 users and three
nights.

"""


def page(played: list[Command], folder: Path) -> str:
    """The whole page."""
    text = newcomer.transcript(played, folder)
    text = re.sub(r"\b(\d{4}-\d\d-\d\d)-[0-9a-f]{6}\b", r"\1-xxxxxx", text)
    text = re.sub(r" +(\d+\.\d s|\d+:\d\d)\b(?!:)", " … s", text)
    text = re.sub(r" +\n", "\n", text)
    return f"{HEAD}```\n{text}\n```\n"


def play(folder: Path) -> list[Command]:
    """Plays the small form in this process."""
    with patch.dict(os.environ, {f"DEALREC_{name}": value for name, value in SMALL.items()}):
        return newcomer.play(folder, SHOP, here, nights=1)


def here(folder: Path, line: str) -> Command:
    """Runs a command in this process; returns what it printed on both streams."""
    printed, code = io.StringIO(), 0
    console = patch("flows.printing.out", Console(soft_wrap=True, width=100))
    with chdir(folder), redirect_stdout(printed), redirect_stderr(printed), console, patch("sys.argv", line.split()):
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Command(line, code, printed.getvalue())


def main() -> None:
    """Plays it in a temporary folder, and writes the page."""
    from prefect.testing.utilities import prefect_test_harness

    with tempfile.TemporaryDirectory() as name, prefect_test_harness(server_startup_timeout=120):
        PAGE.write_text(page(play(Path(name)), Path(name)), encoding="utf-8")


if __name__ == "__main__":
    main()
