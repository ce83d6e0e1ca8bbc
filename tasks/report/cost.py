"""The cost of a night in full, beside an estimate of what tuning on all samples would have cost."""

from dealrec_core.lake.nights import Night
from tasks.forecast import forecast
from tasks.report.account import Account, duration, facts, number
from tasks.report.parts import Bar, Bars, Section, Table

PARTS = {
    "reading the log, making samples": ("ingest", "samples"),
    "training the surrogate": ("surrogate",),
    "providing the base model": ("base_model",),
    "scoring and choosing": ("influence", "effort", "coreset"),
    "tuning": ("fine_tune",),
    "tuning on with the newest days": ("refit",),
    "evaluation": ("evaluation",),
    "registration and verdict": ("promotion",),
}
"""Parts of a night's time, and the stages that belong to each."""
ONLY_TO_CHOOSE = {"scoring and choosing", "training the surrogate"}
"""Parts that a night without a choice would not need. (Without a surrogate, such a night would lack a baseline.)"""
SCALED = {"tuning", "tuning on with the newest days"}


def spent(night: Night) -> dict[str, float]:
    """Seconds of each part of the night, of the stages that have a record."""
    seconds = {record.stage: record.seconds for record in night.snapshots()}
    parts = {part: [seconds[stage] for stage in stages if stage in seconds] for part, stages in PARTS.items()}
    return {part: sum(times) for part, times in parts.items() if times}


def cost(account: Account) -> Section:
    """The seconds of every part tonight, as measured, and what they would be with all samples, which is extrapolated."""
    tuned, parts = account.night.need("fine_tune"), spent(account.night)
    learnt = int(number(tuned.facts["examples"]) or 1)
    train = int(number(account.night.need("samples").facts["train"]) or 1)
    scale = train / learnt
    whole = {
        part: 0.0 if part in ONLY_TO_CHOOSE else seconds * (scale if part in SCALED else 1.0)
        for part, seconds in parts.items()
    }
    total, estimate = sum(parts.values()), sum(whole.values())
    rows = [
        [part, duration(seconds), "not needed" if part in ONLY_TO_CHOOSE else _estimate(whole[part], part)]
        for part, seconds in parts.items()
    ]
    tokens = number(tuned.facts.get("tokens")) or 0.0
    rows += [
        ["all parts", duration(total), f"{duration(estimate)}, extrapolated"],
        ["samples tuned on", f"{learnt:,}", f"{train:,}"],
        ["tokens tuned on", f"{tokens:,.0f}", f"{tokens * scale:,.0f}, extrapolated"],
    ]
    if tuned.device == "cuda":
        rows.append(
            ["GPU minutes of tuning", f"{tuned.seconds / 60:.1f}", f"{tuned.seconds * scale / 60:.1f}, extrapolated"]
        )
    share = total / estimate if estimate else 1.0
    bars = [Bar(part, seconds, marked=part in ONLY_TO_CHOOSE) for part, seconds in parts.items()]
    return Section(
        "Cost",
        f"The stages took {duration(total)}. A night that tunes on all {train:,} samples instead of {learnt:,} would take about "
        f"{duration(estimate)}, so tonight cost {share:.0%} of that. This estimate is extrapolated: tuning is scaled by the number of "
        "samples, and everything else stays as it was measured tonight.",
        [Table(["", "tonight, measured", "all samples"], rows), _foretold(account.night), facts(tuned)],
        [Bars("Seconds of each part; the choice of samples is marked", bars, "{:,.1f}")],
    )


def _foretold(night: Night) -> Table:
    """The seconds of every stage, as `dealrec plan` estimates them before the night and as they were."""
    ahead = forecast(night.config, night.earlier, night.need("ingest").rows or 0)
    rows = [
        [record.stage.replace("_", " "), duration(before), duration(record.seconds)]
        for record in night.snapshots()
        if (before := ahead.seconds.get(record.stage)) is not None
    ]
    by = "earlier nights" if ahead.by else "nights on other logs"
    return Table(
        ["stage", f"estimated by {by}", "measured"], rows, "Time of every stage, as estimated before the night"
    )


def _estimate(seconds: float, part: str) -> str:
    return f"{duration(seconds)}, extrapolated" if part in SCALED else duration(seconds)
