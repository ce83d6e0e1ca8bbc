"""Settings of earlier versions: what became of each, for messages and for the manifests of old nights."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

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
    "fine_tune.judge": "is best_epoch_by in the study's settings; a night always uses recall",
    "run.warm_start": "was removed; another surrogate.width or surrogate.drift_tolerance = 0 trains from scratch",
    "surrogate.history_length": "was removed; a night uses samples.history_length",
    "tiger.history_length": "was removed; a night uses samples.history_length",
    "tiger.beams": "was removed; a night uses recommender.beams for both backends",
    "influence.recent_share": "was removed; risk = 'recent' always takes the last half of the validation slice",
    "influence.lissa_samples": "moved to the study's settings; a night does not use lissa",
    "influence.curvature_samples": "moved to the study's settings; a night uses all samples",
    "influence.part_samples": _STUDY.format(16384),
    "influence.part_outputs": _STUDY.format(16),
    "influence.damping_rule": _STUDY.format("trace"),
    "influence.most_steps": _STUDY.format(100),
    "influence.kept_mb": "was removed; the activations of a single layer are no longer stored",
    "influence.precision": _STUDY.format("float32"),
    "effort.parameters": _STUDY.format("all"),
    "effort.tokens": _STUDY.format("answer"),
    "coreset.influence_weight": _STUDY.format(1),
    "coreset.normalisation": _STUDY.format("rank"),
    "coreset.hard_prune": _STUDY.format(0),
    "coreset.coverage": _STUDY.format(0.3),
    "coreset.fill": _STUDY.format("strata"),
    "language_model.heads": _STUDY.format(4),
    "language_model.batch_size": _STUDY.format(16),
    "language_model.history_length": _STUDY.format(10),
    "language_model.learning_rate": _STUDY.format(3e-3),
    "recommender.ground_beams": _STUDY.format(4),
    "tiger.heads": _STUDY.format(6),
    "tiger.head_width": _STUDY.format(64),
    "tiger.inner_width": _STUDY.format(1024),
    "tiger.dropout": _STUDY.format(0.1),
    "tiger.lora": _STUDY.format("rank 8, alpha 16 and the attention"),
    "tiger.patience": _STUDY.format(3),
    "tiger.batch_size": _STUDY.format(64),
    "semantic_ids.levels": _STUDY.format(3),
    "semantic_ids.codes": _STUDY.format(256),
    "semantic_ids.width": _STUDY.format(64),
    "semantic_ids.quantiser": _STUDY.format("kmeans"),
    "semantic_ids.rqvae": "moved to the study's settings; a night always uses kmeans",
}
"""Old names without a new one in the nightly settings, and what a message says about each."""


def hint(name: str) -> str | None:
    """Returns what became of a setting of that name, None where there was none."""
    return f"it is '{RENAMED[name]}' now" if name in RENAMED else GONE.get(name)


def translated(settings: Any, prefix: str = "") -> Any:
    """Returns the settings of an old night under today's names.

    A manifest must stay readable: what moved to the study is left out, so the night shows today's default in its place.
    """
    if not isinstance(settings, Mapping):
        return settings
    today: dict[str, Any] = {}
    for key, value in settings.items():
        name = RENAMED.get(f"{prefix}{key}", f"{prefix}{key}")
        if name not in GONE and not (isinstance(value, str) and value in VALUES.get(name, ())):
            today[name.rpartition(".")[2]] = translated(value, f"{name}.")
    return today
