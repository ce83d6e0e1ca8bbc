"""Registers tonight's model, and makes it champion if the gate finds it better."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

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
from tasks import champions, registry, tracking, trials
from tasks.stage import stage
from tasks.tonight import Tonight
from tasks.trials import CANDIDATE

APPROVAL = "nights/{}/approval.json"


class Approval(BaseModel):
    """A person's answer to a better candidate."""

    model_config = ConfigDict(frozen=True)

    approve: bool
    comment: str
    who: str


@stage("promotion")
def promote(tonight: Tonight) -> Snapshot:
    """Writes one row about tonight's model to the table `promotions`: promoted, rejected or unchanged, with the reason."""
    lake, night = tonight.lake, tonight.night
    verdict, who = final_verdict(tonight)
    run_id = _log(tonight, verdict)
    version = _register(tonight, run_id, verdict)
    tuning = tonight.night.need("fine_tune").facts.get(promotions.UNCHANGED)
    is_promoted = verdict.promoted and verdict.winner == night.name
    action = promotions.outcome({"promoted": is_promoted, promotions.UNCHANGED: tuning})
    _record_once(lake, champions.model_of(night, version), action, verdict, who)
    if verdict.promoted and not is_promoted:
        shadow = reopen(verdict.winner, lake)
        earlier = str(shadow.need("promotion").facts["version"])
        _record_once(lake, champions.model_of(shadow, earlier), promotions.PROMOTED, verdict, who)
        registry.tag_version(tonight.config.registry, earlier, "dealrec.verdict", verdict.reason)
    changed = champions.heal(tonight.config.registry, lake, candidate=version)
    get_run_logger().info("version %s: %s Aliases changed: %s", version, verdict.reason, changed or "none")
    champion = promotions.champion(lake)
    facts: dict[str, Fact] = {
        **verdict.model_dump(exclude={"slices"}),
        **{f"gain for {name}": round(gain, 4) for name, gain in verdict.slices.items()},
        promotions.UNCHANGED: tuning,
        "version": version,
        "champion": champion.version if champion else None,
        "mlflow run": run_id,
    }
    in_charge = champion.version if champion else "none"
    registry.tag_run(tonight.config.registry, run_id, {registry.VERDICT: action, registry.CHAMPION: in_charge})
    return Snapshot(stage="promotion", table="promotions", version=lake.version("promotions"), rows=1, facts=facts)


def register_again(night: Night) -> str:
    """Registers the model of a finished night where it is gone from MLflow, with the verdict of then; returns its version."""
    tonight = Tonight(night)
    verdict, _ = final_verdict(tonight)
    return _register(tonight, _log(tonight, verdict), verdict)


def _record_once(lake: Lake, model: Champion, action: str, verdict: Verdict, who: str) -> None:
    """Adds a decision about a model, unless a killed try has added it."""
    known = promotions.decisions(lake).filter(version=model.version, action=action)
    if known.filter(pl.col(schema.REASON) == verdict.reason).is_empty():
        promotions.record(lake, night=model, action=action, reason=verdict.reason, who=who, now=datetime.now(UTC))


def verdict_of(tonight: Tonight) -> Verdict:
    """The gate's verdict on tonight's candidate and the shadow, against the champion or the best of `gate.first_beats`."""
    config = tonight.config.gate
    challengers = [trial for trial in trials.tonights(tonight) if trial.role != gate.CHAMPION]
    verdict = gate.decide(challengers, metric=f"{config.metric}@{config.depth}", config=config)
    tuning = tonight.night.need("fine_tune").facts.get(promotions.UNCHANGED)
    if verdict.promoted or tuning is None:
        return verdict
    reason = verdict.reason.removeprefix("Rejected: ")
    return verdict.model_copy(update={"reason": f"Unchanged: tuning changed next to nothing ({tuning}); {reason}"})


def final_verdict(tonight: Tonight) -> tuple[Verdict, str]:
    """The gate's verdict and, where the settings ask for one, a person's; and whose word it is."""
    verdict = verdict_of(tonight)
    if not (tonight.config.gate.approval and verdict.promoted):
        return verdict, "gate"
    approval = approval_of(tonight.night) or Approval(approve=False, comment="nobody was asked", who="nobody")
    word = "Promoted" if approval.approve else "Rejected"
    numbers = verdict.reason.removeprefix("Promoted: ")
    reason = f"{word} by {approval.who} ({approval.comment or 'no comment'}): {numbers}"
    return verdict.model_copy(update={"promoted": approval.approve, "reason": reason}), approval.who


def approval_of(night: Night) -> Approval | None:
    """A person's answer to a night's candidate, None while nobody has answered."""
    path = APPROVAL.format(night.name)
    return Approval.model_validate_json(night.lake.read_bytes(path)) if night.lake.exists_path(path) else None


def record_approval(night: Night, approval: Approval) -> None:
    """Keeps a person's answer, so that a night that is started again does not ask twice."""
    night.lake.write_bytes(APPROVAL.format(night.name), approval.model_dump_json(indent=1).encode())


def _log(tonight: Tonight, verdict: Verdict) -> str:
    """The id of the night's MLflow run, with the files that say what the model was made from."""
    night = tonight.night
    lineage = {record.stage: record.model_dump(exclude={"facts", "seconds"}) for record in night.snapshots()}
    run_id = tracking.log_night(night, {"dealrec.verdict": verdict.reason})
    files = {
        "manifest.json": night.manifest.model_dump_json(indent=1),
        "lineage.json": json.dumps(lineage, indent=1),
        "verdict.json": verdict.model_dump_json(indent=1),
        "evaluation.csv": ranking.summary(tonight.per_user).write_csv(),
        "coreset.csv": tonight.rows("coreset").select(schema.SAMPLE_ID).sort(schema.SAMPLE_ID).write_csv(),
    }
    registry.attach_text(tonight.config.registry, run_id, files)
    return run_id


def _register(tonight: Tonight, run_id: str, verdict: Verdict) -> str:
    """The version of tonight's recommender; both models must load back and answer as before to be registered."""
    names = tonight.config.registry
    stage = tonight.night.served.stage
    recommender = bundle.load(tonight.served_folder, device=tonight.device, name=CANDIDATE)
    tags = {**_lineage(tonight.night), "dealrec.verdict": verdict.reason}
    _register_one(tonight, names.surrogate, "surrogate", tonight.surrogate_recommender(), run_id=run_id, tags=tags)
    return _register_one(tonight, names.model, stage, recommender, run_id=run_id, tags=tags)


LOADERS = {"surrogate": "dealrec_core.surrogate.serving", "fine_tune": "dealrec_core.recommenders.serving"}
LOADERS["refit"] = LOADERS["fine_tune"]
"""The module that MLflow loads a stage's model with. Registered models name it: these paths must stay."""


def _register_one(
    tonight: Tonight, name: str, stage: str, recommender: Recommender, *, run_id: str, tags: Mapping[str, str]
) -> str:
    histories = tonight.cases[schema.HISTORY].head(4).to_list()
    return registry.register(
        tonight.config.registry,
        name,
        tonight.night.name,
        run_id=run_id,
        bundle=tonight.folder(stage),
        loader=LOADERS[stage],
        example=histories[0],
        tags=tags,
        description=f"Night {tonight.night.name}: {tags['dealrec.verdict']}",
        check=partial(require_same_answers, recommender=recommender, histories=histories),
    )


def require_same_answers(served: Any, *, recommender: Recommender, histories: list[list[str]]) -> None:
    """Lets a model through that MLflow loads back as it was.

    Raises:
        RegistryError: it recommends something else.
    """
    answers = served.predict(pd.DataFrame({"history": histories}), params={"k": 10})["item_ids"]
    if [list(items) for items in answers] != recommender.recommend(histories, 10):
        raise RegistryError(
            f"the {recommender.name} gives other recommendations after MLflow has loaded it back, so it was not registered"
        )


def _lineage(night: Night) -> dict[str, str]:
    """Tags that say from what a version was made."""
    coreset, base, model = night.need("coreset"), night.need("base_model"), night.served
    return {
        "dealrec.day": str(night.day),
        "dealrec.code": night.manifest.code[:16],
        "dealrec.commit": night.manifest.commit or "none",
        "dealrec.interactions": f"version {night.need('ingest').version}",
        "dealrec.coreset": f"version {coreset.version}, {coreset.rows} samples",
        "dealrec.base_model": f"{base.facts['base model']} {str(base.sha256)[:16]}",
        "dealrec.bundle": str(model.path),
        registry.SHA256_TAG: str(model.sha256),
        "dealrec.trained_through": str(model.facts["trained through"]),
        "dealrec.figures": str(model.facts.get("figures", "of this model")),
    }
