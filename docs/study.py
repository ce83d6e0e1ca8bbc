"""Takes the tables and plots of the finished study on Games over into the tree: python docs/study.py.

After `dealrec study --config deployments/studies/games.toml`. Tables go to benchmarks/results/study/ and between the two marks of
docs/study.md, plots to docs/images/.
"""

import shutil
from pathlib import Path

FOLDER = Path("var/study/games")
RESULTS = Path("benchmarks/results/study")
PAGE = Path("docs/study.md")
PLOTS = (
    "gains-games-tiger.png",
    "gains-games-1000-bigrec.png",
    "gains-games-1000-tiger.png",
    "costs-games-1000-tiger.png",
)
BEGIN, END = "<!-- tables: written by docs/study.py -->\n", "<!-- end of tables -->"


def main() -> None:
    """Copies what the command has written, then renews the page."""
    RESULTS.mkdir(exist_ok=True)
    for name in ("table.md", "table.csv", "cells.csv"):
        shutil.copy(FOLDER / name, RESULTS / name)
    for name in PLOTS:
        shutil.copy(FOLDER / name, Path("docs/images") / f"study-{name}")
    PAGE.write_text(page(PAGE.read_text("utf-8")), encoding="utf-8")


def page(text: str) -> str:
    """The page with the tables of benchmarks/results/study/ between its marks."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return before + BEGIN + (RESULTS / "table.md").read_text("utf-8") + END + after


if __name__ == "__main__":
    main()
