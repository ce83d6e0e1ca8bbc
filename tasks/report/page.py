"""Writes the report as one self-contained HTML page: no script, no network, right on a telephone and on paper."""

from collections.abc import Sequence
from pathlib import Path

from dealrec_core.lake.nights import Night
from tasks import markup
from tasks.report import summary
from tasks.report.drawing import svg
from tasks.report.parts import Chart, Section, Summary, Table, figures
from tasks.report.sections import sections, top

STYLE = Path(__file__).with_suffix(".css")
NARROW = 4
"""Columns of a table that fits beside a chart."""


def page(night: Night) -> str:
    """The report of one night."""
    return _page(top(night), sections(night), foot=night.name)


def pages(nights: Sequence[Night]) -> str:
    """The report of several nights, oldest first: what became of each, and the sections of the newest that made a model."""
    judged = [night for night in nights if night.find("promotion")][-1:]
    newest = [section for night in judged for section in sections(night)]
    listed = summary.list_of(nights, below=judged[0].name if judged else None)
    return _page(summary.of_nights(nights), [listed, *newest], foot=f"{nights[0].name} to {nights[-1].name}")


def html(section: Section) -> str:
    """One section: its sentence, its charts and its tables; narrow tables stand beside an odd chart where there is room."""
    odd, single = len(section.charts) % 2 == 1, len(section.charts) == 1
    narrow = [table for table in section.tables if odd and len(table.headings) <= NARROW]
    lead, beside = f"<p>{markup.html(section.lead)}</p>", "".join(map(_table, narrow))
    charts = "".join(map(_figure, section.charts))
    cells = f"<div>{lead}{beside}</div>{charts}" if single else charts + (f"<div>{beside}</div>" if beside else "")
    drawn = f'<div class="charts">{cells}</div>' if charts else ""
    wide = "".join(_table(table) for table in section.tables if table not in narrow)
    start = f'<section id="{markup.html(_anchor(section))}"><h2>{markup.html(section.title)}</h2>'
    return f"{start}{'' if single else lead}{drawn}{wide}</section>"


def _page(head: Summary, parts: Sequence[Section], *, foot: str) -> str:
    links = "".join(f'<li><a href="#{markup.html(_anchor(part))}">{markup.html(part.title)}</a></li>' for part in parts)
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>{markup.html(head.title)}: {markup.html(head.word)}</title>",
            f"<style>{STYLE.read_text('utf-8')}</style></head><body><main>",
            _summary(head),
            f'<nav aria-label="Sections"><ul>{links}</ul></nav>',
            *(html(part) for part in parts),
            f"</main><footer><p>dealrec, {markup.html(foot)}</p></footer></body></html>",
        ]
    )


def _summary(top: Summary) -> str:
    tiles = "".join(
        f"<div><dt>{markup.html(tile.name)}</dt><dd>{markup.html(tile.value)}<small>{markup.html(tile.note)}</small></dd></div>"
        for tile in top.tiles
    )
    charts = "".join(_figure(chart) for chart in top.trends)
    nights = "".join(f'<li class="{word.lower()}"><span>{day}</span> {word}</li>' for day, word in top.nights)
    word, (first, _, rest) = markup.html(top.word), top.sentence.partition(". ")
    more = f"<p>{markup.html(rest)}</p>" if rest else ""
    return (
        f'<header class="{word.lower().split()[-1]}"><h1>{markup.html(top.title)}</h1><p class="verdict"><strong>{word}</strong> '
        f'{markup.html(first.rstrip("."))}.</p>{more}</header><dl class="tiles">{tiles}</dl>'
        f'<div class="charts">{charts}</div><ol class="outcomes" aria-label="Outcomes of the last nights">{nights}</ol>'
    )


def _figure(chart: Chart) -> str:
    title = f"<figcaption>{markup.html(chart.title)}</figcaption>"
    return f"<figure>{title}{svg(chart)}{_table(figures(chart))}</figure>"


def _table(table: Table) -> str:
    """The table, whose rows become cards where the page is narrow; roles keep it a table for a screen reader then."""
    headings = [markup.html(heading) for heading in table.headings]
    named = [
        f'<th scope="col" role="columnheader">{heading}</th>' if heading else '<td role="cell"></td>'
        for heading in headings
    ]
    head = "".join(named) if any(headings) else ""
    kind = "rows" if head else "facts"
    rows = "".join(f'<tr role="row">{_cells(row, headings)}</tr>' for row in table.rows)
    top = head and f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>'
    whole = f'<table role="table" class="{kind}">{top}<tbody role="rowgroup">{rows}</tbody></table>'
    return f"<details><summary>{markup.html(table.title)}</summary>{whole}</details>" if table.title else whole


def _cells(row: Sequence[str], headings: Sequence[str]) -> str:
    first, *rest = row
    cells = [f'<th scope="row" role="rowheader">{markup.html(first)}</th>']
    for cell, heading in zip(rest, headings[1:], strict=True):
        name = f' data-name="{heading}"' if heading else ""
        cells.append(f'<td role="cell"{name}>{markup.html(cell)}</td>')
    return "".join(cells)


def _anchor(section: Section) -> str:
    return section.title.split()[0].strip(",").lower()
