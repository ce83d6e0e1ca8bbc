"""What a night has to tell, section by section, from its records and the lake alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from dealrec_core import schema
from dealrec_core.evaluation import comparison
from dealrec_core.lake import promotions
from dealrec_core.lake.nights import Fact, Night, Snapshot, nights
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
    built = {build: build(night) for stage, build in SECTIONS.items() if night.find(stage) is not None}
    return [*built.values(), _time(night), _lineage(night)]


def section(night: Night, stage: str) -> Section | None:
    """The section of a finished stage, None for a stage without one."""
    build = SECTIONS.get(stage)
    return build(night) if build and night.find(stage) is not None else None


def _incoming(night: Night) -> Section:
    found = night.need("ingest")
    taken = [each for each in _lately(night) if each[1].find("ingest")]
    new = [float(each.need("ingest").rows or 0) for _, each in taken]
    tables = [_facts(found)]
    reasons = _quarantine_reasons(night, found)
    if len(reasons):
        tables.append(Table(["quarantined because", "rows"], reasons))
    return Section(
        "What came in",
        f"{found.rows or 0:,} new rows, {found.facts['quarantined']} in quarantine, {found.facts['postponed']} postponed "
        f"because they are later than {night.day}.",
        tables,
        [Lines("New rows, night by night", [label for label, _ in taken], {"rows new": new})],
    )


def _surrogate(night: Night) -> Section:
    found = night.need("surrogate")
    seen = [(label, each.need("surrogate")) for label, each in _lately(night) if each.find("surrogate")]
    name = next((fact for fact in found.facts if fact.startswith("validation ndcg")), None)
    drift = [_number(each.facts.get(name)) for _, each in seen] if name else []
    started = "from scratch" if found.facts.get("started from") == "scratch" else "from last night's weights"
    forced = found.facts.get("full retrain")
    started += f" (a full retrain was {forced})" if str(forced).startswith("forced") else ""
    return Section(
        "Surrogate",
        f"Trained {started}; {name} {found.facts.get(name or '')}." if name else f"Trained {started}.",
        [_facts(found)],
        [Lines(f"Drift: {name}, night by night", [label for label, _ in seen], {str(name): drift})] if name else [],
    )


def _scores(night: Night) -> Section:
    influence = night.need("influence")
    frame = night.lake.scan("influences", influence.version).filter(pl.col(schema.NIGHT) == night.name).collect()
    facts = [_facts(influence)]
    chosen = _chosen(night)
    charts: list[Chart] = [
        _distribution("Influence", {"all samples": frame[schema.INFLUENCE]} | chosen(schema.INFLUENCE))
    ]
    effort = night.find("effort")
    if effort is not None:
        facts.append(_facts(effort))
        known = night.lake.scan("efforts", effort.version).filter(pl.col(schema.MODEL) == effort.facts["model"])
        ids = frame.select(schema.SAMPLE_ID)
        efforts = known.collect().join(ids, on=schema.SAMPLE_ID, how="semi")[schema.EFFORT]
        charts.append(_distribution("Effort", {"all samples": efforts} | chosen(schema.EFFORT)))
    lead = f"{len(frame):,} samples scored; {influence.facts['share positive']:.0%} have a positive influence."
    return Section("Scores", lead, facts, charts)


def _coreset(night: Night) -> Section:
    found = night.need("coreset")
    chosen = night.lake.scan("coresets", found.version).filter(pl.col(schema.NIGHT) == night.name).collect()
    groups = chosen.group_by(schema.GROUP).len().sort(schema.GROUP)
    charts: list[Chart] = [
        _distribution("Score of the chosen samples", {"chosen": chosen[schema.SCORE]}),
        Bars(
            "Chosen samples per group (the 20 largest groups)",
            [
                Bar(f"group {row[schema.GROUP]}", row["len"])
                for row in groups.sort("len", descending=True).head(20).iter_rows(named=True)
            ],
            form="{:.0f}",
        ),
    ]
    return Section(
        "Coreset",
        f"{found.rows or 0:,} samples chosen by '{found.facts['method']}', from {len(groups)} groups.",
        [_facts(found)],
        charts,
    )


def _cost(night: Night) -> Section:
    found, scored = night.need("fine_tune"), night.need("influence")
    chosen, train = found.rows or 1, int(_number(scored.facts["samples"]) or 1)
    scale = train / chosen
    tokens = float(_number(found.facts.get("tokens")) or 0)
    choosing = sum(each.seconds for each in night.snapshots() if each.stage in ("influence", "effort", "coreset"))
    gpu = f"{found.seconds / 60:.1f}" if found.device == "cuda" else "0 (no GPU was used)"
    rows = [
        ["samples", f"{chosen:,}", f"{train:,}"],
        ["tokens", f"{tokens:,.0f}", f"{tokens * scale:,.0f}"],
        ["seconds of fine-tuning", f"{found.seconds:,.1f}", f"{found.seconds * scale:,.1f}"],
        ["seconds of choosing", f"{choosing:,.1f}", "0"],
        ["GPU minutes of fine-tuning", gpu, ""],
    ]
    whole = found.seconds + choosing
    share = whole / (found.seconds * scale) if found.seconds else 1.0
    return Section(
        "Cost",
        f"Choosing and tuning took {whole:.1f} s, {share:.0%} of what tuning on all {train:,} samples would take "
        "(in proportion to tonight's fine-tuning).",
        [Table(["", "tonight", "all samples (estimate)"], rows), _facts(found)],
        [
            Bars(
                "Seconds",
                [Bar("tonight", whole, marked=True), Bar("all samples (estimate)", found.seconds * scale)],
                "{:,.1f}",
            )
        ],
    )


def _comparison(night: Night) -> Section:
    found = night.need("evaluation")
    metric, k = night.config.gate.metric, night.config.evaluate.k
    frame = night.lake.scan("evaluations", found.version).filter(pl.col(schema.NIGHT) == night.name).collect()
    bars = [
        _bar(str(name), values[metric].to_numpy(), night)
        for (name,), values in frame.partition_by("recommender", as_dict=True).items()
    ]
    bars.sort(key=lambda bar: -bar.value)
    means = frame.group_by("recommender").agg(pl.col("recall", "ndcg", "mrr").mean())
    rows = [
        [str(name), *(f"{value:.4f}" for value in rest)]
        for name, *rest in means.sort(metric, descending=True).iter_rows()
    ]
    seen = [(label, each.need("evaluation").facts) for label, each in _lately(night) if each.find("evaluation")]
    names = [name for name in ("candidate", "champion", "surrogate") if f"{name} recall" in found.facts]
    series = {name: [_number(facts.get(f"{name} recall")) for _, facts in seen] for name in names}
    return Section(
        "Candidate, champion and baselines",
        f"{found.facts['users']} held-out users, full ranking, {metric}@{k} with 95% intervals; best: {bars[0].label}.",
        [Table(["", f"recall@{k}", f"ndcg@{k}", f"mrr@{k}"], rows)],
        [
            Bars(f"{metric}@{k}", bars),
            Lines(f"recall@{k}, night by night (each night has its own users)", [label for label, _ in seen], series),
        ],
    )


def _verdict(night: Night) -> Section:
    found = night.need("promotion")
    decided = promotions.decisions(night.lake).sort("at", descending=True).head(20)
    rows = [
        [
            f"{row['at']:%Y-%m-%d %H:%M}",
            row["action"],
            row["version"],
            row[schema.NIGHT],
            row["who"],
            row[schema.REASON],
        ]
        for row in decided.iter_rows(named=True)
    ]
    outcome = "promoted" if found.facts["promoted"] else "rejected"
    return Section(
        "Verdict",
        f"Version {found.facts['version']} was {outcome}: {found.facts['reason']}.",
        [Table(["when", "what", "version", "night", "who", "why"], rows), _facts(found)],
    )


def _time(night: Night) -> Section:
    bars = [Bar(each.stage.replace("_", " "), each.seconds) for each in night.snapshots()]
    return Section("Time", f"{sum(bar.value for bar in bars):.1f} s in stages.", (), [Bars("Seconds", bars, "{:,.2f}")])


def _lineage(night: Night) -> Section:
    manifest = night.manifest
    opened = [
        ["opened", f"{manifest.opened_at:%Y-%m-%d %H:%M:%S} UTC"],
        ["code", manifest.code[:16]],
        ["commit", manifest.commit or "none"],
        ["champion at the start", f"version {manifest.champion.version}" if manifest.champion else "none"],
        ["seed", str(manifest.settings.run.seed)],
    ]
    left = [
        [
            each.stage,
            each.path or f"table {each.table}, version {each.version}",
            (each.sha256 or "")[:16],
            str(each.rows or ""),
        ]
        for each in night.snapshots()
    ]
    return Section(
        "Lineage",
        "What the night started from and left behind.",
        [Table(["", ""], opened), Table(["stage", "left", "sha256", "rows"], left)],
    )


SECTIONS: dict[str, Callable[[Night], Section]] = {
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


def _lately(night: Night) -> list[tuple[str, Night]]:
    """This night and those opened before it, oldest first, each with its day."""
    earlier = [each for each in nights(night.lake) if each.manifest.opened_at <= night.manifest.opened_at]
    return [(str(each.day), each) for each in earlier[-NIGHTS_SHOWN:]]


def _quarantine_reasons(night: Night, ingested: Snapshot) -> list[list[str]]:
    version, before = _number(ingested.facts.get("quarantine version")), night.manifest.versions.get("quarantine", -1)
    if version is None or version < 0 or version == before:
        return []
    now = night.lake.scan("quarantine", int(version)).group_by(schema.REASON).len("rows").collect()
    if before >= 0:
        then = night.lake.scan("quarantine", before).group_by(schema.REASON).len("before").collect()
        now = now.join(then, on=schema.REASON, how="left").with_columns(
            pl.col("rows") - pl.col("before").fill_null(0).cast(pl.UInt32)
        )
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


def _chosen(night: Night) -> Callable[[str], dict[str, pl.Series]]:
    """A column of the coreset as a second series, where there is a coreset."""
    found = night.find("coreset")
    if found is None:
        return lambda _: {}
    rows = night.lake.scan("coresets", found.version).filter(pl.col(schema.NIGHT) == night.name).collect()
    return lambda column: {"chosen": rows[column]}


def _bar(name: str, values: np.ndarray, night: Night) -> Bar:
    interval = comparison.difference(
        values, np.zeros_like(values), resamples=night.config.gate.resamples, seed=night.config.run.seed
    )
    return Bar(name, interval.mean, interval.low, interval.high, marked=name in ("candidate", "champion"))
