"""Compares tonight's model with the champion, the surrogate and the plain baselines on the same held-out users."""

import math

import polars as pl

from dealrec_core import schema
from dealrec_core.evaluation import ranking
from dealrec_core.lake.nights import Fact, Night, Snapshot
from dealrec_core.recommenders import baselines, bundle
from dealrec_core.samples import split
from dealrec_core.samples.recommender import Recommender
from dealrec_core.surrogate.recommender import SurrogateRecommender
from tasks import storage
from tasks.catalogue import full_catalogue, log_before_test, log_before_validation
from tasks.champion import champion_folder
from tasks.ingest import boundaries_of
from tasks.progress import shown
from tasks.stage import device, stage
from tasks.surrogate import surrogate_of

CANDIDATE, CHAMPION, SURROGATE = "candidate", "champion", "surrogate"


@stage("evaluation")
def evaluate(night: Night) -> Snapshot:
    """Table `evaluations`: recall, NDCG and MRR of every recommender for every held-out user."""
    cases, config = held_out_cases(night), night.config.algorithms.evaluation
    counts = _counts(night)
    items = len(full_catalogue(night))
    parts, extras = [], {}
    compared = _recommenders(night)
    with shown("evaluation", f"recommenders, {len(cases):,} users each") as progress:
        for done, each in enumerate(compared, 1):
            lists = ranking.ranked(each, cases[schema.HISTORY].to_list(), config)
            parts.append(ranking.per_user(each.name, lists, cases, config))
            extras[each.name] = ranking.beside(lists, cases, counts, item_count=items, config=config)
            progress(done, len(compared))
    per_user = pl.concat(parts)
    frame = per_user.with_columns(pl.lit(night.name).alias(schema.NIGHT)).select(schema.EVALUATIONS.names())
    version = night.lake.replace(
        "evaluations",
        frame,
        schema=schema.EVALUATIONS,
        where=f"{schema.NIGHT} = '{night.name}'",
        transaction=(night.name, 1),
    )
    facts: dict[str, Fact] = {
        "users": len(cases),
        "k": night.config.evaluation.k,
        "seen items": "masked" if night.config.evaluation.mask_seen else "kept",
    }
    for row in ranking.summary(per_user).iter_rows(named=True):
        facts[f"{row['recommender']} recall"] = round(row["recall"], 4)
        facts[f"{row['recommender']} ndcg"] = round(row["ndcg"], 4)
    for name, extra in extras.items():
        facts[f"{name} coverage"] = round(extra.coverage, 4)
        facts[f"{name} popularity lift"] = _number(extra.popularity_lift)
        facts[f"{name} recall of cold items"] = _number(extra.cold_recall)
        facts["users with cold items"] = extra.cold_users
    if night.manifest.champion is not None and CHAMPION not in extras:
        facts["champion"] = f"{night.manifest.champion.bundle} has another bundle format: tonight counts as without one"
    return Snapshot(stage="evaluation", table="evaluations", version=version, rows=len(frame), facts=facts)


def _number(value: float) -> float | None:
    """None where there is nothing to average: JSON knows no NaN."""
    return None if math.isnan(value) else round(value, 4)


def _counts(night: Night) -> dict[str, float]:
    """Interactions of each item before the held-out slice."""
    found = log_before_test(night).group_by(schema.ITEM_ID).len().collect()
    return dict(zip(found[schema.ITEM_ID].to_list(), found["len"].cast(pl.Float64).to_list(), strict=True))


def held_out_cases(night: Night) -> pl.DataFrame:
    """The held-out users of tonight: history before the held-out slice, everything they took in it."""
    log = night.lake.scan("interactions", night.need("ingest").version)
    return split.cases(
        log,
        boundaries_of(night),
        history_length=night.config.samples.history_length,
        users=night.config.evaluation.users,
        seed=night.config.run.seed,
    )


def evaluation_of(night: Night) -> pl.DataFrame:
    """Tonight's values per user: recommender, user_id, recall, ndcg, mrr; users in one order for every recommender."""
    frame = night.lake.scan("evaluations", night.need("evaluation").version).filter(pl.col(schema.NIGHT) == night.name)
    return frame.sort("recommender", schema.USER_ID).collect()


def _recommenders(night: Night) -> list[Recommender]:
    model, item_ids = surrogate_of(night)
    known = log_before_test(night).collect()
    train = log_before_validation(night).collect()
    recent = known.filter(pl.col(schema.TIMESTAMP) >= boundaries_of(night).validation_start)
    found: list[Recommender] = [
        _bundle(night, str(night.need("fine_tune").path), CANDIDATE),
        SurrogateRecommender(model, item_ids, name=SURROGATE, popular=baselines.popularity(recent).item_ids),
        baselines.popularity(train),
        baselines.popularity(recent, name="recent popularity"),
        baselines.item_knn(known),
    ]
    champion = champion_folder(night)
    if champion is not None:
        found.insert(0, bundle.load(champion, device=device(night), name=CHAMPION))
    return found


def _bundle(night: Night, path: str, name: str) -> Recommender:
    return bundle.load(
        storage.local_copy(night.lake, path, home=night.config.run.home), device=device(night), name=name
    )
