"""Writes a section as Markdown, for a page that draws no SVG."""

from collections.abc import Sequence

from tasks import markup
from tasks.report.parts import Bars, Chart, Columns, Section, Table, figures


def markdown(section: Section) -> str:
    """One section: its sentence, its tables, and its charts drawn with block characters."""
    tables = [_table(table) for table in section.tables]
    charts = [_chart(chart) for chart in section.charts]
    return "\n\n".join([f"## {markup.markdown(section.title)}", markup.markdown(section.lead), *tables, *charts])


def _table(table: Table) -> str:
    title = f"**{markup.markdown(table.title)}**\n\n" if table.title else ""
    rows = [_row(row) for row in table.rows]
    return title + "\n".join([_row(table.headings), "|" + "---|" * len(table.headings), *rows])


def _row(cells: Sequence[str]) -> str:
    """Cells come from settings, logs and reasons: nothing in them may end a cell or become markup."""
    return f"| {' | '.join(markup.markdown(cell) for cell in cells)} |"


def _chart(chart: Chart) -> str:
    if isinstance(chart, Bars):
        longest = max((bar.value for bar in chart.bars), default=0.0) or 1.0
        blocks = ["█" * max(0, round(20 * bar.value / longest)) for bar in chart.bars]
        rows = [[label, block, value] for (label, value), block in zip(figures(chart).rows, blocks, strict=True)]
        table = Table(["", "", ""], rows)
    elif isinstance(chart, Columns):
        table = Table(["", "from", "", "to"], _sparklines(chart))
    else:
        known = figures(chart)
        table = Table(known.headings, known.rows[-7:])
    return f"**{markup.markdown(chart.title)}**\n\n{_table(table)}"


def _sparklines(chart: Columns) -> list[list[str]]:
    rows = []
    for name, counts in chart.series.items():
        tallest = max(counts, default=0) or 1
        drawn = "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * count / tallest))] for count in counts)
        rows.append([name, f"{chart.edges[0]:.3g}", drawn, f"{chart.edges[-1]:.3g}"])
    return rows
