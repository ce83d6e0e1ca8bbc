"""A study's plots: gains with their intervals, accuracy against total cost, and accuracy against the ratio."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.figure import Figure

COLOURS = {"better": "#1a7f37", "worse": "#c0392b", "reference": "#0b57d0"}
UNSURE = "#57606a"
NAMES = {"ndcg": "NDCG", "mrr": "MRR", "log_likelihood": "log-likelihood"}


def write(frame: pl.DataFrame, folder: Path, *, metric: str, reference: str) -> list[Path]:
    """Writes the plots of a study's table as PNG, one set per data set and backend; returns their paths.

    Gains and costs of several ratios are one plot each.
    """
    written = []
    for key, part in frame.group_by(["dataset", "backend"], maintain_order=True):
        several = part["ratio"].n_unique() > 1
        for ratio, same in part.group_by("ratio", maintain_order=True):
            name = "-".join([*map(str, key), *([f"{float(str(ratio[0])):g}"] if several else [])])
            if same[f"{metric} gain"].is_not_nan().any():
                written.append(_gains(same, folder / f"gains-{name}.png", metric=metric, reference=reference))
                written.append(_costs(same, folder / f"costs-{name}.png", metric=metric))
        if several:
            written.append(_ratios(part, folder / f"ratios-{'-'.join(map(str, key))}.png", metric=metric))
    return written


def _gains(part: pl.DataFrame, path: Path, *, metric: str, reference: str) -> Path:
    """A row for each method; beside the metric the log-likelihood, which describes."""
    ordered = part.filter(pl.col(f"{metric} gain").is_not_nan()).sort(f"{metric} gain")
    shown = list(dict.fromkeys([metric, "log_likelihood"]))
    figure = Figure(figsize=(2.4 + 3.4 * len(shown), 1.4 + 0.3 * len(ordered)))
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    colours = _colours(ordered)
    for axes, name in zip(panels, shown, strict=True):
        rows = ordered.select(f"{name} gain", f"{name} low", f"{name} high").rows()
        for place, ((middle, low, high), colour) in enumerate(zip(rows, colours, strict=True)):
            axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot(middle, place, "o", color=colour, markersize=5)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_xlabel(f"{_named(name)}, gain over {reference}")
        _plain(axes, grid="x")
    panels[0].set_yticks(range(len(ordered)), _labels(ordered))
    panels[0].set_title(_title(part), loc="left", fontsize=10)
    return _saved(figure, path)


def _costs(part: pl.DataFrame, path: Path, *, metric: str) -> Path:
    clock = "wall" if part["device"].str.contains("cuda").any() else "CPU"
    figure, axes = _logarithmic(f"selection and tuning, {clock} seconds", _title(part), metric=metric)
    axes.scatter(part["total_s"], part[metric], c=_colours(part), s=28, zorder=3)
    axes.margins(x=0.22, y=0.08)
    places = sorted(zip(part[metric], part["total_s"], _labels(part), strict=True))
    low, high = axes.get_ylim()
    gap, last = (high - low) / 28, low
    for value, seconds, label in places:  # from below, each label at least a line above the one before
        last = max(value, last + gap)
        arrow = {"arrowstyle": "-", "color": "#8c959f", "linewidth": 0.5}
        axes.annotate(label, (seconds, value), (seconds * 1.15, last), fontsize=7, va="center", arrowprops=arrow)
    return _saved(figure, path)


def _ratios(part: pl.DataFrame, path: Path, *, metric: str) -> Path:
    figure, axes = _logarithmic("share of the samples", _title(part, ratio=False), metric=metric)
    for key, line in part.sort("ratio").group_by("method", maintain_order=True):
        if len(line) > 1:
            axes.plot(line["ratio"], line[metric], marker="o", label=str(key[0]))
    ratios = sorted(part["ratio"].unique())
    axes.set_xticks(ratios, [f"{ratio:.1%}" for ratio in ratios])
    axes.minorticks_off()
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _saved(figure, path)


def _logarithmic(label: str, title: str, *, metric: str) -> tuple[Figure, Any]:
    """A figure with one plot of the metric over a logarithmic axis."""
    figure = Figure(figsize=(7.2, 4.2))
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.set_ylabel(_named(metric))
    axes.set_title(title, loc="left", fontsize=10)
    _plain(axes, grid="both")
    return figure, axes


def _colours(part: pl.DataFrame) -> list[str]:
    return [COLOURS.get(word, UNSURE) for word in part["comparison"]]


def _named(metric: str) -> str:
    """For instance NDCG@100."""
    name, at, length = metric.partition("@")
    return f"{NAMES.get(name, name)}{at}{length}"


def _plain(axes: Any, *, grid: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#d0d7de", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)


def _title(part: pl.DataFrame, *, ratio: bool = True) -> str:
    first = part.row(0, named=True)
    size = f", {first['ratio']:.1%} of the samples" if ratio else ""
    low, high = min(part["seeds"].to_list()), max(part["seeds"].to_list())
    seeds = f"{high} seed{'s' * (high > 1)}" if low == high else f"{low} to {high} seeds"
    return f"{first['dataset']}, {first['backend']}{size}, {seeds}"


def _labels(part: pl.DataFrame) -> Sequence[str]:
    """Methods; with the surrogate where a method has several."""
    several = set(part.filter(pl.col("method").is_duplicated())["method"])
    rows = part.select("method", "surrogate").iter_rows()
    return [f"{method} ({surrogate})" if method in several else method for method, surrogate in rows]


def _saved(figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=120, metadata={"Software": None})
    return path
