"""How long each stage of a night takes: by the nights before it, or by measured nights of other logs where there are none."""

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from dealrec_core.lake.nights import Night
from dealrec_core.settings import Config

MEASURED_ROWS = (10_000, 100_000, 300_000, 1_000_000)
"""Interactions of the measured logs."""
MEASURED_S: dict[str, tuple[float, ...]] = {
    "ingest": (0.9, 1.2, 1.1, 3.6),
    "samples": (0.5, 0.9, 1.2, 4.4),
    "surrogate": (2.3, 22.5, 99.6, 689.3),
    "influence": (5.0, 33.1, 65.4, 598.6),
    "base_model": (10.0, 10.3, 8.3, 12.5),
    "effort": (20.8, 217.6, 504.1, 2040.9),
    "coreset": (3.9, 11.1, 44.0, 355.7),
    "fine_tune": (17.9, 25.5, 54.3, 195.1),
    "evaluation": (1.2, 1.5, 1.8, 4.5),
    "promotion": (2.9, 4.4, 3.2, 6.2),
}
"""Seconds on one core that each stage of a first night took on these logs (docs/scale.md), with the demo's small models.

Most of the stage coreset is its comparison with random coresets, which a random coreset does not need. Effort is that of all samples. A
refit is left out, since it follows only where the gate promotes.
"""
TRAIN_SHARE = 0.7
"""Train samples for each interaction of these logs."""
HELD_OUT_SHARE = 0.06
"""Users who can be judged on, for each interaction of these logs."""
STEEPEST = {"surrogate": 1.0, "influence": 1.0, "coreset": 1.0}
"""Largest slope of a stage above the measured sizes, in which the softmax grows with the catalogue: up to 4,096 items in training and up
to 8,192 in influence."""
METHODS = {
    "influence": {"coverage", "dealrec", "greedy", "targeted"},
    "effort": {"coverage", "dealrec", "goracs", "greedy"},
}
"""The selection methods that need a stage. `coreset.methods.NEEDS` says the same but takes a second to import; a test compares both."""
BY_WEIGHTS = {"base_model", "effort", "fine_tune", "evaluation"}
"""Stages whose time is in proportion to the weights of the language model."""
NIGHTS = 3
"""Nights before this one whose median is taken."""


@dataclass(frozen=True)
class Forecast:
    """Seconds of the stages of a night, as far as they can be told beforehand."""

    seconds: dict[str, float]
    by: list[str]
    """Names of the nights that it follows from, none where it follows from nights of other logs."""
    unknown: list[str]
    """Stages that the night will have and whose time is not known."""
    extrapolated: bool = False
    """Whether rows or settings lie outside of what was measured."""


def forecast(config: Config, earlier: list[Night], rows: int) -> Forecast:
    """Returns how long each stage of the next night will take, by the earlier nights of its lake and the number of new rows."""
    finished = [night for night in earlier if night.find("promotion") is not None]
    last = finished[1:][-NIGHTS:] or finished  # the first night does what no later one does again
    if last:
        return _by_nights(last, rows)
    return _by_table(config, rows) if rows else Forecast({}, [], [])


def _by_nights(last: list[Night], rows: int) -> Forecast:
    """The median of each stage. That of ingest is for as many rows as tonight has."""
    times: dict[str, list[float]] = {}
    for night in last:
        for record in night.snapshots():
            more = _measured("ingest", rows) / _measured("ingest", record.rows or 0) if record.stage == "ingest" else 1
            times.setdefault(record.stage, []).append(record.seconds * more)
    return Forecast({stage: median(seconds) for stage, seconds in times.items()}, [night.name for night in last], [])


def _by_table(config: Config, rows: int) -> Forecast:
    """The measured seconds of each stage for as many rows, in proportion to what the settings ask for."""
    factors = _factors(config, rows)
    seconds = {stage: _measured(stage, rows) * factor for stage, factor in factors.items() if factor is not None}
    unknown = [stage for stage, factor in factors.items() if factor is None]
    scaled = any(not math.isclose(factor, 1) for factor in factors.values() if factor is not None)
    most = MEASURED_ROWS[min(map(len, MEASURED_S.values())) - 1]
    return Forecast(seconds, [], unknown, scaled or not MEASURED_ROWS[0] <= rows <= most)


def _measured(stage: str, rows: int) -> float:
    """The seconds of a stage by its measured nights: on a line between two sizes, both as logarithms, that goes on above the last."""
    seconds = MEASURED_S[stage]
    if rows <= MEASURED_ROWS[0]:
        return seconds[0]
    pairs = list(pairwise(zip(MEASURED_ROWS, seconds, strict=False)))
    (few, less), (many, more) = next((pair for pair in pairs if rows <= pair[1][0]), pairs[-1])
    slope = math.log(more / less) / math.log(many / few)
    if rows > many:
        slope = min(max(slope, 0.0), STEEPEST.get(stage, math.inf))
    return float(more * (rows / many) ** slope)


def _factors(config: Config, rows: int) -> dict[str, float | None]:
    """How many times as much each stage of a first night does as in the measured nights; None where its model was not measured."""
    model, surrogate, tuning = config.language_model, config.surrogate, config.fine_tune
    is_measured = config.recommender.backend == "bigrec" and model.embedded
    weights = _weights(model.vocabulary, model.width, model.layers) / _weights(1024, 128, 2) if is_measured else None
    examples = _examples(config, rows) / max(0.02 * TRAIN_SHARE * rows, 1024)
    asked = {
        "surrogate": surrogate.epochs / 12 * surrogate.width / 32,
        "influence": surrogate.width / 32,
        "base_model": model.steps / 300,
        "effort": config.effort.share,
        "fine_tune": examples * tuning.epochs / 3,
        "evaluation": min(config.evaluation.users or rows, max(HELD_OUT_SHARE * rows, 300)) / 300,
        "coreset": 0.1 if config.coreset.method == "random" else examples,
    }
    method = config.coreset.tried
    factors = {stage: asked.get(stage, 1.0) for stage in MEASURED_S if method in METHODS.get(stage, {method})}
    by_weights = {stage: None if weights is None else factors[stage] * weights for stage in BY_WEIGHTS & factors.keys()}
    return {**factors, **by_weights}


def _examples(config: Config, rows: int) -> float:
    """The number of samples that the coreset will have."""
    train = TRAIN_SHARE * rows
    return min(train, config.coreset.count or max(config.coreset.ratio * train, config.coreset.least))


def _weights(vocabulary: int, width: int, layers: int) -> int:
    """Weights of an embedded model, without the small ones."""
    return vocabulary * width + layers * 12 * width**2
