"""Takes the tables and plots of the studies on Games over into the tree: python docs/study.py.

After `dealrec study --config deployments/studies/….toml`. Tables go to benchmarks/results/study/<name>/ and between the marks of
docs/study.md, plots of gains and costs to docs/images/. A study that has not run keeps the tables that are in the tree.
"""

import shutil
from pathlib import Path

import polars as pl

FOLDER = Path("var/study/games")
RESULTS = Path("benchmarks/results/study")
PAGE = Path("docs/study.md")
STUDIES = ("primary", "rq1", "rq2", "rq3")
TABLES = ("table.md", "table.csv", "power.csv", "cells.csv")
MARKS = ("tables", "paper")
PAPER = {
    "random": (0.0062, 0.0039),
    "tf-dcon": (0.0051, 0.0033),
    "recranker": (0.0028, 0.0019),
    "ccs": (0.0050, 0.0031),
    "grand": (0.0042, 0.0027),
    "el2n": (0.0034, 0.0024),
    "dealrec": (0.0074, 0.0062),
}
"""Recall@10 and NDCG@10 of TIGER on Games in the paper's Table 2."""
ALIKE = {"dealrec-released": "dealrec", "dealrec-ranks": "dealrec"}
"""Rules of ours that stand beside a row of the paper."""


def main() -> None:
    """Copies what the command has written, then renews the page."""
    for study in STUDIES:
        if (FOLDER / study / "table.csv").exists():
            (RESULTS / study).mkdir(parents=True, exist_ok=True)
            for name in TABLES:
                shutil.copy(FOLDER / study / name, RESULTS / study / name)
            for plot in (FOLDER / study).glob("*.png"):
                shutil.copy(plot, Path("docs/images") / f"study-{study}-{plot.name}")
    PAGE.write_text(page(PAGE.read_text("utf-8")), encoding="utf-8")


def page(text: str) -> str:
    """The page with the tables of benchmarks/results/study/ between its marks."""
    for mark, write in zip(MARKS, (_tables, _paper), strict=True):
        begin, end = f"<!-- {mark}: written by docs/study.py -->\n", f"<!-- end of {mark} -->"
        before, rest = text.split(begin)
        text = before + begin + write() + end + rest.split(end)[1]
    return text


def _tables() -> str:
    done = [study for study in STUDIES if (RESULTS / study / "table.md").exists()]
    return "\n".join(f"**{study}.toml**\n\n{(RESULTS / study / 'table.md').read_text('utf-8')}" for study in done)


def _paper() -> str:
    """The paper's Table 2 for TIGER on Games beside ours: the same metrics, cell by cell."""
    frames = [
        pl.read_csv(RESULTS / study / "table.csv") for study in STUDIES if (RESULTS / study / "table.csv").exists()
    ]
    ours = {
        row["method"]: row
        for frame in reversed(frames)
        for row in frame.filter(
            pl.col("backend") == "tiger", pl.col("ratio") == 0.02, pl.col("surrogate") != "gru4rec"
        ).to_dicts()
    }
    lines = [
        "| method | paper: recall@10 | NDCG@10 | over random | ours: recall@10 | NDCG@10 | over random | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method in [*PAPER, *ALIKE, "dsir", "targeted"]:
        theirs, row = PAPER.get(ALIKE.get(method, method)), ours.get(method)
        pairs = [theirs, (row["recall@10"], row["ndcg@10"]) if row else None]
        references = [PAPER["random"], (ours["random"]["recall@10"], ours["random"]["ndcg@10"])]
        cells = [cell for pair, random in zip(pairs, references, strict=True) for cell in _cells(pair, random)]
        lines.append(f"| {' | '.join([method, *cells, str(row['seeds']) if row else '—'])} |")
    return "\n".join(lines) + "\n"


def _cells(pair: tuple[float, float] | None, random: tuple[float, float]) -> list[str]:
    """Recall, NDCG and what NDCG is over that of random."""
    return ["—"] * 3 if pair is None else [f"{pair[0]:.4f}", f"{pair[1]:.4f}", f"{pair[1] / random[1] - 1:+.0%}"]


if __name__ == "__main__":
    main()
