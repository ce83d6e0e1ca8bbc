"""Compares tonight's model with the champion, the surrogate the shadow and the plain baselines on the same held-out users."""

import math
from contextlib import suppress

import polars as pl

from dealrec_core import schema
from dealrec_core.errors import OtherFormat
from dealrec_core.evaluation import ranking
from dealrec_core.evaluation.gate import CHAMPION
from dealrec_core.evaluation.ranking import Beside
from dealrec_core.lake.nights import Fact, Snapshot, reopen
from dealrec_core.recommenders import baselines, bundle
from dealrec_core.samples.recommender import Recommender
from tasks import trials
from tasks.progress import shown
from tasks.stage import stage
from tasks.tonight import Tonight
from tasks.trials import CANDIDATE, SHADOW

SURROGATE = "surrogate"


@stage("evaluation")
def evaluate_candidate(tonight: Tonight) -> Snapshot:
    """Writes recall, NDCG and MRR of every recommender for every held-out user to `evaluations`, and what the gate reads to `trials`."""
    cases, config = tonight.cases, tonight.config.algorithms.evaluation
    histories, item_count = cases[schema.HISTORY].to_list(), len(tonight.full_catalogue)
    parts, extras, all_lists = [], {}, {}
    recommenders = _recommenders(tonight)
    with shown("evaluation", f"recommenders, {len(cases):,} users each") as progress:
        for done, recommender in enumerate(recommenders, 1):
            lists = ranking.ranked(recommender, histories, config, depth=tonight.config.gate.depth)
            all_lists[recommender.name] = lists
            parts.append(ranking.per_user(recommender.name, lists, cases, config))
            beside = ranking.beside(lists, cases, tonight.item_counts, item_count=item_count, config=config)
            extras[recommender.name] = beside
            progress(done, len(recommenders))
    per_user = pl.concat(parts)
    version = tonight.replace_rows("evaluations", per_user, schema.EVALUATIONS)
    tried = tonight.replace_rows(trials.TABLE, trials.frame(trials.trials(tonight, all_lists)), schema.TRIALS)
    facts: dict[str, Fact] = {
        "trials version": tried,
        "users": len(cases),
        "k": config.k,
        "seen items": "masked" if config.mask_seen else "kept",
        **_figures(ranking.summary(per_user), extras),
    }
    champion = tonight.night.manifest.champion
    if champion is not None and CHAMPION not in extras:
        facts["champion"] = (
            f"{champion.bundle} has another bundle format, so the candidate is judged as if there were no champion"
        )
    return Snapshot(stage="evaluation", table="evaluations", version=version, rows=len(per_user), facts=facts)


def _recommenders(tonight: Tonight) -> list[Recommender]:
    """Everything that is compared: champion and shadow (where there are any), candidate, surrogate and plain baselines."""
    bounds, device = tonight.boundaries, tonight.device
    before_test = tonight.log.filter(pl.col(schema.TIMESTAMP) < bounds.test_start)
    train = before_test.filter(pl.col(schema.TIMESTAMP) < bounds.validation_start)
    recent = before_test.filter(pl.col(schema.TIMESTAMP) >= bounds.validation_start)
    recommenders: list[Recommender] = [
        bundle.load(tonight.candidate_folder, device=device, name=CANDIDATE),
        tonight.surrogate_recommender(popular=baselines.popularity(recent).item_ids),
        baselines.popularity(train),
        baselines.popularity(recent, name="recent popularity"),
        baselines.item_knn(before_test),
    ]
    if tonight.champion_folder is not None:
        recommenders.insert(0, bundle.load(tonight.champion_folder, device=device, name=CHAMPION))
        recommenders += _shadow(tonight)
    return recommenders


def _shadow(tonight: Tonight) -> list[Recommender]:
    """The challenger of an earlier night that is judged again; none where its bundle has a format that no longer counts."""
    last = trials.shadow(tonight)
    if last is None:
        return []
    record = reopen(last.model, tonight.lake).need("fine_tune")
    with suppress(OtherFormat):
        return [bundle.load(tonight.local_copy(record), device=tonight.device, name=SHADOW)]
    return []


def _figures(summary: pl.DataFrame, extras: dict[str, Beside]) -> dict[str, Fact]:
    """The means of every recommender, and what its lists are like, as facts."""
    facts: dict[str, Fact] = {}
    for row in summary.iter_rows(named=True):
        facts[f"{row['recommender']} recall"] = round(row["recall"], 4)
        facts[f"{row['recommender']} ndcg"] = round(row["ndcg"], 4)
    for name, extra in extras.items():
        facts[f"{name} coverage"] = round(extra.coverage, 4)
        facts[f"{name} popularity lift"] = _number(extra.popularity_lift)
        facts[f"{name} recall of cold items"] = _number(extra.cold_recall)
        facts["users with cold items"] = extra.cold_users
    return facts


def _number(value: float) -> float | None:
    """The value with four digits, None where there is nothing to average: JSON knows no NaN."""
    return None if math.isnan(value) else round(value, 4)
