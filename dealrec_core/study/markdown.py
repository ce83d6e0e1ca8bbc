"""A study's tables as Markdown, one section per data set, backend and ratio."""

from typing import Any

import polars as pl

from dealrec_core.study.backends import LIKELIHOOD
from dealrec_core.study.config import StudyConfig
from dealrec_core.study.report import PRIMARY, QUESTION, REFERENCE, TARGETS, metrics

JUDGES = {
    "all": "all held-out users, those included on whom rules were tried",
    "choosing": "the half of the users on whom rules are tried",
    "judging": "the half of the users that has chosen nothing",
}


def markdown(config: StudyConfig, frame: pl.DataFrame, power: pl.DataFrame) -> str:
    """The `report.table` and `report.power` for reading."""
    deciding, *others = metrics(config)
    lines = [
        f"{deciding} decides; intervals at {config.confidence:.0%}, Student's t over users and seeds. "
        f"Figures are of {JUDGES[config.judges]}. The log-likelihood only describes: it can point the other way.",
        "",
    ]
    if frame.is_empty():
        return "\n".join([*lines, "No cell has finished."])
    for key, part in frame.group_by(QUESTION, maintain_order=True):
        names = ["method", "surrogate", "seeds", deciding, "gain", "p", "comparison"]
        names += [f"{name} gain" for name in others if name != LIKELIHOOD]
        names += ["log-likelihood gain", "device", "selection s", "tuning s", "tokens", "TFLOP"]
        dataset, backend, ratio = key
        lines += [f"### {dataset}, {backend}, {float(str(ratio)):.2%} of the samples", "", *_head(names)]
        lines += [*(_line(row, deciding, others) for row in part.iter_rows(named=True)), ""]
        if not power.is_empty():
            rows = power.filter(
                pl.all_horizontal(pl.col(name) == value for name, value in zip(QUESTION, key, strict=True))
            )
            lines += _power(rows, deciding) if len(rows) else []
    return "\n".join(lines).rstrip()


def _head(names: list[str]) -> list[str]:
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


def _line(row: dict[str, Any], deciding: str, others: list[str]) -> str:
    compared = row["comparison"] not in (REFERENCE, "not compared")
    p = "—" if row["p holm"] is None else f"{row['p holm']:.3f}"
    word = f"{row['comparison']} (primary question)" if row[PRIMARY] else row["comparison"]
    gains = [_interval(row, name) if compared else f"({row[name]:.4f})" for name in others]
    clock = "wall" if "cuda" in row["device"] else "cpu"
    costs = [f"{row[name]:.0f}" for name in (f"selection_{clock}_s", f"tuning_{clock}_s", "tokens")]
    names = [row["method"], row["surrogate"], row["seeds"], f"{row[deciding]:.4f}"]
    shown = [
        *names,
        _interval(row, deciding) if compared else "—",
        p,
        word,
        *gains,
        row["device"],
        *costs,
        f"{row['flops'] / 1e12:.2f}",
    ]
    return f"| {' | '.join(map(str, shown))} |"


def _interval(row: dict[str, Any], metric: str) -> str:
    return f"{row[f'{metric} gain']:+.4f} [{row[f'{metric} low']:+.4f}, {row[f'{metric} high']:+.4f}]"


def _power(rows: pl.DataFrame, deciding: str) -> list[str]:
    """Table of the smallest detectable gains, by which a reader judges "no difference shown"."""
    names = ["method", "seeds", "users", "standard error", "smallest gain found"]
    names += [f"{what} for {share:.0%}" for share in TARGETS for what in ("seeds", "users")]
    lines = [f"Power ({deciding}; a gain is detected in 80% of studies):", "", *_head(names)]
    for row in rows.iter_rows(named=True):
        seeds, smallest = f"{row['seeds']} against {row['reference seeds']}", f"{row['smallest']:.4f}"
        needs = [row[f"{what} for {share:.0%}"] for share in TARGETS for what in ("seeds", "users")]
        shown = [row["method"], seeds, row["users"], f"{row['error']:.5f}", f"{smallest} ({row['smallest share']:.0%})"]
        lines.append(f"| {' | '.join(map(str, [*shown, *('—' if need is None else need for need in needs)]))} |")
    return [*lines, ""]
