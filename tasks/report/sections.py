"""The order of the report: verdict and figures first, then cause, result, cost and lineage, from records and the lake alone."""

from collections.abc import Callable

from dealrec_core.lake.nights import Night
from tasks.report import cause, result, summary
from tasks.report.account import Account, account
from tasks.report.cost import cost
from tasks.report.lineage import lineage
from tasks.report.parts import Section, Summary

SECTIONS: dict[str, Callable[[Account], Section]] = {
    "ingest": cause.incoming,
    "influence": cause.scores,
    "effort": cause.scores,
    "coreset": cause.coreset,
    "surrogate": cause.surrogate,
    "evaluation": result.compared,
    "promotion": result.verdict,
    "fine_tune": cost,
}
"""The section that tells of a stage, in the order of the page."""


def top(night: Night) -> Summary:
    """The verdict, five figures and the trend of a night."""
    return summary.of_night(account(night))


def sections(night: Night) -> list[Section]:
    """Every section for which the night has a record, in the order of the page."""
    known = account(night)
    built = {build: build(known) for stage, build in SECTIONS.items() if night.find(stage) is not None}
    return [*built.values(), lineage(known)]


def section(night: Night, stage: str) -> Section | None:
    """The section of a finished stage, None for a stage without one."""
    build = SECTIONS.get(stage)
    return build(account(night)) if build and night.find(stage) is not None else None
