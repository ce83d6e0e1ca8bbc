"""The parts that a report is made of: figures in tables, charts and sections, without a word of HTML or Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """Rows of text below their headings; without headings, the first cell of a row names the second."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    """A table with a title is folded away until its reader opens it."""


@dataclass(frozen=True)
class Bar:
    """One value with its interval; `marked` bars stand out."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    marked: bool = False


@dataclass(frozen=True)
class Bars:
    """Values side by side, longest label left; values without an interval are bars from 0, others are points."""

    title: str
    bars: Sequence[Bar]
    form: str = "{:.4f}"


@dataclass(frozen=True)
class Columns:
    """Distributions over the same bins: shares of each series, so that a 2% subset can be compared with the whole."""

    title: str
    edges: Sequence[float]
    """One more than there are bins."""
    series: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Lines:
    """One point per night; None leaves a gap."""

    title: str
    labels: Sequence[str]
    series: Mapping[str, Sequence[float | None]]


Chart = Bars | Columns | Lines


@dataclass(frozen=True)
class Section:
    """One part of the report: a sentence that says what to see, then charts and figures."""

    title: str
    lead: str
    tables: Sequence[Table] = field(default_factory=tuple)
    charts: Sequence[Chart] = field(default_factory=tuple)


@dataclass(frozen=True)
class Tile:
    """One of the few figures that stand on top of a page."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Summary:
    """The top of a page: the verdict as one word and one sentence, the figures that matter, and how nights went lately."""

    title: str
    word: str
    sentence: str
    tiles: Sequence[Tile]
    trends: Sequence[Chart]
    nights: Sequence[tuple[str, str]]
    """Day and outcome of the last nights, oldest first."""


def figures(chart: Chart) -> Table:
    """The values of a chart as a table, for a reader who does not see it."""
    if isinstance(chart, Bars):
        return Table(["", "value"], [[bar.label, _with_interval(chart.form, bar)] for bar in chart.bars], "Figures")
    if isinstance(chart, Lines):
        columns = [["" if value is None else f"{value:.4g}" for value in values] for values in chart.series.values()]
        return Table(["night", *chart.series], list(zip(chart.labels, *columns, strict=True)), "Figures")
    wholes = [sum(counts) or 1.0 for counts in chart.series.values()]
    bins = zip(chart.edges, chart.edges[1:], *chart.series.values(), strict=False)
    rows = [
        [f"{low:.3g} to {high:.3g}", *(f"{count / whole:.1%}" for count, whole in zip(counts, wholes, strict=True))]
        for low, high, *counts in bins
    ]
    return Table(["between", *chart.series], rows, "Figures")


def _with_interval(form: str, bar: Bar) -> str:
    if bar.low is None or bar.high is None:
        return form.format(bar.value)
    return f"{form.format(bar.value)} [{form.format(bar.low)}, {form.format(bar.high)}]"
