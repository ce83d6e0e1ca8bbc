"""A study's plots: gain with its interval, gain against total cost, and gain against the ratio."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.figure import Figure


def write(frame: pl.DataFrame, folder: Path, *, metric: str, reference: str) -> list[Path]:
    """Writes the plots of a study's table as PNG, one set per data set and backend; returns their paths."""
    written = []
    for key, part in frame.group_by(["dataset", "backend"], maintain_order=True):
        name = "-".join(map(str, key))
        compared = part.filter(pl.col("verdict") != "reference")
        if compared.is_empty():
            continue
        written.append(_gains(compared, folder / f"gains-{name}.png", metric=metric, reference=reference))
        written.append(_costs(part, folder / f"costs-{name}.png", metric=metric))
        if part["ratio"].n_unique() > 1:
            written.append(_ratios(part, folder / f"ratios-{name}.png", metric=metric))
    return written


def _gains(part: pl.DataFrame, path: Path, *, metric: str, reference: str) -> Path:
    ordered = part.sort(f"{metric} gain")
    figure = Figure(figsize=(7, 1 + 0.28 * len(ordered)))
    axes = figure.add_subplot()
    labels = _labels(ordered)
    middle = ordered[f"{metric} gain"].to_numpy()
    ends = [middle - ordered[f"{metric} low"].to_numpy(), ordered[f"{metric} high"].to_numpy() - middle]
    axes.errorbar(middle, range(len(ordered)), xerr=ends, fmt="o", capsize=3)
    axes.axvline(0, color="grey", linewidth=1)
    axes.set_yticks(range(len(ordered)), labels)
    axes.set_xlabel(f"{metric} gain over {reference}, with interval")
    return _saved(figure, path)


def _costs(part: pl.DataFrame, path: Path, *, metric: str) -> Path:
    figure = Figure(figsize=(7, 4.5))
    axes = figure.add_subplot()
    axes.scatter(part["total_s"], part[metric])
    for label, seconds, value in zip(_labels(part), part["total_s"], part[metric], strict=True):
        axes.annotate(label, (seconds, value), fontsize=7, xytext=(3, 3), textcoords="offset points")
    axes.set_xlabel("selection and tuning, CPU seconds")
    axes.set_ylabel(metric)
    return _saved(figure, path)


def _ratios(part: pl.DataFrame, path: Path, *, metric: str) -> Path:
    figure = Figure(figsize=(7, 4.5))
    axes = figure.add_subplot()
    for key, line in part.sort("ratio").group_by("method", maintain_order=True):
        if len(line) > 1:
            axes.plot(line["ratio"], line[metric], marker="o", label=str(key[0]))
    axes.set_xscale("log")
    axes.set_xlabel("share of the samples")
    axes.set_ylabel(metric)
    axes.legend(fontsize=7)
    return _saved(figure, path)


def _labels(part: pl.DataFrame) -> Sequence[str]:
    several = part["ratio"].n_unique() > 1
    return [f"{row['method']} {row['ratio']:g}" if several else row["method"] for row in part.iter_rows(named=True)]


def _saved(figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path
