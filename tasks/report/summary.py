"""The top of the report: the verdict, five figures and how the last nights went; and the same for several nights at once."""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from dealrec_core.lake import promotions
from dealrec_core.lake.nights import Night, reopen
from tasks.report.account import Account, duration, number
from tasks.report.cost import spent
from tasks.report.outcome import outcome
from tasks.report.parts import Chart, Lines, Section, Summary, Table, Tile

NONE = "none"
OUTCOMES = 14
"""Nights whose outcomes stand below the trend."""


def of_night(account: Account) -> Summary:
    """The top of one night's page."""
    night, known = account.night, outcome(account.night)
    return Summary(
        f"Night of {night.day:%-d %B %Y}",
        known.word,
        known.sentence,
        [_new_rows([night]), _coreset([night]), _judged(night), _champion(night), _time([night])],
        _trends(account),
        _outcomes(account),
    )


def of_nights(nights: Sequence[Night]) -> Summary:
    """The top of a page about several nights, oldest first."""
    counts = Counter(outcome(night).word for night in nights)
    parts = ", ".join(f"{count} {word.lower()}" for word, count in counts.most_common())
    shown = Account(nights[-1], [(str(night.day), night) for night in nights])
    return Summary(
        f"Nights of {nights[0].day:%-d %B} to {nights[-1].day:%-d %B %Y}",
        f"{len(nights)} nights",
        f"{parts[:1].upper()}{parts[1:]}.",
        [_new_rows(nights), _coreset(nights), _recall(nights), _champion(nights[-1]), _time(nights)],
        _trends(shown),
        _outcomes(shown),
    )


def list_of(nights: Sequence[Night], *, below: str | None) -> Section:
    """One line a night, the newest first. below: the night that the other sections are about."""
    rows = []
    for night in reversed(nights):
        known, ingested = outcome(night), night.find("ingest")
        seconds = sum(spent(night).values())
        rows.append(
            [night.name, known.word, f"{ingested.rows or 0:,}" if ingested else "", duration(seconds), known.sentence]
        )
    return Section(
        "Night by night",
        "The newest night is the first." + (f" The sections below are about night {below}." if below else ""),
        [Table(["night", "outcome", "new rows", "time", "why"], rows)],
    )


def _new_rows(nights: Sequence[Night]) -> Tile:
    records = [record for night in nights if (record := night.find("ingest"))]
    bad = sum(int(number(record.facts.get("quarantined")) or 0) for record in records)
    return Tile("new rows", f"{sum(record.rows or 0 for record in records):,}", f"{bad:,} in quarantine")


def _coreset(nights: Sequence[Night]) -> Tile:
    chosen = [night for night in nights if night.find("coreset")]
    rows = sum(night.need("coreset").rows or 0 for night in chosen)
    train = sum(int(number(night.need("samples").facts["train"]) or 0) for night in chosen)
    return Tile("samples chosen", f"{rows:,}", f"{rows / train:.1%} of {train:,}" if train else NONE)


def _judged(night: Night) -> Tile:
    """The figure that decided, and recall, which the chart of all nights shows."""
    recall, promotion = _recall([night]), night.find("promotion")
    if promotion is None or promotion.facts["winner"] != night.name:
        return recall
    facts = promotion.facts
    own, other = (float(number(facts[name]) or 0) for name in ("candidate", "incumbent"))
    note = f"{facts['against']} {other:.3f}; recall@{night.need('evaluation').facts['k']} {recall.value}"
    return Tile(f"{facts['metric']} of the candidate", f"{own:.3f}", note)


def _recall(nights: Sequence[Night]) -> Tile:
    records = [record for night in nights if (record := night.find("evaluation"))]
    records = [record for record in records if "champion recall" in record.facts] or records  # the same users for both
    if not records:
        return Tile("recall of the candidate", NONE, "no model was judged")
    k = records[-1].facts["k"]
    candidate, champion = (
        [value for record in records if (value := number(record.facts.get(f"{name} recall"))) is not None]
        for name in ("candidate", "champion")
    )
    note = f"champion {fmean(champion):.3f}" if champion else "no champion before"
    mean = "mean " if len(records) > 1 else ""
    return Tile(f"{mean}recall@{k} of the candidate", f"{fmean(candidate):.3f}", note)


def _champion(night: Night) -> Tile:
    promotion = night.find("promotion")
    if promotion is None:
        champion = night.manifest.champion
        return Tile("champion", f"version {champion.version}" if champion else NONE, "as before the night")
    version = promotion.facts["champion"]
    if version is None:
        return Tile("champion", NONE, "no model has been promoted yet")
    decided = promotions.decisions(night.lake).filter(version=str(version), action=promotions.PROMOTED)
    made = f"made on {reopen(decided['night'][-1], night.lake).day:%-d %B}" if decided.height else ""
    return Tile("champion", f"version {version}", made)


def _time(nights: Sequence[Night]) -> Tile:
    parts = [spent(night) for night in nights]
    total = sum(sum(part.values()) for part in parts)
    longest = max(
        (name for part in parts for name in part),
        key=lambda name: sum(part.get(name, 0) for part in parts),
        default=NONE,
    )
    return Tile("time of all stages", duration(total), f"longest: {longest}")


def _outcomes(account: Account) -> list[tuple[str, str]]:
    return [(f"{night.day:%-d %b}", outcome(night).word) for _, night in account.lately[-OUTCOMES:]]


def _trends(account: Account) -> list[Chart]:
    k = account.night.config.evaluation.k
    names = {name: f"{name} recall" for name in ("candidate", "champion", "surrogate")}
    title = f"Recall@{k}, night by night"
    times = [(label, sum(spent(night).values()) / 60) for label, night in account.lately]
    recall = account.lines(title, "evaluation", names)
    minutes = Lines("Minutes of each night", [label for label, _ in times], {"minutes": [value for _, value in times]})
    return [*([recall] if recall.labels else []), minutes]
