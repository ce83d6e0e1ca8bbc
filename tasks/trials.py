"""Tests of the champion and its challengers on tonight's held-out users, before a model learns from them."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from dealrec_core import schema
from dealrec_core.evaluation import gate, metrics
from dealrec_core.evaluation.gate import CHAMPION, Trial
from dealrec_core.evaluation.slices import slices
from tasks.tonight import Tonight

CANDIDATE, SHADOW = "candidate", "shadow"
TABLE = "trials"
Lists = Mapping[str, Sequence[Sequence[str]]]


def shadow(tonight: Tonight) -> Trial | None:
    """The last trial of the challenger that stayed as shadow of tonight's champion, None where none did."""
    before = _before(tonight)
    finished = {
        night.name for night in tonight.night.earlier if night.find("promotion")
    }  # the others were killed, and have no version
    last = [trial for trial in before if trial.through == before[-1].through and trial.role != CHAMPION]
    last = [trial for trial in last if trial.model in finished]
    ahead = [trial for trial in last if trial.evidence > 1]
    return gate.best(ahead, tonight.config.gate) if ahead else None


def trials(tonight: Tonight, lists: Lists) -> list[Trial]:
    """Tonight's trials: the candidate on the whole held-out slice, champion and shadow on what is new in it.

    lists: of every recommender for tonight's cases, by name. New is what no night has judged this champion on. The candidate has
    learnt nothing of the slice and was never judged, so all of it is new to the candidate.
    """
    bounds, before = tonight.boundaries, _before(tonight)
    number = gate.next_number(before) if CHAMPION in lists else 0
    whole = _judged(tonight, lists, CANDIDATE, tonight.night.name, number=number, since=bounds.test_start)
    if CHAMPION not in lists:
        return [whole]
    champion = tonight.night.manifest.champion
    assert champion is not None
    since = max([bounds.test_start, *(trial.through for trial in before)])
    last = shadow(tonight) if SHADOW in lists else None
    if tonight.cases_since(since).is_empty():  # the shadow's evidence stays what it was
        return [*([last.model_copy(update={"role": SHADOW, "through": bounds.end})] if last else []), whole]
    record = _judged(tonight, lists, CHAMPION, champion.night, number=0, since=since)
    again = [_judged(tonight, lists, SHADOW, last.model, number=last.number, since=since, before=last)] if last else []
    return [record, *again, whole]


def tonights(tonight: Tonight) -> list[Trial]:
    """Tonight's trials as the stage `evaluation` has recorded them."""
    version = tonight.night.need("evaluation").facts["trials version"]
    table = tonight.night.scan(TABLE, int(str(version)))
    return read(table.filter(pl.col(schema.NIGHT) == tonight.night.name).collect())


def frame(found: Sequence[Trial]) -> pl.DataFrame:
    """Trials as rows of their table, without the night."""
    rows = [{**trial.model_dump(), "slices": json.dumps(trial.slices), "evidence": trial.evidence} for trial in found]
    return pl.DataFrame(rows, schema={name: kind for name, kind in schema.TRIALS.items() if name != schema.NIGHT})


def read(rows: pl.DataFrame) -> list[Trial]:
    """Trials from rows of their table, oldest first."""
    ordered = rows.sort("through", schema.NIGHT, "role").drop(schema.NIGHT, "evidence").iter_rows(named=True)
    return [Trial.model_validate({**row, "slices": json.loads(row["slices"])}) for row in ordered]


def _before(tonight: Tonight) -> list[Trial]:
    """The trials against tonight's champion of the nights before, oldest first."""
    version, champion = tonight.night.manifest.versions.get(TABLE, -1), tonight.night.manifest.champion
    if version < 0 or champion is None:
        return []
    table = tonight.night.scan(TABLE, version).filter(pl.col("champion") == champion.version)
    return read(table.collect())


def _judged(
    tonight: Tonight, lists: Lists, role: str, model: str, *, number: int, since: datetime, before: Trial | None = None
) -> Trial:
    """The trial of one model on what the held-out users took since a moment."""
    config, champion = tonight.config, tonight.night.manifest.champion
    cases = tonight.cases if since == tonight.boundaries.test_start else tonight.cases_since(since)
    rows = tonight.cases[schema.USER_ID].is_in(cases[schema.USER_ID].implode()).arg_true().to_list()
    targets: list[list[str]] = cases["targets"].to_list()
    metric, depth = getattr(metrics, config.gate.metric), config.gate.depth
    values = {
        name: metric([ranking[row] for row in rows], targets, k=depth)
        for name, ranking in lists.items()
        if name in {role, CHAMPION, *config.gate.first_beats}
    }
    against = gate.opponent({name: float(found.mean()) for name, found in values.items()}, config.gate)
    recall = metrics.recall([lists[role][row] for row in rows], targets, k=config.evaluation.k)
    tried = {
        "role": role,
        "model": model,
        "champion": champion.version if champion is not None and CHAMPION in lists else "",
        "against": against,
        "number": number,
        "since": since,
        "through": tonight.boundaries.end,
        "recall": float(recall.mean()),
    }
    groups = slices(cases, tonight.item_counts)
    return gate.summed(
        tried, values[role], values[against], config=config.gate, seed=config.run.seed, slices=groups, before=before
    )
