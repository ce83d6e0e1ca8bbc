"""Compares tonight's model with the champion, the surrogate and the plain baselines on the same held-out users."""

import polars as pl

from dealrec_core import evaluation, samples, schema
from dealrec_core.night import Fact, Night, Snapshot
from dealrec_core.recommenders import baselines, bundle
from dealrec_core.recommenders.base import Recommender
from dealrec_core.surrogate.recommender import SurrogateRecommender
from tasks import storage
from tasks.catalogue import log_before_test, log_before_validation
from tasks.ingest import boundaries_of
from tasks.stage import device, stage
from tasks.surrogate import surrogate_of

CANDIDATE, CHAMPION, SURROGATE = "candidate", "champion", "surrogate"


@stage("evaluation")
def evaluate(night: Night) -> Snapshot:
    """Table `evaluations`: recall, NDCG and MRR of every recommender for every held-out user."""
    cases = held_out_cases(night)
    per_user = pl.concat([evaluation.evaluate(each, cases, night.config.evaluate) for each in _recommenders(night)])
    frame = per_user.with_columns(pl.lit(night.name).alias(schema.NIGHT)).select(schema.EVALUATIONS.names())
    version = night.lake.replace(
        "evaluations", frame, schema=schema.EVALUATIONS, where=f"{schema.NIGHT} = '{night.name}'"
    )
    facts: dict[str, Fact] = {
        "users": len(cases),
        "k": night.config.evaluate.k,
        "seen items": "masked" if night.config.evaluate.mask_seen else "kept",
    }
    for row in evaluation.summary(per_user).iter_rows(named=True):
        facts[f"{row['recommender']} recall"] = round(row["recall"], 4)
        facts[f"{row['recommender']} ndcg"] = round(row["ndcg"], 4)
    return Snapshot(stage="evaluation", table="evaluations", version=version, rows=len(frame), facts=facts)


def held_out_cases(night: Night) -> pl.DataFrame:
    """The held-out users of tonight: history before the held-out slice, everything they took in it."""
    log = night.lake.scan("interactions", night.need("ingest").version)
    return samples.cases(
        log,
        boundaries_of(night),
        history_length=night.config.samples.history_length,
        users=night.config.evaluate.users,
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
    if night.manifest.champion is not None:
        found.insert(0, _bundle(night, night.manifest.champion.bundle, CHAMPION))
    return found


def _bundle(night: Night, path: str, name: str) -> Recommender:
    return bundle.load(
        storage.local_copy(night.lake, path, home=night.config.run.home), device=device(night), name=name
    )
