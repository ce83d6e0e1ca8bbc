"""Draws charts with matplotlib as SVG for one page: text stays text, colours are the page's own, and every id is the chart's own."""

import io
import re
import warnings
from hashlib import sha256
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dealrec_core.errors import plain
from tasks import markup
from tasks.report.parts import Bars, Chart, Columns, Lines

INK, GRID = "#000001", "#000002"
SERIES = ("#000011", "#000012", "#000013", "#000014")
NAMES = {INK: "ink", GRID: "grid", **{colour: f"series-{place}" for place, colour in enumerate(SERIES, 1)}}
"""Colours that no chart has otherwise; the page's style sheet says what they are in the light and in the dark."""

WIDTH = 5.4
"""Inches, of 72 pixels: a chart is as wide as a telephone, and two stand side by side on a desk."""
LONGEST = 36
STYLE: dict[Any, Any] = {
    **{"svg.fonttype": "none", "font.size": 12, "font.family": "DejaVu Sans", "axes.edgecolor": GRID},
    **{"text.color": INK, "axes.labelcolor": INK, "xtick.color": GRID, "ytick.color": GRID},
    **{"xtick.labelcolor": INK, "ytick.labelcolor": INK, "grid.color": GRID, "grid.linewidth": 0.6},
    **{"axes.spines.top": False, "axes.spines.right": False, "text.parse_math": False, "legend.frameon": False},
}


def svg(chart: Chart) -> str:
    """The chart as an SVG element with its title as the name that a screen reader says."""
    written = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": chart.title}), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Glyph .* missing", UserWarning
        )  # the reader's fonts draw the text, not matplotlib's
        figure = Figure(figsize=(WIDTH, _height(chart)), layout="constrained")
        axes = figure.subplots()
        axes.tick_params(length=0)
        _draw(axes, chart)
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _for_the_page(written.getvalue(), chart.title)


def _draw(axes: Axes, chart: Chart) -> None:
    if isinstance(chart, Bars):
        _bars(axes, chart)
    elif isinstance(chart, Columns):
        _columns(axes, chart)
    else:
        _lines(axes, chart)


def _height(chart: Chart) -> float:
    return 0.7 + 0.32 * len(chart.bars) if isinstance(chart, Bars) else 2.9


def _bars(axes: Axes, chart: Bars) -> None:
    rows, bars = range(len(chart.bars)), chart.bars
    longest = max([bar.value if bar.high is None else bar.high for bar in bars] + [0.0]) or 1.0
    shortest = min([bar.value if bar.low is None else bar.low for bar in bars] + [0.0])
    for row, bar in zip(rows, bars, strict=True):
        colour, end = SERIES[0] if bar.marked else SERIES[2], bar.value
        if bar.low is None or bar.high is None:
            axes.barh(row, bar.value, height=0.55, color=colour)
        else:
            end = bar.high
            axes.plot([bar.low, bar.high], [row, row], color=colour, linewidth=2.5, solid_capstyle="round")
            axes.plot([bar.value], [row], "o", color=colour, markersize=7)
        side = longest if shortest < 0 else end
        axes.text(side + 0.03 * (longest - shortest), row, chart.form.format(bar.value), va="center")
    axes.set_yticks(rows, [_label(bar.label) for bar in bars])
    axes.invert_yaxis()
    axes.set_xlim(shortest * 1.1, longest + 0.28 * (longest - shortest))
    if shortest < 0:
        axes.axvline(0, color=INK, linewidth=0.8)
    axes.xaxis.set_visible(False)
    axes.spines[["bottom", "left"]].set_visible(False)


def _columns(axes: Axes, chart: Columns) -> None:
    for place, (name, counts) in enumerate(chart.series.items()):
        whole = sum(counts) or 1.0
        colour = SERIES[2] if place == 0 and len(chart.series) > 1 else SERIES[0]
        shares = [count / whole for count in counts]
        axes.stairs(shares, chart.edges, color=colour, linewidth=1.8, fill=False)
        axes.stairs(shares, chart.edges, color=colour, fill=True, alpha=0.25, label=_label(name))
    axes.xaxis.set_major_formatter(FuncFormatter(_short))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    _grid(axes, len(chart.series))


def _lines(axes: Axes, chart: Lines) -> None:
    for place, (name, values) in enumerate(chart.series.items()):
        points = [float("nan") if value is None else value for value in values]
        axes.plot(
            points,
            "-o",
            color=SERIES[place % len(SERIES)],
            linewidth=2,
            markersize=5,
            label=_label(name),
            clip_on=False,
        )
    days = [plain(label).removeprefix(str(chart.labels[0])[:5]) for label in chart.labels]
    step = -(-len(days) // 5) or 1
    axes.set_xticks(range(len(days))[::-1][::step], days[::-1][::step])
    axes.set_ylim(bottom=0)
    axes.margins(x=0.08)
    axes.yaxis.set_major_formatter(FuncFormatter(_short))
    _grid(axes, len(chart.series))


def _grid(axes: Axes, count: int) -> None:
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.spines["left"].set_visible(False)
    if count > 1:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, handlelength=1.2, columnspacing=1.2)


def _label(text: str) -> str:
    """The text on one line and no longer than leaves room for a chart; the table below the chart has the whole."""
    line = plain(text)
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def _short(value: float, _: object) -> str:
    """The value of a tick without a power of ten: 12k, 0.05.

    >>> _short(12_000, None), _short(0.05, None), _short(0.0, None)
    ('12k', '0.05', '0')
    """
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _for_the_page(text: str, title: str) -> str:
    """The SVG without its prolog, sized by the page, with the page's colours and fonts, and with ids that no other chart has."""
    own = "c" + sha256(title.encode()).hexdigest()[:8]
    body = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    body = re.sub(r"<g id=\"[^\"]*\"", "<g", body)
    body = re.sub(r"(id=\"|href=\"#|url\(#)", rf"\g<1>{own}-", body)
    body = re.sub("#0000[01][0-9]", lambda found: f"var(--{NAMES[found[0]]})", body)
    body = re.sub(
        r"<style.*?</style>|font-family: 'DejaVu Sans'; |font: \S+ 'DejaVu Sans'; | transform=\"rotate\(-0 [^)]*\)\"|\n *",
        "",
        body.replace("\nL", " L"),
    )
    view = re.search(r"viewBox=\"[^\"]*\"", body)
    head = f'<svg {view[0] if view else ""} role="img" aria-label="{markup.html(title)}">'
    return re.sub(r"<svg.*?>", lambda _: head, body, count=1, flags=re.DOTALL).strip()
