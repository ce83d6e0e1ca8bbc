"""The cause of a night's result: what came in, how samples were scored, what was chosen and why, with examples."""

import polars as pl

from dealrec_core import schema
from dealrec_core.lake.nights import Night, Snapshot
from tasks.report.account import Account, distribution, facts, number
from tasks.report.parts import Bar, Bars, Chart, Section, Table

EXAMPLES, TITLES = 4, 3
"""Samples shown from either end of the scores, and titles of each history: enough to see what a score likes, too few to know a person."""


def incoming(account: Account) -> Section:
    """Returns the section about new rows, and about rows that were put aside, with the reasons."""
    ingested = account.night.need("ingest")
    reasons = _quarantine_reasons(account.night, ingested)
    quarantined = [Table(["reason for quarantine", "rows"], reasons)] if reasons else []
    return Section(
        "What came in",
        f"{ingested.rows or 0:,} new rows, {ingested.facts['quarantined']} in quarantine, {ingested.facts['postponed']} "
        f"postponed because they are later than {account.night.day}.",
        [*quarantined, facts(ingested)],
        [account.lines("New rows, night by night", "ingest", {"new rows": "rows new"})],
    )


def surrogate(account: Account) -> Section:
    """Returns the section about the training of the surrogate, the small network behind the influence scores."""
    record, name = account.night.need("surrogate"), "validation ndcg@10"
    started = "from scratch" if record.facts.get("started from") == "scratch" else "from last night's weights"
    forced = record.facts.get("full retrain")
    started += f" (a full retrain was {forced})" if str(forced).startswith("forced") else ""
    return Section(
        "Surrogate",
        f"The small network was trained {started}; {name} {record.facts[name]}.",
        [facts(record)],
        [account.lines(f"Drift: {name}, night by night", "surrogate", {name: name})],
    )


def scores(account: Account) -> Section:
    """The distributions of influence and effort, of all samples and of the chosen ones."""
    influence, effort = account.night.find("influence"), account.night.find("effort")
    records = [record for record in (influence, effort) if record is not None]
    chosen = account.rows("coreset") if account.night.find("coreset") else None
    series: dict[str, pl.Series] = {}
    lead = f"{int(number(records[0].facts['samples']) or 0):,} samples were scored."
    if influence is not None:
        series[schema.INFLUENCE] = account.rows("influence")[schema.INFLUENCE]
        lead += f" {influence.facts['share positive']:.0%} have a positive influence: learning them lowers the risk."
    if effort is not None:
        efforts = account.night.scan("efforts", effort.version)
        series[schema.EFFORT] = efforts.filter(pl.col(schema.MODEL) == effort.facts["model"]).collect()[schema.EFFORT]
    charts = [
        distribution(name.capitalize(), {"all samples": values} | ({} if chosen is None else {"chosen": chosen[name]}))
        for name, values in series.items()
    ]
    return Section("Scores", lead, [facts(record) for record in records], charts)


def coreset(account: Account) -> Section:
    """Returns the section about the chosen samples, with examples of chosen samples and of others."""
    record, chosen = account.night.need("coreset"), account.rows("coreset")
    groups = chosen.group_by(schema.GROUP).len().sort(schema.GROUP)
    charts: list[Chart] = [distribution("Score of the chosen samples", {"chosen": chosen[schema.SCORE]})]
    if len(groups) > 1:
        largest = groups.sort("len", descending=True).head(12)
        bars = [Bar(f"group {row[schema.GROUP]}", row["len"]) for row in largest.iter_rows(named=True)]
        charts.append(Bars("Chosen samples per group (the 12 largest groups)", bars, form="{:.0f}"))
    train = int(number(account.night.need("samples").facts["train"]) or 1)
    return Section(
        "Coreset",
        f"{record.rows or 0:,} of {train:,} samples ({(record.rows or 0) / train:.1%}) were chosen by '{record.facts['method']}', from "
        f"{len(groups)} {'group' if len(groups) == 1 else 'groups'}. The examples show titles and no user.",
        [_examples(account, chosen), facts(record)],
        charts,
    )


def _examples(account: Account, chosen: pl.DataFrame) -> Table:
    """The chosen samples with the highest score, and where influence was computed the samples with the lowest that were not chosen."""
    rows = chosen.sort(schema.SCORE, schema.SAMPLE_ID, descending=[True, False]).head(EXAMPLES).to_dicts()
    places: dict[str, str] = {}
    if account.night.find("influence") is not None:
        ranked = account.rows("influence").sort(schema.INFLUENCE, schema.SAMPLE_ID, descending=[True, False])
        others = ranked.join(chosen, on=schema.SAMPLE_ID, how="anti", maintain_order="left").tail(EXAMPLES)
        rows += [{**row, schema.SCORE: None, schema.REASON: "not chosen"} for row in others.iter_rows(named=True)]
        place = {sample: place for place, sample in enumerate(ranked[schema.SAMPLE_ID], 1)}
        places = {sample: f"{place[sample]:,} of {len(place):,}" for sample in (row[schema.SAMPLE_ID] for row in rows)}
    night = account.night
    samples = night.scan("samples", night.need("samples").version)
    known = samples.filter(pl.col(schema.SAMPLE_ID).is_in([row[schema.SAMPLE_ID] for row in rows])).collect()
    contents = {row[schema.SAMPLE_ID]: row for row in known.iter_rows(named=True)}
    titles = _titles(night, {item for row in known.to_dicts() for item in [*row[schema.HISTORY], row[schema.ITEM_ID]]})
    cells = [
        [
            _shortened([titles.get(item, item) for item in contents[row[schema.SAMPLE_ID]][schema.HISTORY]]),
            titles.get(item := contents[row[schema.SAMPLE_ID]][schema.ITEM_ID], item),
            places.get(row[schema.SAMPLE_ID], "not computed"),
            "" if row[schema.SCORE] is None else f"{row[schema.SCORE]:.3g}",
            row[schema.REASON],
        ]
        for row in rows
        if row[schema.SAMPLE_ID] in contents
    ]
    return Table(["history", "next item", "place by influence", "score", "why"], cells)


def _shortened(titles: list[str]) -> str:
    return ("… " if len(titles) > TITLES else "") + " · ".join(titles[-TITLES:])


def _titles(night: Night, items: set[str]) -> dict[str, str]:
    version = number(night.need("ingest").facts.get("items version"))
    if version is None or version < 0:
        return {}
    rows = night.scan("items", int(version)).filter(pl.col(schema.ITEM_ID).is_in(list(items)))
    return {item: title or item for item, title in rows.select(schema.ITEM_ID, schema.TITLE).collect().iter_rows()}


def _quarantine_reasons(night: Night, ingested: Snapshot) -> list[list[str]]:
    version, before = number(ingested.facts.get("quarantine version")), night.manifest.versions.get("quarantine", -1)
    if version is None or version < 0 or version == before:
        return []
    now = night.scan("quarantine", int(version)).group_by(schema.REASON).len("rows").collect()
    if before >= 0:
        then = night.scan("quarantine", before).group_by(schema.REASON).len("before").collect()
        new = pl.col("rows") - pl.col("before").fill_null(0).cast(pl.UInt32)
        now = now.join(then, on=schema.REASON, how="left").with_columns(new)
    counts = now.filter(pl.col("rows") > 0).sort("rows", schema.REASON, descending=[True, False])
    return [[row[schema.REASON], f"{row['rows']:,}"] for row in counts.iter_rows(named=True)]
