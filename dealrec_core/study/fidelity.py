"""Do influence scores predict what retraining does? Every estimator against the same refits of a small SASRec.

On the popular items of MovieLens-small or Games, from several starts: the linear datamodelling score over random halves
and the rank correlation with leaving samples out one by one (dealrec_core/study/refits.py), with intervals, and the
paired gain over estimators that know no curvature or nothing at all. The refits of a start are one file, the estimators'
predictions another: a killed study continues, and more starts or other estimators cost no refit twice.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from dealrec_core import influence
from dealrec_core.errors import NumericsError
from dealrec_core.evaluation.comparison import Difference
from dealrec_core.language import whole
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.influence import InfluenceConfig
from dealrec_core.settings.section import Section
from dealrec_core.settings.surrogate import SurrogateConfig
from dealrec_core.study import fidelity_data, refits
from dealrec_core.study.refits import Fit, RefitConfig
from dealrec_core.surrogate import networks, training
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
BASELINES = ("identity", "released", "random")
FORMAT = 2
"""Format of finished starts; it changes where the same settings come to mean something else."""


class FidelityConfig(Section):
    """The small problem and its refits: the settings file of `dealrec study fidelity`."""

    kind: Literal["movielens", "released"]
    """movielens: ratings.csv of MovieLens, ratings of 4 and more; released: the train period of DEALRec's release."""
    data: str
    """Folder of the data set."""
    folder: str
    """Folder of finished starts."""
    items: int = Field(default=64, ge=2)
    """Most popular items; all others are dropped from the log."""
    history_length: int = Field(default=5, ge=2)
    """Items of every history, exactly; the released way takes the last of them for the target."""
    targets: int = Field(default=20, ge=1)
    """Most train samples of a user, taken from the latest; the user's last item is the risk."""
    width: int = Field(default=16, ge=2)
    """Width of the SASRec of one block."""
    starts: int = Field(default=3, ge=1)
    """Initial weights; each has its own halves and its own samples to leave out."""
    halves: int = Field(default=200, ge=3)
    """Refits of each start on a random half of the samples."""
    left_out: int = Field(default=60, ge=3)
    """Refits of each start without one sample."""
    training: Literal["optimum", "nightly"] = "optimum"
    """optimum: `refit`, near the optimum that the mathematics supposes; nightly: as a night trains its surrogate, with
    dropout, mini-batches and early stopping on the risk samples, but each sample is one prediction: a night's windows
    would predict what was left out where it stands in later histories. Leaving out single samples is skipped here: training
    noise is larger than their effect."""
    trainings: int = Field(default=1, ge=1)
    """Trainings of each half as a night trains, each with its own seed: the risk of a half is their mean. The optimum involves
    no chance and takes one."""
    refit: RefitConfig = RefitConfig()
    """Refits to the optimum, in float32. Leaving samples out starts from the fitted weights, in float64, at a tenth of the rate."""
    settling: int = Field(default=600, ge=1)
    """Steps to the fitted weights, whose scores are studied: more than a refit takes, in float64."""


def estimators(decay: float) -> dict[str, dict[str, Any]]:
    """Settings of each estimator, as changes of the defaults; the random estimator has no settings and is not listed."""
    optimum: dict[str, Any] = {"damping": decay, "damping_rule": "absolute"}
    multiples, dampings, shares = (0.1, 0.3, 1.0, 3.0, 10.0), (1e-3, 1e-2, 1e-1, 1.0), (1e-3, 1e-2, 1e-1)
    return {
        "cg, default settings": {},
        "cg, damping = decay": optimum,
        **{f"cg, damping {times:g} of mean": {"damping": times, "damping_rule": "trace"} for times in multiples},
        **{f"cg, damping {value:g}": {"damping": value, "damping_rule": "absolute"} for value in dampings},
        **{f"cg, damping {share:g} of top": {"damping": share, "damping_rule": "top"} for share in shares},
        "cg, Hessian, damping 0.1": {"damping": 0.1, "damping_rule": "absolute", "curvature": "hessian"},
        "lissa, default damping, residual 0.1": {"solver": "lissa", "tolerance": 0.1},
        "cg, damping = decay, residual 0.1": {**optimum, "tolerance": 0.1},
        "cg, damping = decay, risk of train": {**optimum, "risk": "train"},
        "exact, damping = decay, released weight": {**optimum, "parameters": "released", "solver": "exact"},
        "identity": {"solver": "identity"},
        "released": RELEASED,
    }


@dataclass(frozen=True)
class Start:
    """Risks that the refits of one start led to, and what each estimator predicted for them."""

    facts: dict[str, float]
    risks: list[float]
    """Risk after a refit on each half."""
    moved: list[float]
    """Rise of the risk without each of the samples left out."""
    sums: dict[str, list[float]]
    """For each half: the sum of the estimator's scores over the samples left out."""
    alone: dict[str, list[float]]
    """Scores of the samples that are left out one by one."""
    evidence: dict[str, dict[str, Any]]
    """Residual, products, damping, or the error of an estimator that gave no answer."""


def study(config: FidelityConfig) -> dict[str, Any]:
    """Figures of each estimator over all starts; starts that the folder holds already are not computed again.

    Raises:
        SourceError: the data set does not exist.
        DataError: no user has enough items.
    """
    events = fidelity_data.READERS[config.kind](Path(config.data))
    users = fidelity_data.popular(events, config.items)
    train, risk = fidelity_data.samples(users, history=config.history_length, targets=config.targets)
    starts = [_start(train, risk, config=config, seed=seed) for seed in range(config.starts)]
    return {
        "data": {
            "train": len(train),
            "risk": len(risk),
            "loss of popularity": fidelity_data.popularity_loss(train, risk, items=config.items),
        },
        "config": config.model_dump(),
        "starts": [start.facts for start in starts],
        "estimators": {name: _summary(name, starts) for name in starts[0].evidence},
    }


def table(result: dict[str, Any]) -> str:
    """The result of a study as Markdown."""
    titles = ["lds", *(f"lds, gain over {other}" for other in BASELINES)]
    titles += ["leave one out", *(f"leave one out, gain over {other}" for other in BASELINES)]
    lines = [["estimator", "products", *titles], ["---"] * (2 + len(titles))]
    for name, summary in result["estimators"].items():
        products = max((evidence.get("products", 0) for evidence in summary["evidence"]), default=0)
        lines.append([name, str(products), *(_cell(summary.get(title)) for title in titles)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(interval: list[float] | None) -> str:
    return "" if interval is None else "{:.2f} [{:.2f}, {:.2f}]".format(*interval)


def _start(train: Sequences, risk: Sequences, *, config: FidelityConfig, seed: int) -> Start:
    """The start of that seed, read from its two files; they are written first where they are missing."""
    settings = config.model_dump(exclude={"data", "folder", "starts"}) | {"seed": seed, "format": FORMAT}
    settings["samples"] = hashlib.sha256(
        b"".join(part.tobytes() for part in (train.items, train.targets, risk.items, risk.targets))
    ).hexdigest()
    # The batch size changes no score.
    by_estimator = {
        name: InfluenceConfig(**changes).model_dump(exclude={"batch_tokens"})
        for name, changes in estimators(config.refit.decay).items()
    }
    folder, all_settings = Path(config.folder), {**settings, "estimators": by_estimator}
    refits = _stored(folder, f"refits-{seed}", settings, partial(_refits, train, risk, config=config, seed=seed))
    predict = partial(_predictions, train, risk, config=config, seed=seed)
    return Start(**refits, **_stored(folder, f"scores-{seed}", all_settings, predict))


def _stored(folder: Path, name: str, settings: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Content of the file that belongs to these settings; it is made where it is missing."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    path = folder / f"{name}-{digest[:16]}.json"
    if not path.exists():
        whole.write(path, json.dumps(make()).encode())
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def _refits(train: Sequences, risk: Sequences, *, config: FidelityConfig, seed: int) -> dict[str, Any]:
    """The facts, risks and rises of a `Start`."""
    began = time.process_time()
    fitted = _fitted(train, risk, config=config, seed=seed)
    learnt = _halves(train, config=config, seed=seed)
    by_training = np.stack(
        [refits.half_risks(fit, train, risk, learnt=learnt) for fit in _fits(train, risk, config=config, seed=seed)]
    )
    risks = by_training.mean(0)
    moved = np.empty(0)
    if config.training == "optimum":
        gentle = config.refit.model_copy(update={"learning_rate": config.refit.learning_rate / 10})
        again = partial(refits.refit, fitted, config=gentle)
        moved = refits.leave_one_out(again, train, risk, rows=_left_out(train, config=config, seed=seed))
    return {
        "facts": {
            "train loss": refits.risk_of(fitted, train),
            "risk": refits.risk_of(fitted, risk),
            "risk over halves, mean": float(risks.mean()),
            "risk over halves, standard deviation": float(risks.std()),
            **_agreement(by_training),
            "slope of the objective left": refits.slope_left(fitted, train, config.refit),
            "cpu_s": round(time.process_time() - began, 1),
        },
        "risks": risks.tolist(),
        "moved": moved.tolist(),
    }


def _predictions(train: Sequences, risk: Sequences, *, config: FidelityConfig, seed: int) -> dict[str, Any]:
    """The sums, single scores and evidence of a `Start`."""
    fitted = _fitted(train, risk, config=config, seed=seed)
    scores, evidence = _scores(fitted, train, risk, decay=config.refit.decay, seed=seed)
    learnt, rows = _halves(train, config=config, seed=seed), _left_out(train, config=config, seed=seed)
    sums = {name: refits.left_out_sums(values, learnt).tolist() for name, values in scores.items()}
    alone = {name: values[rows].tolist() for name, values in scores.items()}
    return {"sums": sums, "alone": alone, "evidence": evidence}


def _network(config: FidelityConfig, *, seed: int) -> Any:
    shape = Shape(config.items, width=config.width, layers=1, history_length=config.history_length)
    return networks.build("sasrec", shape, seed=seed)


def _agreement(risks: np.ndarray) -> dict[str, float]:
    """Rank correlation of two trainings of the same halves, and by Spearman-Brown that of the means of T trainings with those of
    T others: no estimator's expected correlation is above the root of the latter. risks: (T, subsets)."""
    count = len(risks)
    if count == 1:
        return {}
    pairs = [float(refits.spearman(*pair)) for pair in combinations(risks, 2)]
    one = float(np.mean(pairs))
    above = max(one, 0.0)  # chance alone also goes below 0
    return {"agreement of two trainings": one, "agreement of the means": count * above / (1 + (count - 1) * above)}


def _fits(train: Sequences, risk: Sequences, *, config: FidelityConfig, seed: int) -> list[Fit]:
    """Ways to fit a half: one at the optimum, or one for each training."""
    if config.training == "optimum":
        return [partial(refits.refit, _network(config, seed=seed), config=config.refit)]
    return [
        partial(_as_a_night, risk=risk, config=config, seed=seed + 1000 * number) for number in range(config.trainings)
    ]


def _as_a_night(train: Sequences, *, risk: Sequences, config: FidelityConfig, seed: int) -> Any:
    surrogate = SurrogateConfig(width=config.width, layers=1, history_length=config.history_length)
    return training.train(train, risk, item_count=config.items, config=surrogate, seed=seed, alone=True).model


def _fitted(train: Sequences, risk: Sequences, *, config: FidelityConfig, seed: int) -> Any:
    """The network whose scores are studied: it is fitted to all samples."""
    if config.training == "nightly":
        return _as_a_night(train, risk=risk, config=config, seed=seed)
    settling = config.refit.model_copy(update={"steps": config.settling})
    return refits.refit(_network(config, seed=seed).double(), train, settling)


def _halves(train: Sequences, *, config: FidelityConfig, seed: int) -> np.ndarray:
    return refits.halves(len(train), subsets=config.halves, seed=100 + seed)


def _left_out(train: Sequences, *, config: FidelityConfig, seed: int) -> np.ndarray:
    """Rows of the samples that are left out one by one; none where training noise is larger than their effect."""
    count = config.left_out if config.training == "optimum" else 0
    return np.random.default_rng(200 + seed).choice(len(train), count, replace=False)


def _scores(
    fitted: Any, train: Sequences, risk: Sequences, *, decay: float, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """Scores of each estimator that did not fail, and the evidence of every estimator."""
    scores = {"random": np.random.default_rng(300 + seed).standard_normal(len(train))}
    evidence: dict[str, dict[str, Any]] = {"random": {}}
    for name, changes in estimators(decay).items():
        config = InfluenceConfig(**{"most_steps": 3000, **changes})
        try:
            result = influence.score(fitted, train, train if config.risk == "train" else risk, config=config, seed=seed)
        except NumericsError as error:
            evidence[name] = {"error": str(error)}
            continue
        scores[name] = result.scores
        evidence[name] = {
            "residual": result.residual,
            "products": result.products,
            "damping": result.damping,
            "top eigenvalue": result.top_eigenvalue,
            "alignment of q and v": result.alignment,
        }
        log.info("start %d, %s: %s", seed, name, evidence[name])
    return scores, evidence


def _summary(name: str, starts: list[Start]) -> dict[str, Any]:
    """Mean correlations over the starts, with intervals, and the paired gains over each baseline."""
    summary: dict[str, Any] = {"evidence": [start.evidence[name] for start in starts]}
    if any(name not in start.sums for start in starts):
        return summary  # the estimator failed in one of the starts; its evidence gives the error
    for title, predicted, happened in (
        ("lds", lambda start: start.sums, lambda start: start.risks),
        ("leave one out", lambda start: start.alone, lambda start: start.moved),
    ):
        if not happened(starts[0]):
            continue
        pairs = [(np.array(predicted(start)[name]), np.array(happened(start))) for start in starts]
        summary[title] = _rounded(refits.mean_rank_correlation(pairs, seed=0))
        for other in BASELINES:
            if other != name and all(other in predicted(start) for start in starts):
                against = [np.array(predicted(start)[other]) for start in starts]
                gain = refits.mean_rank_correlation(pairs, seed=0, baselines=against)
                summary[f"{title}, gain over {other}"] = _rounded(gain)
    return summary


def _rounded(correlation: Difference) -> list[float]:
    return [round(value, 3) for value in (correlation.mean, correlation.low, correlation.high)]
