"""Writes sections as one self-contained HTML page, or as Markdown for a page that draws no SVG."""

from collections.abc import Sequence

from dealrec_core.lake.nights import Night
from tasks import markup
from tasks.report.charts import Bars, Chart, Columns, svg
from tasks.report.sections import Section, Table, sections

STYLE = """
:root{--first:#1f6feb;--second:#e3702e;--third:#8a94a3;color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:860px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem;border-bottom:1px solid #8884;padding-bottom:.2rem}
table{border-collapse:collapse;margin:.8rem 0;font-size:13px}td,th{padding:.15rem .8rem .15rem 0;text-align:left;vertical-align:top}
tr{border-bottom:1px solid #8883}figure{margin:1rem 0}figcaption{font-weight:600;font-size:14px}svg{width:100%;max-width:660px}
svg text{font-size:12px;fill:currentColor}.mark{display:inline-block;width:.7em;height:.7em;margin:0 .3em 0 .8em}
nav a{margin-right:1em}small{font-weight:400}
"""


def page(night: Night) -> str:
    """The whole report: one HTML file that needs no other file, no script and no network."""
    parts = sections(night)
    links = "".join(f'<a href="#{markup.html(_anchor(part))}">{markup.html(part.title)}</a>' for part in parts)
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>Night {markup.html(night.name)}</title><style>{STYLE}</style></head><body>",
            f"<h1>Night {markup.html(night.name)}</h1><nav>{links}</nav>",
            *(html(part) for part in parts),
            "</body></html>",
        ]
    )


def markdown(section: Section) -> str:
    """One section: its sentence, its tables, and its charts drawn with block characters."""
    tables = [_markdown_table(table) for table in section.tables]
    charts = [_markdown_chart(chart) for chart in section.charts]
    return "\n\n".join([f"## {markup.markdown(section.title)}", markup.markdown(section.lead), *tables, *charts])


def html(section: Section) -> str:
    tables = "".join(_html_table(table) for table in section.tables)
    charts = "".join(svg(chart) for chart in section.charts)
    head = f'<section id="{markup.html(_anchor(section))}"><h2>{markup.html(section.title)}</h2>'
    return f"{head}<p>{markup.html(section.lead)}</p>{charts}{tables}</section>"


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{markup.html(heading)}</th>" for heading in table.headings) if any(table.headings) else ""
    body = "".join("<tr>" + "".join(f"<td>{markup.html(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<table>{head and f'<tr>{head}</tr>'}{body}</table>"


def _anchor(section: Section) -> str:
    return section.title.split()[0].strip(",").lower()


def _markdown_table(table: Table) -> str:
    rows = [_row(row) for row in table.rows]
    return "\n".join([_row(table.headings), "|" + "---|" * len(table.headings), *rows])


def _row(cells: Sequence[str]) -> str:
    """Cells come from settings, logs and reasons: nothing in them may end a cell or become markup."""
    return f"| {' | '.join(markup.markdown(cell) for cell in cells)} |"


def _markdown_chart(chart: Chart) -> str:
    if isinstance(chart, Bars):
        longest = max((bar.value for bar in chart.bars), default=0.0) or 1.0
        blocks = ["█" * max(0, round(20 * bar.value / longest)) for bar in chart.bars]
        values = [_with_interval(chart.form, bar.value, bar.low, bar.high) for bar in chart.bars]
        labels = [bar.label for bar in chart.bars]
        table = Table(["", "", ""], list(zip(labels, blocks, values, strict=True)))
    elif isinstance(chart, Columns):
        table = Table(["", "from", "", "to"], _sparklines(chart))
    else:
        shown = [["" if value is None else f"{value:.4g}" for value in values] for values in chart.series.values()]
        table = Table(["night", *chart.series], list(zip(chart.labels, *shown, strict=True))[-7:])
    return f"**{markup.markdown(chart.title)}**\n\n{_markdown_table(table)}"


def _with_interval(form: str, value: float, low: float | None, high: float | None) -> str:
    interval = "" if low is None or high is None else f" [{form.format(low)}, {form.format(high)}]"
    return form.format(value) + interval


def _sparklines(chart: Columns) -> list[list[str]]:
    rows = []
    for name, counts in chart.series.items():
        tallest = max(counts, default=0) or 1
        drawn = "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * count / tallest))] for count in counts)
        rows.append([name, f"{chart.edges[0]:.3g}", drawn, f"{chart.edges[-1]:.3g}"])
    return rows
