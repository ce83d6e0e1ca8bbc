"""Settings of earlier versions: what became of each, for messages and for the manifests of old nights."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from dealrec_core.settings.run import LOGIN
from dealrec_core.settings.section import section_of
from dealrec_core.settings.tree import Algorithms, Config

RENAMED = {"evaluate": "evaluation", "recommender.history_length": "recommender.titles"}
"""Old names that hold the same value under a new one."""

VALUES = {"coreset.method": {"dealrec-released"}, "influence.solver": {"lissa", "exact", "released"}}
"""Values that a night no longer takes and a study does."""


def _studied(study: type[BaseModel], night: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every setting that a study has and a night lacks, in sections that both have, and what a message says about it."""
    for key, field in study.model_fields.items():
        inner, below = section_of(field), section_of(night.model_fields[key]) if key in night.model_fields else None
        if inner and below:
            yield from _studied(inner, below, f"{prefix}{key}.")
        elif prefix and key not in night.model_fields:
            yield f"{prefix}{key}", f"moved to the study's settings; a night always uses {field.default}"


GONE = {
    **dict(_studied(Algorithms, Config)),
    "fine_tune.lora.alpha": "moved to the study's settings; a night always uses twice fine_tune.lora.rank",
    "fine_tune.replay_nights": "is fine_tune.memory now: samples of earlier coresets for each of tonight's",
    "gate.slice_users": "was removed; a slice counts from 30 users",
    "fine_tune.judge": "is best_epoch_by in the study's settings; a night always uses NDCG",
    "run.warm_start": "was removed; another surrogate.width or surrogate.drift_tolerance = 0 trains from scratch",
    "surrogate.history_length": "was removed; a night uses samples.history_length",
    "tiger.history_length": "was removed; a night uses samples.history_length",
    "tiger.beams": "was removed; a night uses recommender.beams for both backends",
    "influence.most_moved": "was replaced by surrogate.most_new, the share of new samples above which all are computed again",
    "influence.kept_mb": "was removed; the activations of a single layer are no longer stored",
    "influence.recent_share": "was removed; risk = 'recent' always uses the last half of the validation slice",
    "influence.lissa_samples": "moved to the study's settings; a night does not use lissa",
    "influence.curvature_samples": "moved to the study's settings; a night uses all samples",
    "recommender.gamma": "was replaced: a night fits a calibration for every recommender, see evaluation.calibration_users",
    "recommender.weight": "was replaced: a night fits a calibration for every recommender, see evaluation.calibration_users",
    "recommender.ground_beams": "moved to the study's settings; a night always uses 4",
    "semantic_ids.rqvae": "moved to the study's settings; a night always uses kmeans",
}
"""Old names without a new one in the nightly settings, and what a message says about each."""


def hint(name: str) -> str | None:
    """Returns what became of a setting of that name, None where there was none."""
    return f"it is '{RENAMED[name]}' now" if name in RENAMED else GONE.get(name)


def translated(settings: Any, prefix: str = "") -> Any:
    """Returns the settings of an old night under today's names.

    A manifest must stay readable: what moved to the study is left out, so the night shows today's default in its place, and an
    address with a password is read without it.
    """
    if not isinstance(settings, Mapping):
        return settings
    today: dict[str, Any] = {}
    for key, value in settings.items():
        name = RENAMED.get(f"{prefix}{key}", f"{prefix}{key}")
        if name not in GONE and not (isinstance(value, str) and value in VALUES.get(name, ())):
            value = LOGIN.sub("", value) if name == "registry.tracking_uri" else translated(value, f"{name}.")
            today[name.rpartition(".")[2]] = value
    return today
