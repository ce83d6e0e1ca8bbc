"""The result of a night: its model beside the others, the gate's verdict, and what happened to models before."""

import polars as pl

from dealrec_core import schema
from dealrec_core.lake import promotions
from tasks.report.account import Account, facts
from tasks.report.parts import Bar, Bars, Lines, Section, Table

OURS = ("candidate", "champion")


def compared(account: Account) -> Section:
    """Candidate, champion and baselines on the same held-out users, with intervals."""
    record, config = account.night.need("evaluation"), account.night.config
    metric, values = f"{config.gate.metric}@{config.evaluation.k}", account.values
    bars = []
    for name, own in values.items():
        interval = account.difference(own, 0 * own)
        bars.append(Bar(name, interval.mean, interval.low, interval.high, marked=name in OURS))
    bars.sort(key=lambda bar: -bar.value)
    means = account.rows("evaluation").group_by("recommender").agg(pl.col("recall", "ndcg", "mrr").mean())
    rows = [
        [str(name), *(f"{value:.4f}" for value in rest)]
        for name, *rest in means.sort(config.gate.metric, descending=True).iter_rows()
    ]
    tried, tests = _tests(account)
    return Section(
        "Candidate, champion and baselines",
        f"{record.facts['users']} held-out users, full ranking, {metric} with 95% intervals; best: {bars[0].label}.",
        [
            Table(["recommender", *(f"{name}@{config.evaluation.k}" for name in ("recall", "ndcg", "mrr"))], rows),
            tests,
            facts(record),
        ],
        [Bars(f"{metric} of each recommender", bars), *_changes(account, metric), tried],
    )


def _changes(account: Account, metric: str) -> list[Bars]:
    """The paired change of every recommender against the champion, or while there is none against the candidate."""
    values = account.values
    against = "champion" if "champion" in values else "candidate"
    changes = []
    for name, own in values.items():
        if name != against:
            interval = account.difference(own, values[against])
            changes.append(Bar(name, interval.mean, interval.low, interval.high, marked=name == "candidate"))
    changes.sort(key=lambda bar: -bar.value)
    return [Bars(f"Change of {metric} against the {against}", changes, "{:+.4f}")] if changes else []


def _tests(account: Account) -> tuple[Lines, Table]:
    """Test, then train: how each model did on events that no model had learnt, night by night."""
    days = {night.name: label for label, night in account.lately}
    known = account.night.lake.rows("trials", schema.TRIALS).filter(pl.col(schema.NIGHT).is_in(list(days)))
    ordered = known.sort("through", schema.NIGHT, "role")
    names = ordered[schema.NIGHT].unique(maintain_order=True).to_list()
    series = {
        role: [values.get(name) for name in names]
        for (role,), part in sorted(ordered.partition_by("role", as_dict=True).items())
        if (values := dict(part.select(schema.NIGHT, "recall").iter_rows()))
    }
    headings = ("role", schema.MODEL, "users", "recall", "value", "against", "opponent", "evidence")
    rows = [
        [
            days[row[schema.NIGHT]],
            *(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in map(row.get, headings)),
        ]
        for row in ordered.reverse().iter_rows(named=True)
    ]
    title = "Recall on new events, before a model learnt them"
    table = Table(["tested on", *headings], rows, "All tests on new events, night by night")
    return Lines(title, [days[name] for name in names] or [""], series), table


def verdict(account: Account) -> Section:
    """The gate's verdict in its own words, and the decisions about models so far."""
    record = account.night.need("promotion")
    decided = promotions.decisions(account.night.lake).reverse().head(20)
    texts = decided.with_columns(pl.col("at").dt.strftime("%Y-%m-%d %H:%M"))
    rows = texts.select("at", "action", "version", schema.NIGHT, "who", schema.REASON).rows()
    chosen = account.night.need("coreset").facts
    random = f" Coreset: {chosen['comparison']}." if "comparison" in chosen else ""
    return Section(
        "Verdict",
        f"Version {record.facts['version']}: {record.facts['reason']}{random}",
        [
            Table(["when", "what", "version", "night", "who", "why"], rows, "The last decisions about models"),
            facts(record),
        ],
    )
