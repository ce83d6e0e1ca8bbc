"""Registers tonight's model, and makes it champion if the gate finds it better."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from prefect.logging import get_run_logger
from pydantic import BaseModel, ConfigDict

from dealrec_core import schema
from dealrec_core.errors import RegistryError
from dealrec_core.evaluation import gate, ranking
from dealrec_core.evaluation.gate import Verdict
from dealrec_core.lake import Lake, promotions
from dealrec_core.lake.nights import Champion, Fact, Night, Snapshot, reopen
from dealrec_core.recommenders import bundle
from dealrec_core.samples.recommender import Recommender
from dealrec_core.surrogate.recommender import SurrogateRecommender
from tasks import events, registry, storage, tracking
from tasks.catalogue import log_before_test
from tasks.coreset import coreset_of
from tasks.evaluation import CANDIDATE, CHAMPION, evaluation_of, held_out_cases
from tasks.ingest import boundaries_of
from tasks.stage import device, stage
from tasks.surrogate import surrogate_of

RARE = 5
"""An item with fewer interactions before the held-out slice is cold; a user with fewer is new."""


class Approval(BaseModel):
    """What a person said about a better candidate."""

    model_config = ConfigDict(frozen=True)

    approve: bool
    comment: str
    who: str


@stage("promotion")
def promote(night: Night) -> Snapshot:
    """Table `promotions`: one row about tonight's model, promoted or rejected, with the reason."""
    config = night.config
    verdict, who = final_verdict(night)
    run_id = _log(night, verdict)
    version = _register(night, run_id, verdict)
    model = _model(night, version)
    action = promotions.PROMOTED if verdict.promoted else promotions.REJECTED
    if promotions.decisions(night.lake).filter(night=night.name, version=version, action=action).is_empty():
        promotions.record(night.lake, night=model, action=action, reason=verdict.reason, who=who, now=datetime.now(UTC))
    changed = heal(config.registry, night.lake, candidate=version)
    get_run_logger().info("version %s %s; aliases changed: %s", version, verdict.reason, changed or "none")
    champion = promotions.champion(night.lake)
    facts: dict[str, Fact] = {
        **verdict.model_dump(exclude={"slices"}),
        **{f"gain for {name}": round(gain, 4) for name, gain in verdict.slices.items()},
        "version": version,
        "champion": champion.version if champion else None,
        "mlflow run": run_id,
    }
    return Snapshot(
        stage="promotion", table="promotions", version=night.lake.version("promotions"), rows=1, facts=facts
    )


def judge(night: Night) -> Verdict:
    """The gate's verdict on tonight's candidate, against the champion or, before the first, against popularity."""
    per_user = evaluation_of(night)
    against = CHAMPION if CHAMPION in per_user["recommender"] else "popularity"
    metric = night.config.gate.metric
    return gate.decide(
        ranking.values(per_user, CANDIDATE, metric),
        ranking.values(per_user, against, metric),
        against=against,
        metric=f"{metric}@{night.config.evaluate.k}",
        config=night.config.gate,
        seed=night.config.run.seed,
        slices=_slices(night),
    )


def final_verdict(night: Night) -> tuple[Verdict, str]:
    """The gate's verdict and, where the settings ask for one, a person's; and whose word it is."""
    verdict = judge(night)
    if not (night.config.gate.approval and verdict.promoted):
        return verdict, "gate"
    said = approval_of(night) or Approval(approve=False, comment="nobody was asked", who="nobody")
    word = "approved" if said.approve else "not approved"
    reason = f"{word} by {said.who} ({said.comment or 'no comment'}); {verdict.reason}"
    return verdict.model_copy(update={"promoted": said.approve, "reason": reason}), said.who


def approval_of(night: Night) -> Approval | None:
    """What a person said about tonight's candidate, None while nobody has."""
    path = _approval(night)
    return Approval.model_validate_json(night.lake.read_bytes(path)) if night.lake.exists_path(path) else None


def record_approval(night: Night, approval: Approval) -> None:
    """Keeps what a person said, so that a night that is started again does not ask twice."""
    night.lake.write_bytes(_approval(night), approval.model_dump_json(indent=1).encode())


def heal(config: registry.RegistryConfig, lake: Lake, *, candidate: str | None = None) -> list[str]:
    """Makes MLflow's aliases say what the promotions table says; returns what was changed.

    A champion that is gone from MLflow raises the event champion.lost and leaves the aliases as they are.
    """
    champion, before = promotions.champion(lake), promotions.before_champion(lake)
    wanted = {
        registry.CHAMPION: champion.version if champion else None,
        registry.PREVIOUS: before.version if before else None,
    }
    changed = registry.heal_aliases(config, wanted={registry.CANDIDATE: candidate})
    try:
        return [*changed, *registry.heal_aliases(config, wanted=wanted)]
    except RegistryError as error:
        if champion is None:
            raise
        message = f"version {champion.version} is champion but not in MLflow ({error}); `dealrec rollback` or register it again"
        get_run_logger().error(message)
        events.champion_lost(lake, version=champion.version, message=message)
        return changed


def follow_registry(config: registry.RegistryConfig, lake: Lake) -> Champion | None:
    """Takes over a champion that someone set in MLflow: a row with the gate's verdict on it; None when nobody did."""
    version = registry.set_by_hand(config)
    present = promotions.champion(lake)
    if version is None or (present is not None and present.version == version):
        return None
    night = reopen(registry.night_of(config, version), lake)
    promoted = night.find("promotion")
    said = f"the gate said: {promoted.facts['reason']}" if promoted else "the gate has not judged it"
    chosen = _model(night, version)
    reason = f"alias champion set in MLflow; {said}"
    promotions.record(
        lake, night=chosen, action=promotions.SET_BY_HAND, reason=reason, who="MLflow", now=datetime.now(UTC)
    )
    registry.tag_version(config, version, {"dealrec.set_by_hand": reason})
    heal(config, lake)
    return chosen


def poll_registry(config: registry.RegistryConfig, lake: Lake) -> None:
    """Takes over what was set by hand while nobody listened; a registry that does not answer stops no night."""
    log = get_run_logger()
    try:
        champion = follow_registry(config, lake)
    except RegistryError as error:
        log.warning("the champion is taken from the table `promotions` alone: %s", error)
        return
    if champion is not None:
        log.info("version %s was made champion in MLflow: this night starts from it", champion.version)


def roll_back(config: registry.RegistryConfig, lake: Lake, *, who: str, reason: str) -> Champion:
    """Puts the previous champion back in charge: a new row in `promotions`, then the aliases."""
    restored = promotions.previous(lake)
    promotions.record(
        lake, night=restored, action=promotions.ROLLED_BACK, reason=reason, who=who, now=datetime.now(UTC)
    )
    heal(config, lake)
    return restored


def _model(night: Night, version: str) -> Champion:
    return Champion(
        night=night.name,
        bundle=str(night.need("fine_tune").path),
        version=version,
        trained_through=boundaries_of(night).test_start,
    )


def _slices(night: Night) -> dict[str, np.ndarray]:
    """Users whom a mean could hide, in the order of the evaluation: those who are new, those who took a cold item."""
    cases = held_out_cases(night)
    counts = log_before_test(night).group_by(schema.ITEM_ID).len().collect()
    common = counts.filter(pl.col("len") >= RARE)[schema.ITEM_ID].implode()
    is_cold = cases.select(~pl.col("targets").list.eval(pl.element().is_in(common)).list.all()).to_series()
    return {
        "new users": (cases[schema.HISTORY].list.len() < RARE).to_numpy(),
        "users of cold items": is_cold.to_numpy(),
    }


def _log(night: Night, verdict: Verdict) -> str:
    lineage = {each.stage: each.model_dump(exclude={"facts", "seconds"}) for each in night.snapshots()}
    run_id = tracking.log_night(night, {"dealrec.verdict": verdict.reason})
    tracking.attach_text(
        night,
        run_id,
        {
            "manifest.json": night.manifest.model_dump_json(indent=1),
            "lineage.json": json.dumps(lineage, indent=1),
            "verdict.json": verdict.model_dump_json(indent=1),
            "evaluation.csv": ranking.summary(evaluation_of(night)).write_csv(),
            "coreset.csv": coreset_of(night).select(schema.SAMPLE_ID).write_csv(),
        },
    )
    return run_id


def _register(night: Night, run_id: str, verdict: Verdict) -> str:
    """The version of tonight's recommender; both models must load back and answer as before to be registered."""
    home, where = night.config.run.home, device(night)
    histories = held_out_cases(night)[schema.HISTORY].head(4).to_list()
    tags = {**_lineage(night), "dealrec.verdict": verdict.reason}
    folder = storage.local_copy(night.lake, str(night.need("surrogate").path), home=home)
    model, item_ids = surrogate_of(night)
    names = night.config.registry
    _register_one(
        night,
        names.surrogate,
        run_id=run_id,
        folder=folder,
        loader="dealrec_core.surrogate.serving",
        recommender=SurrogateRecommender(model, item_ids),
        histories=histories,
        tags=tags,
    )
    folder = storage.local_copy(night.lake, str(night.need("fine_tune").path), home=home)
    return _register_one(
        night,
        names.model,
        run_id=run_id,
        folder=folder,
        loader="dealrec_core.recommenders.serving",
        recommender=bundle.load(folder, device=where, name=CANDIDATE),
        histories=histories,
        tags=tags,
    )


def _register_one(
    night: Night,
    name: str,
    *,
    run_id: str,
    folder: Path,
    loader: str,
    recommender: Recommender,
    histories: list[list[str]],
    tags: Mapping[str, str],
) -> str:
    return registry.register(
        night.config.registry,
        name,
        night.name,
        run_id=run_id,
        bundle=folder,
        loader=loader,
        example=histories[0],
        tags=tags,
        description=f"Night {night.name}: {tags['dealrec.verdict']}",
        check=partial(require_same_answers, recommender=recommender, histories=histories),
    )


def require_same_answers(served: Any, *, recommender: Recommender, histories: list[list[str]]) -> None:
    """Lets a model through that MLflow loads back as it was.

    Raises:
        RegistryError: it recommends something else.
    """
    answers = served.predict(pd.DataFrame({"history": histories}), params={"k": 10})["item_ids"]
    if [list(items) for items in answers] != recommender.recommend(histories, 10):
        raise RegistryError(f"the {recommender.name} loads back from MLflow with other recommendations: not registered")


def _lineage(night: Night) -> dict[str, str]:
    """What a version was made from, as tags."""
    coreset, base = night.need("coreset"), night.need("base_model")
    return {
        "dealrec.day": str(night.day),
        "dealrec.code": night.manifest.code[:16],
        "dealrec.commit": night.manifest.commit or "none",
        "dealrec.interactions": f"version {night.need('ingest').version}",
        "dealrec.coreset": f"version {coreset.version}, {coreset.rows} samples",
        "dealrec.base_model": f"{base.facts['base model']} {str(base.sha256)[:16]}",
        "dealrec.bundle": str(night.need("fine_tune").path),
    }


def _approval(night: Night) -> str:
    return f"nights/{night.name}/approval.json"
