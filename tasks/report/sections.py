"""The report of a night, section by section, from its records and the lake alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from dealrec_core import schema
from dealrec_core.evaluation import comparison
from dealrec_core.lake import promotions
from dealrec_core.lake.nights import Fact, Night, Snapshot
from dealrec_core.settings import Config
from tasks.report.charts import Bar, Bars, Chart, Columns, Lines

BINS = 24
NIGHTS_SHOWN = 30


@dataclass(frozen=True)
class Table:
    """Rows of text below their headings."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """One part of the report: a sentence that says what to see, then figures and charts."""

    title: str
    lead: str
    tables: Sequence[Table] = field(default_factory=tuple)
    charts: Sequence[Chart] = field(default_factory=tuple)


def sections(night: Night) -> list[Section]:
    """Every section for which the night has a record, in the order of the stages."""
    account = _account(night)
    built = {build: build(account) for stage, build in SECTIONS.items() if night.find(stage) is not None}
    return [*built.values(), _time(account), _lineage(account)]


def section(night: Night, stage: str) -> Section | None:
    """The section of a finished stage, None for a stage without one."""
    build = SECTIONS.get(stage)
    return build(_account(night)) if build and night.find(stage) is not None else None


@dataclass(frozen=True)
class _Account:
    """A night, and its day and those of the nights opened before it, oldest first."""

    night: Night
    lately: list[tuple[str, Night]]

    def rows(self, stage: str) -> pl.DataFrame:
        """The rows of a finished stage's table that are about this night."""
        record = self.night.need(stage)
        table = self.night.scan(str(record.table), record.version)
        return table.filter(pl.col(schema.NIGHT) == self.night.name).collect()

    def records(self, stage: str) -> list[tuple[str, Snapshot]]:
        """The record of a stage, night by night, of the nights that have one."""
        records = ((label, night.find(stage)) for label, night in self.lately)
        return [(label, record) for label, record in records if record is not None]

    def lines(self, title: str, stage: str, facts: dict[str, str]) -> Lines:
        """One line for each of these facts of a stage, by the names on the chart, night by night."""
        records = self.records(stage)
        points = {name: [_number(record.facts.get(fact)) for _, record in records] for name, fact in facts.items()}
        return Lines(title, [label for label, _ in records], points)


def _account(night: Night) -> _Account:
    return _Account(night, [(str(shown.day), shown) for shown in [*night.earlier, night][-NIGHTS_SHOWN:]])


def _incoming(account: _Account) -> Section:
    ingested = account.night.need("ingest")
    reasons = _quarantine_reasons(account.night, ingested)
    quarantined = [Table(["quarantined because", "rows"], reasons)] if reasons else []
    return Section(
        "What came in",
        f"{ingested.rows or 0:,} new rows, {ingested.facts['quarantined']} in quarantine, {ingested.facts['postponed']} "
        f"postponed because they are later than {account.night.day}.",
        [_facts(ingested), *quarantined],
        [account.lines("New rows, night by night", "ingest", {"rows new": "rows new"})],
    )


def _surrogate(account: _Account) -> Section:
    record, name = account.night.need("surrogate"), "validation ndcg@10"
    started = "from scratch" if record.facts.get("started from") == "scratch" else "from last night's weights"
    forced = record.facts.get("full retrain")
    started += f" (a full retrain was {forced})" if str(forced).startswith("forced") else ""
    return Section(
        "Surrogate",
        f"Trained {started}; {name} {record.facts[name]}.",
        [_facts(record)],
        [account.lines(f"Drift: {name}, night by night", "surrogate", {name: name})],
    )


def _scores(account: _Account) -> Section:
    influence, effort = account.night.find("influence"), account.night.find("effort")
    records = [record for record in (influence, effort) if record is not None]
    chosen = account.rows("coreset") if account.night.find("coreset") else None
    series: dict[str, pl.Series] = {}
    lead = f"{int(_number(records[0].facts['samples']) or 0):,} samples scored."
    if influence is not None:
        series[schema.INFLUENCE] = account.rows("influence")[schema.INFLUENCE]
        lead += f" {influence.facts['share positive']:.0%} have a positive influence."
    if effort is not None:
        efforts = account.night.scan("efforts", effort.version)
        series[schema.EFFORT] = efforts.filter(pl.col(schema.MODEL) == effort.facts["model"]).collect()[schema.EFFORT]
    charts = [
        _distribution(name.capitalize(), {"all samples": values} | ({} if chosen is None else {"chosen": chosen[name]}))
        for name, values in series.items()
    ]
    return Section("Scores", lead, [_facts(record) for record in records], charts)


def _coreset(account: _Account) -> Section:
    record, chosen = account.night.need("coreset"), account.rows("coreset")
    groups = chosen.group_by(schema.GROUP).len().sort(schema.GROUP)
    largest = groups.sort("len", descending=True).head(20)
    bars = [Bar(f"group {row[schema.GROUP]}", row["len"]) for row in largest.iter_rows(named=True)]
    charts: list[Chart] = [
        _distribution("Score of the chosen samples", {"chosen": chosen[schema.SCORE]}),
        Bars("Chosen samples per group (the 20 largest groups)", bars, form="{:.0f}"),
    ]
    return Section(
        "Coreset",
        f"{record.rows or 0:,} samples chosen by '{record.facts['method']}', from {len(groups)} groups.",
        [_facts(record)],
        charts,
    )


def _cost(account: _Account) -> Section:
    tuned = account.night.need("fine_tune")
    learnt = int(_number(tuned.facts["examples"]) or 1)
    train = int(_number(account.night.need("samples").facts["train"]) or 1)
    scale = train / learnt
    tokens = float(_number(tuned.facts.get("tokens")) or 0)
    choices = [account.night.find(stage) for stage in ("influence", "effort", "coreset")]
    choosing = sum(record.seconds for record in choices if record)
    gpu = f"{tuned.seconds / 60:.1f}" if tuned.device == "cuda" else "0 (no GPU was used)"
    rows = [
        ["samples", f"{learnt:,}", f"{train:,}"],
        ["tokens", f"{tokens:,.0f}", f"{tokens * scale:,.0f}"],
        ["seconds of fine-tuning", f"{tuned.seconds:,.1f}", f"{tuned.seconds * scale:,.1f}"],
        ["seconds of choosing", f"{choosing:,.1f}", "0"],
        ["GPU minutes of fine-tuning", gpu, ""],
    ]
    whole = tuned.seconds + choosing
    share = whole / (tuned.seconds * scale) if tuned.seconds else 1.0
    bars = [Bar("tonight", whole, marked=True), Bar("all samples (estimate)", tuned.seconds * scale)]
    return Section(
        "Cost",
        f"Choosing and tuning took {whole:.1f} s, {share:.0%} of what tuning on all {train:,} samples would take "
        "(in proportion to tonight's fine-tuning).",
        [Table(["", "tonight", "all samples (estimate)"], rows), _facts(tuned)],
        [Bars("Seconds", bars, "{:,.1f}")],
    )


def _comparison(account: _Account) -> Section:
    record, frame, config = account.night.need("evaluation"), account.rows("evaluation"), account.night.config
    metric, k = config.gate.metric, config.evaluation.k
    by_recommender = frame.partition_by("recommender", as_dict=True).items()
    bars = [_bar(str(name), values[metric].to_numpy(), config) for (name,), values in by_recommender]
    bars.sort(key=lambda bar: -bar.value)
    means = frame.group_by("recommender").agg(pl.col("recall", "ndcg", "mrr").mean()).sort(metric, descending=True)
    rows = [[str(name), *(f"{value:.4f}" for value in rest)] for name, *rest in means.iter_rows()]
    names = [name for name in ("candidate", "champion", "surrogate") if f"{name} recall" in record.facts]
    series = {name: f"{name} recall" for name in names}
    tried, tests = _tests(account)
    return Section(
        "Candidate, champion and baselines",
        f"{record.facts['users']} held-out users, full ranking, {metric}@{k} with 95% intervals; best: {bars[0].label}.",
        [Table(["", f"recall@{k}", f"ndcg@{k}", f"mrr@{k}"], rows), tests],
        [
            Bars(f"{metric}@{k}", bars),
            account.lines(f"recall@{k}, night by night (each night has its own users)", "evaluation", series),
            tried,
        ],
    )


def _tests(account: _Account) -> tuple[Lines, Table]:
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
    shown = ("role", schema.MODEL, "users", "recall", "value", "against", "opponent", "evidence")
    rows = [
        [
            days[row[schema.NIGHT]],
            *(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in map(row.get, shown)),
        ]
        for row in ordered.reverse().iter_rows(named=True)
    ]
    title = "Recall on events before anything learnt them, night by night"
    return Lines(title, [days[name] for name in names] or [""], series), Table(["tested on", *shown], rows)


def _verdict(account: _Account) -> Section:
    record = account.night.need("promotion")
    decided = promotions.decisions(account.night.lake).reverse().head(20)
    texts = decided.with_columns(pl.col("at").dt.strftime("%Y-%m-%d %H:%M"))
    rows = texts.select("at", "action", "version", schema.NIGHT, "who", schema.REASON).rows()
    return Section(
        "Verdict",
        f"Version {record.facts['version']}: {record.facts['reason']}",
        [Table(["when", "what", "version", "night", "who", "why"], rows), _facts(record)],
    )


def _time(account: _Account) -> Section:
    bars = [Bar(record.stage.replace("_", " "), record.seconds) for record in account.night.snapshots()]
    return Section("Time", f"{sum(bar.value for bar in bars):.1f} s in stages.", (), [Bars("Seconds", bars, "{:,.2f}")])


def _lineage(account: _Account) -> Section:
    manifest = account.night.manifest
    opened = [
        ["opened", f"{manifest.opened_at:%Y-%m-%d %H:%M:%S} UTC"],
        ["code", manifest.code[:16]],
        ["commit", manifest.commit or "none"],
        ["champion at the start", f"version {manifest.champion.version}" if manifest.champion else "none"],
        ["seed", str(manifest.settings.run.seed)],
    ]
    places = []
    for record in account.night.snapshots():
        place = record.path or f"table {record.table}, version {record.version}"
        places.append([record.stage, place, (record.sha256 or "")[:16], str(record.rows or "")])
    return Section(
        "Lineage",
        "The inputs that were fixed when the night opened, and everything that its stages made.",
        [Table(["", ""], opened), Table(["stage", "made", "sha256", "rows"], places)],
    )


SECTIONS: dict[str, Callable[[_Account], Section]] = {
    "ingest": _incoming,
    "surrogate": _surrogate,
    "influence": _scores,
    "effort": _scores,
    "coreset": _coreset,
    "fine_tune": _cost,
    "evaluation": _comparison,
    "promotion": _verdict,
}


def _facts(snapshot: Snapshot) -> Table:
    return Table(["", ""], [[name, _shown(value)] for name, value in snapshot.facts.items()])


def _shown(value: Fact) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:,}" if isinstance(value, int) else str(value)


def _number(value: Fact) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _quarantine_reasons(night: Night, ingested: Snapshot) -> list[list[str]]:
    version, before = _number(ingested.facts.get("quarantine version")), night.manifest.versions.get("quarantine", -1)
    if version is None or version < 0 or version == before:
        return []
    now = night.scan("quarantine", int(version)).group_by(schema.REASON).len("rows").collect()
    if before >= 0:
        then = night.scan("quarantine", before).group_by(schema.REASON).len("before").collect()
        new = pl.col("rows") - pl.col("before").fill_null(0).cast(pl.UInt32)
        now = now.join(then, on=schema.REASON, how="left").with_columns(new)
    counts = now.filter(pl.col("rows") > 0).sort("rows", schema.REASON, descending=[True, False])
    return [[row[schema.REASON], f"{row['rows']:,}"] for row in counts.iter_rows(named=True)]


def _distribution(title: str, series: dict[str, pl.Series]) -> Columns:
    """Bins between the 1st and the 99th percentile of the first series; what lies outside counts in the outer bins."""
    first = next(iter(series.values())).drop_nulls().to_numpy()
    if not len(first):
        return Columns(title, [0.0, 1.0], {name: [0.0] for name in series})
    low, high = np.quantile(first, [0.01, 0.99])
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    counts = {
        name: np.histogram(np.clip(values.drop_nulls().to_numpy(), edges[0], edges[-1]), edges)[0].tolist()
        for name, values in series.items()
    }
    return Columns(title, edges.tolist(), counts)


def _bar(name: str, values: np.ndarray, config: Config) -> Bar:
    zeros, resamples = np.zeros_like(values), config.gate.resamples
    interval = comparison.difference(values, zeros, resamples=resamples, seed=config.run.seed)
    return Bar(name, interval.mean, interval.low, interval.high, marked=name in ("candidate", "champion"))
