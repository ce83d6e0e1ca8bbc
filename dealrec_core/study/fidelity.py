"""Do influence scores predict what retraining does? Every estimator against the same refits of a small SASRec.

On the popular items of MovieLens-small or Games, from several starts: the linear datamodelling score over random halves
and the rank correlation with leaving samples out one by one (dealrec_core/influence/fidelity.py), with intervals, and the
paired gain over estimators that know no curvature or nothing at all. A start is a file of its own: a study that was
killed goes on, and more starts or another look at the same refits cost no refit.
"""

import copy
import hashlib
import json
import logging
import os
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from dealrec_core import influence
from dealrec_core.errors import NumericsError
from dealrec_core.influence import InfluenceConfig, fidelity
from dealrec_core.influence.fidelity import Correlation, Fit, RefitConfig
from dealrec_core.sequences import Sequences
from dealrec_core.study import fidelity_data
from dealrec_core.surrogate import SurrogateConfig, networks, training
from dealrec_core.surrogate.sasrec import Shape

log = logging.getLogger(__name__)

RELEASED = {
    "parameters": "released",
    "loss": "bce",
    "negatives": 1,
    "solver": "released",
    "target": "released",
    "risk": "train",
    "curvature": "hessian",
}
DAMPINGS = (1e-3, 1e-2, 1e-1, 1.0)
SHARES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
BASELINES = ("identity", "released", "random")


class FidelityConfig(BaseModel):
    """Which small problem is refitted, and how often: the settings file of `dealrec study fidelity`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Literal["movielens", "released"]
    """movielens: ratings.csv of MovieLens, ratings of 4 and more; released: the train period of DEALRec's release."""
    data: str
    """Folder of the data set."""
    folder: str
    """Where finished starts are kept."""
    items: int = Field(default=64, ge=2)
    """Most popular items; all others are dropped from the log."""
    history_length: int = Field(default=5, ge=2)
    """Items that a sample sees, no fewer and no more; the released way takes the last of them for the target."""
    targets: int = Field(default=20, ge=1)
    """Most train samples of a user, the latest but one; the latest item of a user is the risk."""
    width: int = Field(default=16, ge=2)
    """Of the SASRec of one block."""
    starts: int = Field(default=3, ge=1)
    """Initial weights; each has its own halves and its own samples to leave out."""
    halves: int = Field(default=200, ge=3)
    """Refits of each start on a random half of the samples."""
    left_out: int = Field(default=60, ge=3)
    """Refits of each start without one sample."""
    training: Literal["optimum", "nightly"] = "optimum"
    """optimum: `refit`, near the optimum that the mathematics supposes; nightly: as a night trains its surrogate, with
    dropout, mini-batches and early stopping on the risk samples; what one sample does drowns in them and is not tried."""
    refit: RefitConfig = RefitConfig()
    """Of the optimum, in float32. Leaving samples out goes on from the fitted weights, in float64, at a tenth of the rate."""
    settling: int = Field(default=600, ge=1)
    """Steps to the fitted weights, which are scored: more than a refit's, in float64."""


def estimators(decay: float) -> dict[str, dict[str, Any]]:
    """Settings of each estimator, as changes of the defaults; the random one has none and is drawn."""
    optimum: dict[str, Any] = {"damping": decay, "damping_rule": "absolute"}
    return {
        "cg, damping = decay": optimum,
        **{f"cg, damping {value:g}": {"damping": value, "damping_rule": "absolute"} for value in DAMPINGS},
        **{f"cg, damping {share:g} of top": {"damping": share, "damping_rule": "top"} for share in SHARES},
        "cg, Hessian, damping 0.1": {"damping": 0.1, "damping_rule": "absolute", "curvature": "hessian"},
        "lissa, damping 0.1 of top": {"damping": 0.1, "damping_rule": "top", "solver": "lissa"},
        "cg, damping = decay, residual 0.1": {**optimum, "tolerance": 0.1},
        "cg, damping = decay, risk of train": {**optimum, "risk": "train"},
        "exact, damping = decay, released weight": {**optimum, "parameters": "released", "solver": "exact"},
        "identity": {"solver": "identity"},
        "released": RELEASED,
    }


@dataclass(frozen=True)
class Start:
    """What each estimator predicted from one start, and what happened."""

    facts: dict[str, float]
    risks: list[float]
    """After a refit on each half."""
    moved: list[float]
    """Rise of the risk without each of the samples left out."""
    sums: dict[str, list[float]]
    """What an estimator says of each half: the sum of its scores over what was left out."""
    alone: dict[str, list[float]]
    """Its scores of the samples left out."""
    evidence: dict[str, dict[str, Any]]
    """Residual, products, damping, or the error of an estimator that gave no answer."""


def study(config: FidelityConfig) -> dict[str, Any]:
    """What each estimator is worth, over all starts; those that its folder holds already are not made again.

    Raises:
        SourceError: the data set is not there.
        DataError: no user has items enough.
    """
    events = fidelity_data.READERS[config.kind](Path(config.data))
    users = fidelity_data.popular(events, config.items)
    train, risk = fidelity_data.samples(users, history=config.history_length, targets=config.targets)
    found = [_kept(train, risk, config=config, seed=seed) for seed in range(config.starts)]
    return {
        "data": {
            "train": len(train),
            "risk": len(risk),
            "loss of popularity": fidelity_data.popularity_loss(train, risk, items=config.items),
        },
        "config": config.model_dump(),
        "starts": [start.facts for start in found],
        "estimators": {name: _summary(name, found) for name in found[0].evidence},
    }


def table(found: dict[str, Any]) -> str:
    """The result of a study as Markdown."""
    titles = ["lds", *(f"lds, gain over {other}" for other in BASELINES)]
    titles += ["leave one out", *(f"leave one out, gain over {other}" for other in BASELINES)]
    lines = [["estimator", "products", *titles], ["---"] * (2 + len(titles))]
    for name, summary in found["estimators"].items():
        products = max((evidence.get("products", 0) for evidence in summary["evidence"]), default=0)
        lines.append([name, str(products), *(_interval(summary.get(title)) for title in titles)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _interval(found: list[float] | None) -> str:
    return "" if found is None else "{:.2f} [{:.2f}, {:.2f}]".format(*found)


def _kept(train: Sequences, risk: Sequences, *, config: FidelityConfig, seed: int) -> Start:
    """The start's file, written first where it is missing."""
    settings = config.model_dump(exclude={"data", "folder", "starts"}) | {
        "seed": seed,
        "estimators": estimators(config.refit.decay),
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for part in (train.items, train.targets, risk.items, risk.targets):
        digest.update(part.tobytes())
    path = Path(config.folder) / f"start-{seed}-{digest.hexdigest()[:16]}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.part")
        unfinished.write_text(json.dumps(asdict(_start(train, risk, config=config, seed=seed))), encoding="utf-8")
        unfinished.rename(path)
    return Start(**json.loads(path.read_text("utf-8")))


def _start(train: Sequences, risk: Sequences, *, config: FidelityConfig, seed: int) -> Start:
    began = time.process_time()
    shape = Shape(config.items, width=config.width, layers=1, history_length=config.history_length)
    fit: Fit
    if config.training == "optimum":
        start = networks.build("sasrec", shape, seed=seed)
        fit = partial(fidelity.refit, start, config=config.refit)
        fitted = fidelity.refit(
            copy.deepcopy(start).double(), train, config.refit.model_copy(update={"steps": config.settling})
        )
    else:
        surrogate = SurrogateConfig(width=shape.width, layers=shape.layers, history_length=shape.history_length)
        fit = lambda some: training.train(some, risk, item_count=config.items, config=surrogate, seed=seed).model  # noqa: E731
        fitted = fit(train)
    scores, evidence = _scores(fitted, train, risk, decay=config.refit.decay, seed=seed)
    kept = fidelity.halves(len(train), subsets=config.halves, seed=100 + seed)
    risks = fidelity.half_risks(fit, train, risk, kept=kept)
    rows, moved = np.empty(0, np.int64), np.empty(0)
    if config.training == "optimum":
        rows = np.random.default_rng(200 + seed).choice(len(train), config.left_out, replace=False)
        gentle = config.refit.model_copy(update={"learning_rate": config.refit.learning_rate / 10})
        moved = fidelity.leave_one_out(partial(fidelity.refit, fitted, config=gentle), train, risk, rows=rows)
    return Start(
        facts={
            "train loss": fidelity.risk_of(fitted, train),
            "risk": fidelity.risk_of(fitted, risk),
            "risk over halves, mean": float(risks.mean()),
            "risk over halves, standard deviation": float(risks.std()),
            "slope of the objective left": fidelity.slope_left(fitted, train, config.refit),
            "cpu_s": round(time.process_time() - began, 1),
        },
        risks=risks.tolist(),
        moved=moved.tolist(),
        sums={name: fidelity.left_out_sums(values, kept).tolist() for name, values in scores.items()},
        alone={name: values[rows].tolist() for name, values in scores.items()},
        evidence=evidence,
    )


def _scores(
    fitted: Any, train: Sequences, risk: Sequences, *, decay: float, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """Scores of each estimator that gave an answer, and the evidence of all."""
    scores = {"random": np.random.default_rng(300 + seed).standard_normal(len(train))}
    evidence: dict[str, dict[str, Any]] = {"random": {}}
    for name, changes in estimators(decay).items():
        config = InfluenceConfig(**{"most_steps": 3000, **changes})
        try:
            found = influence.score(fitted, train, train if config.risk == "train" else risk, config=config, seed=seed)
        except NumericsError as error:
            evidence[name] = {"error": str(error)}
            continue
        scores[name] = found.scores
        evidence[name] = {
            "residual": found.residual,
            "products": found.products,
            "damping": found.damping,
            "top eigenvalue": found.top_eigenvalue,
            "alignment of q and v": found.alignment,
        }
        log.info("start %d, %s: %s", seed, name, evidence[name])
    return scores, evidence


def _summary(name: str, starts: list[Start]) -> dict[str, Any]:
    """Mean correlations over the starts, with intervals, and the paired gains over each baseline."""
    summary: dict[str, Any] = {"evidence": [start.evidence[name] for start in starts]}
    if any(name not in start.sums for start in starts):
        return summary  # it failed from one of the starts; its evidence says why
    for title, predicted, happened in (
        ("lds", lambda start: start.sums, lambda start: start.risks),
        ("leave one out", lambda start: start.alone, lambda start: start.moved),
    ):
        if not happened(starts[0]):
            continue
        pairs = [(np.array(predicted(start)[name]), np.array(happened(start))) for start in starts]
        summary[title] = _rounded(fidelity.mean_rank_correlation(pairs, seed=0))
        for other in BASELINES:
            if other != name and all(other in predicted(start) for start in starts):
                against = [np.array(predicted(start)[other]) for start in starts]
                gain = fidelity.mean_rank_correlation(pairs, seed=0, baselines=against)
                summary[f"{title}, gain over {other}"] = _rounded(gain)
    return summary


def _rounded(found: Correlation) -> list[float]:
    return [round(value, 3) for value in (found.value, found.low, found.high)]
