"""Small charts as SVG text: no library, no script, readable in light and dark pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks import markup

WIDTH, LABEL, ROW, TALL = 660, 170, 24, 170
COLOURS = ("var(--first)", "var(--second)", "var(--third)")


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
    """Values side by side, longest label left; values and intervals start at 0."""

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


def svg(chart: Chart) -> str:
    """The chart as an SVG element."""
    if isinstance(chart, Bars):
        return _bars(chart)
    return _columns(chart) if isinstance(chart, Columns) else _lines(chart)


def _bars(chart: Bars) -> str:
    longest = max([bar.high or bar.value for bar in chart.bars] + [0.0]) or 1.0
    room = WIDTH - LABEL - 90
    parts = []
    for number, bar in enumerate(chart.bars):
        top, length = number * ROW, _length(bar.value, longest, room)
        colour = COLOURS[0] if bar.marked else COLOURS[2]
        parts.append(_text(LABEL - 8, top + 16, bar.label, anchor="end"))
        parts.append(f'<rect x="{LABEL}" y="{top + 4}" width="{length:.1f}" height="{ROW - 9}" fill="{colour}"/>')
        end = length
        if bar.low is not None and bar.high is not None:
            start, end = (_length(value, longest, room) for value in (bar.low, bar.high))
            line = f"M{LABEL + start:.1f} {top + ROW / 2}H{LABEL + end:.1f}"
            parts.append(f'<path d="{line}" stroke="currentColor" stroke-width="1.5"/>')
        parts.append(_text(LABEL + max(length, end) + 6, top + 16, chart.form.format(bar.value)))
    return _figure(chart.title, parts, height=len(chart.bars) * ROW + 4)


def _columns(chart: Columns) -> str:
    wholes = {name: sum(counts) or 1.0 for name, counts in chart.series.items()}
    shares = {name: [count / wholes[name] for count in counts] for name, counts in chart.series.items()}
    tallest = max(max(values) for values in shares.values()) or 1.0
    step = WIDTH / (len(chart.edges) - 1)
    width = step / len(shares) - 1
    parts = []
    for place, (name, values) in enumerate(shares.items()):
        for number, share in enumerate(values):
            height = share / tallest * TALL
            x = number * step + place * (width + 1)
            tip = f"{name}: {share:.1%} between {chart.edges[number]:.4g} and {chart.edges[number + 1]:.4g}"
            parts.append(
                f'<rect x="{x:.1f}" y="{TALL - height:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}"'
                f' fill="{COLOURS[place % 3]}"><title>{markup.html(tip)}</title></rect>'
            )
    parts += _ends(f"{chart.edges[0]:.3g}", f"{chart.edges[-1]:.3g}")
    return _figure(chart.title, parts, height=TALL + 20, legend=list(shares))


def _lines(chart: Lines) -> str:
    values = [value for points in chart.series.values() for value in points if value is not None]
    top = max(values, default=1.0) or 1.0
    step = (WIDTH - 40) / max(1, len(chart.labels) - 1)
    parts = [f'<path d="M0 {TALL}H{WIDTH}" stroke="currentColor" stroke-opacity=".3"/>', _text(0, 12, f"{top:.4g}")]
    for place, (name, points) in enumerate(chart.series.items()):
        colour = COLOURS[place % 3]
        dots = [
            (20 + number * step, TALL - value / top * (TALL - 20), label, value)
            for number, (label, value) in enumerate(zip(chart.labels, points, strict=True))
            if value is not None
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, *_ in dots)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y, label, value in dots:
            tip = markup.html(f"{name}, {label}: {value:.4g}")
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"><title>{tip}</title></circle>')
    parts += _ends(chart.labels[0], chart.labels[-1])
    return _figure(chart.title, parts, height=TALL + 20, legend=list(chart.series))


def _length(value: float, longest: float, room: float) -> float:
    return max(0.0, value) / longest * room


def _text(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{markup.html(text)}</text>'


def _ends(first: str, last: str) -> list[str]:
    return [_text(0, TALL + 16, first), _text(WIDTH, TALL + 16, last, anchor="end")]


def _figure(title: str, parts: Sequence[str], *, height: float, legend: Sequence[str] = ()) -> str:
    marks = "".join(
        f'<span class="mark" style="background:{COLOURS[number % 3]}"></span>{markup.html(name)} '
        for number, name in enumerate(legend)
    )
    drawing = (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{markup.html(title)}">{"".join(parts)}</svg>'
    )
    return f"<figure><figcaption>{markup.html(title)} <small>{marks}</small></figcaption>{drawing}</figure>"
