"""Registers tonight's model, and makes it champion if the gate finds it better."""

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from prefect.logging import get_run_logger

from dealrec_core import evaluation, gate, promotions
from dealrec_core.errors import RegistryError
from dealrec_core.gate import Verdict
from dealrec_core.lake import Lake
from dealrec_core.night import Champion, Fact, Night, Snapshot
from dealrec_core.recommenders import bundle
from tasks import registry, storage
from tasks.coreset import coreset_of
from tasks.evaluation import CANDIDATE, CHAMPION, evaluation_of, held_out_cases
from tasks.ingest import boundaries_of
from tasks.stage import device, stage


@stage("promotion")
def promote(night: Night) -> Snapshot:
    """Table `promotions`: one row about tonight's model, promoted or rejected, with the reason."""
    config = night.config
    verdict = judge(night)
    run_id = _log(night, verdict)
    version = _register(night, run_id, verdict)
    model = Champion(
        night=night.name,
        bundle=str(night.need("fine_tune").path),
        version=version,
        trained_through=boundaries_of(night).test_start,
    )
    known = promotions.decisions(night.lake).filter(night=night.name, version=version)
    if known.is_empty():
        action = promotions.PROMOTED if verdict.promoted else promotions.REJECTED
        promotions.record(
            night.lake, night=model, action=action, reason=verdict.reason, who="gate", now=datetime.now(UTC)
        )
    changed = heal(config.registry, night.lake, candidate=version)
    get_run_logger().info("version %s %s; aliases changed: %s", version, verdict.reason, changed or "none")
    champion = promotions.champion(night.lake)
    facts: dict[str, Fact] = {
        **verdict.model_dump(),
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
    return gate.judge(
        evaluation.values(per_user, CANDIDATE, metric),
        evaluation.values(per_user, against, metric),
        against=against,
        metric=f"{metric}@{night.config.evaluate.k}",
        config=night.config.gate,
        seed=night.config.run.seed,
    )


def heal(config: registry.RegistryConfig, lake: Lake, *, candidate: str | None = None) -> list[str]:
    """Makes MLflow's aliases say what the promotions table says; returns what was changed."""
    champion = promotions.champion(lake)
    return registry.heal_aliases(
        config, wanted={registry.CANDIDATE: candidate, registry.CHAMPION: champion.version if champion else None}
    )


def roll_back(config: registry.RegistryConfig, lake: Lake, *, who: str, reason: str) -> Champion:
    """Puts the previous champion back in charge: a new row in `promotions`, then the alias."""
    restored = promotions.previous(lake)
    promotions.record(
        lake, night=restored, action=promotions.ROLLED_BACK, reason=reason, who=who, now=datetime.now(UTC)
    )
    heal(config, lake)
    return restored


def _log(night: Night, verdict: Verdict) -> str:
    snapshots = {each.stage: each for each in night.snapshots()}
    lineage = {name: each.model_dump(exclude={"facts", "seconds"}) for name, each in snapshots.items()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "manifest.json").write_text(night.manifest.model_dump_json(indent=1))
        (folder / "lineage.json").write_text(json.dumps(lineage, indent=1))
        (folder / "verdict.json").write_text(verdict.model_dump_json(indent=1))
        coreset_of(night).write_parquet(folder / "coreset.parquet")
        evaluation.summary(evaluation_of(night)).write_csv(folder / "evaluation.csv")
        return registry.log_night(
            night.config.registry,
            night.name,
            parameters=_flat(night.config.model_dump(mode="json")),
            metrics={
                _metric_name(f"{each.stage}.{fact}"): value
                for each in snapshots.values()
                for fact, value in {**each.facts, "seconds": each.seconds}.items()
                if isinstance(value, int | float) and not isinstance(value, bool)
            },
            tags={
                "dealrec.day": str(night.day),
                "dealrec.commit": night.manifest.commit or "none",
                "dealrec.code": night.manifest.code,
                "dealrec.verdict": verdict.reason,
            },
            files=folder,
        )


def _register(night: Night, run_id: str, verdict: Verdict) -> str:
    config = night.config
    folder = storage.local_copy(night.lake, str(night.need("fine_tune").path), home=config.run.home)
    histories = held_out_cases(night)["history"].head(4).to_list()
    version = registry.register(
        config.registry,
        night.name,
        run_id=run_id,
        bundle=folder,
        example=histories[0],
        tags={"dealrec.day": str(night.day), "dealrec.verdict": verdict.reason},
    )
    served = registry.load(config.registry, version).predict(pd.DataFrame({"history": histories}), params={"k": 10})
    expected = bundle.load(folder, device=device(night), name=CANDIDATE).recommend(histories, 10)
    if [list(items) for items in served["item_ids"]] != expected:
        raise RegistryError(
            f"version {version} of '{config.registry.model}' loads back with other recommendations; it is not promoted"
        )
    return version


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def _metric_name(name: str) -> str:
    return name.replace("@", "_at_").replace(" ", "_")
