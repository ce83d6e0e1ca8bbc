"""Cost of influence on Games, in units of one plain forward pass: `python benchmarks/influence.py [--only PART ...]`.

Side by side in one process, in CPU seconds of its one thread: 1 = the mean loss of all samples over the same unpadded
batches, without gradients, for the same loss, before and after each thing that is timed. The surrogate is trained for a
moment first. Writes each part into benchmarks/results/influence.json with the machine's facts; parts measured before are kept.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.machine import machine
from dealrec_core import influence
from dealrec_core.influence import continued, operators
from dealrec_core.influence.carried import Change, followed
from dealrec_core.influence.continued import Earlier
from dealrec_core.influence.operators import Problem
from dealrec_core.influence.parameters import call
from dealrec_core.influence.scores import problem_of
from dealrec_core.samples.rolling_hash import spread
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.influence import InfluenceConfig
from dealrec_core.settings.surrogate import SurrogateConfig
from dealrec_core.surrogate import networks
from dealrec_core.surrogate.sasrec import Shape
from dealrec_core.surrogate.training import train

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "influence.json"
HISTORY_LENGTH = 50
TOLERANCE = 1e-3
"""The residual at which the figures of docs/decisions/influence.md were taken; a night stops earlier."""
LAYER = "layer:blocks.1.attention.output"


def main() -> None:
    """Trains, measures, prints and writes the results."""
    options = _options()
    torch.set_num_threads(1)
    data = (ROOT / os.environ.get("DEALREC_DATA", "../shared/data")).resolve() / "games"
    samples, recent, item_count = games(data)
    if options.peak:
        print(_peak_mb(samples, recent, item_count, times=options.peak))
        return
    surrogate = SurrogateConfig(epochs=options.epochs, negatives=1024)
    model = train(samples, recent, item_count=item_count, config=surrogate, seed=0).model
    _write("surrogate", surrogate.model_dump())
    sizes = {"samples": len(samples), "tokens": len(samples.items), "items": item_count, "risk": len(recent)}
    _write("data", sizes)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        f"{loss} {which}": partial(_measure, model, samples, recent, loss=loss, which=which)
        for loss in ("sampled", "softmax")
        for which in ("all", LAYER)
    }
    parts["repeatability"] = lambda: _repeatability(model, samples, recent)
    parts["memory"] = _memory
    parts["a night with 1% new"] = lambda: _next_night(model, samples, recent, surrogate)
    for name in options.only or list(parts):
        found = parts[name]()
        print(f"{name}: {json.dumps(found)}", flush=True)
        _write(name, {"machine": machine(), **found})


def _write(part: str, found: dict[str, Any]) -> None:
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(known | {part: found}, indent=1) + "\n", encoding="utf-8")


def games(folder: Path) -> tuple[Sequences, Sequences, int]:
    """One train sample per user with two or more train items, one risk sample per user with a validation item."""
    train, valid = (
        [np.array(line.split()[1:], dtype=np.int64) - 1 for line in (folder / name).read_text().splitlines()]
        for name in ("sequential_train.txt", "sequential_valid.txt")
    )
    samples = _sequences([(items[:-1], items[-1]) for items in train if len(items) > 1])
    recent = _sequences(
        [(items, after[0]) for items, after in zip(train, valid, strict=True) if len(items) * len(after)]
    )
    count = 1 + max(items.max() for items in (*train, *valid) if len(items))
    return samples, recent, int(count)


@torch.no_grad()
def _mean_loss(problem: Problem, samples: Sequences) -> float:
    total, size = 0.0, max(1, 2**20 // problem.loss.width)
    table = call(problem.table, {})
    for _, histories, targets in operators.groups(problem, samples):
        state = call(problem.last, {}, histories, table)
        for part, wanted in zip(state.split(size), targets.split(size), strict=True):
            total += problem.loss.values(part, table, wanted).double().sum().item()
    return total / len(samples)


def _measure(model: Any, samples: Sequences, recent: Sequences, *, loss: str, which: str) -> dict[str, Any]:
    config = InfluenceConfig.model_validate({"loss": loss, "parameters": which, "tolerance": TOLERANCE})
    problem = problem_of(model, samples, config=config, seed=0)
    direction = torch.randn(problem.parameters.size, generator=torch.Generator().manual_seed(0))
    steps: dict[str, Callable[[], Any]] = {
        "forward": lambda: _mean_loss(problem, samples),
        "scores given q": lambda: operators.directional(problem, samples, direction),
        "gradient": lambda: operators.gradient(problem, samples),
        "Gauss-Newton product": lambda: operators.gauss_newton(problem, samples, direction),
    }
    forward = steps.pop("forward")
    ratios = {name: _in_passes(step, forward) for name, step in steps.items()}
    results = []
    stage = _in_passes(lambda: results.append(influence.score(model, samples, recent, config=config, seed=0)), forward)
    each = _in_passes(_backward_per_sample(problem, samples, count=200), forward) * len(samples) / 200
    result = results[0]
    return {
        "forward_s": round(_seconds(forward), 3),
        **{name: round(ratio, 2) for name, ratio in ratios.items()},
        "damping": f"{config.damping} {config.damping_rule}",
        "negatives": config.negatives if loss == "sampled" else 0,
        "whole stage": round(stage, 2),
        "products over all samples": result.products,
        "residual": float(f"{result.residual:.2e}"),
        "damping over the top eigenvalue": float(f"{result.damping / result.top_eigenvalue:.1e}"),
        "alignment of q and v": round(result.alignment, 4),
        "one backward per sample": round(each, 1),
        "times faster than one backward per sample": round(each / ratios["scores given q"], 1),
    }


def _in_passes(step: Callable[[], Any], forward: Callable[[], Any]) -> float:
    """CPU seconds of a step over those of the plain passes just before and just after it."""
    before, spent, after = _seconds(forward), _seconds(step), _seconds(forward)
    return 2 * spent / (before + after)


def _backward_per_sample(problem: Problem, samples: Sequences, *, count: int) -> Callable[[], None]:
    """One plain backward and one inner product for each of some random samples."""
    model = problem.last.model
    weights = tuple(problem.parameters.values.values())
    rows = np.random.default_rng(0).choice(len(samples), count, replace=False)
    batches = [batch for row in rows for batch in samples.take(np.array([row])).batches(HISTORY_LENGTH)]
    directions = [torch.ones_like(weight) for weight in weights]

    def step() -> None:
        for _, histories, targets in batches:
            table = model.item_table()
            value = problem.loss.values(model.last(histories, table), table, targets).sum()
            parts = torch.autograd.grad(value, weights)
            sum((part * direction).sum() for part, direction in zip(parts, directions, strict=True))

    return step


def _repeatability(model: Any, samples: Sequences, recent: Sequences) -> dict[str, dict[str, float]]:
    """Two seeds of everything random; the softmax has nothing random."""
    runs = {
        "sampled, all weights": InfluenceConfig(loss="sampled", tolerance=TOLERANCE),
        f"softmax, {LAYER}": InfluenceConfig(loss="softmax", parameters=LAYER, tolerance=TOLERANCE),
    }
    found = {}
    for name, config in runs.items():
        first, second = (influence.score(model, samples, recent, config=config, seed=seed).scores for seed in (1, 2))
        found[name] = _agreement(first, second)
    return found


def _next_night(model: Any, samples: Sequences, recent: Sequences, surrogate: SurrogateConfig) -> dict[str, Any]:
    """1% of the train samples are new; of the risk samples 1% are new and 1% are gone. All weights, sampled loss."""
    config = InfluenceConfig(loss="sampled", tolerance=TOLERANCE)
    random = np.random.default_rng(0)
    new = np.sort(random.choice(len(samples), len(samples) // 100, replace=False))
    old = np.delete(np.arange(len(samples)), new)
    slid = len(recent) // 100
    risk_then, risk_now = (recent.take(np.arange(len(recent) - slid) + start) for start in (0, slid))
    start = time.process_time()
    before = influence.score(model, samples.take(old), risk_then, config=config, seed=0)
    whole = time.process_time() - start
    carried = before.carried
    assert carried is not None
    known = np.full(len(samples), np.nan)
    known[old] = before.scores
    nothing = samples.take(np.arange(0))
    earlier = Earlier(
        model=model,
        carried=carried,
        scores=known,
        train=Change(samples.take(new), nothing),
        risk=Change(recent.take(np.arange(len(recent) - slid, len(recent))), recent.take(np.arange(slid))),
    )
    problem = operators.problem(model, carried.loss, config=config, device="cpu")
    unit = _seconds(lambda: _mean_loss(problem, samples))
    v_s = _seconds(lambda: operators.gradient(problem, risk_now))
    product_s = _seconds(lambda: operators.gauss_newton(problem, samples, carried.q))
    follow_s = _seconds(lambda: followed(problem, carried, train=earlier.train, risk=earlier.risk, config=config))
    trained = train(samples, recent, item_count=model.item_count, config=surrogate, seed=1, initial=model)
    found: dict[str, Any] = {
        "v and Gq of all, in forward passes": round((v_s + product_s) / unit, 2),
        "v and Gq carried on, in forward passes": round(follow_s / unit, 3),
        "share of a full pass": round(follow_s / (v_s + product_s), 4),
        "share of a full pass, four times the samples": _share_at(4, problem, samples, risk_now, earlier, config),
        "stage of the first night": round(whole / unit, 1),
    }
    for name, most in (("q kept", 0.9), ("q corrected", 0.0)):
        own = config.model_copy(update={"most_residual": most})
        start = time.process_time()
        again = continued.score_on(earlier, model, samples, risk_now, config=own, seed=0)
        found[f"stage, {name}"] = round((time.process_time() - start) / unit, 2)
        found[f"products, {name}"] = again.result.products
        found[f"residual, {name}"] = float(f"{again.result.residual:.2e}")
        found[f"samples scored, {name}"] = again.scored
        if most:
            kept = again.result.scores
        else:
            found["kept against corrected"] = _agreement(kept, again.result.scores)
    tonight = operators.problem(trained.model, carried.loss, config=config, device="cpu")
    found["movement of a warm start"] = {
        "epochs": trained.epochs,
        "best epoch": trained.best.epoch,
        "1 - spearman": round(_moved(problem, tonight, samples, carried.q), 4),
    }
    return found


def _moved(reference: Problem, tonight: Problem, samples: Sequences, q: torch.Tensor) -> float:
    """1 − Spearman's correlation of the scores of 256 samples along q at the weights of both networks."""
    some = spread(samples, 256)
    before, after = (operators.directional(problem, some, q) for problem in (reference, tonight))
    return 1 - float(spearmanr(before, after).statistic)


def _share_at(
    times: int, problem: Problem, samples: Sequences, risk: Sequences, earlier: Earlier, config: InfluenceConfig
) -> float:
    """The measurement with every sample repeated, so that the fixed cost of a batch weighs less."""

    def more(some: Sequences) -> Sequences:
        return some.take(np.repeat(np.arange(len(some)), times))

    q = earlier.carried.q
    many, aims = more(samples), more(risk)
    whole = _seconds(lambda: (operators.gradient(problem, aims), operators.gauss_newton(problem, many, q)))
    train, changed = (Change(more(each.added), more(each.removed)) for each in (earlier.train, earlier.risk))
    part = _seconds(lambda: followed(problem, earlier.carried, train=train, risk=changed, config=config))
    return round(part / whole, 4)


def _agreement(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    best = [set(np.argsort(-scores, kind="stable")[:1024]) for scores in (first, second)]
    return {
        "spearman": round(float(spearmanr(first, second).statistic), 4),
        "shared of top 1024": round(len(best[0] & best[1]) / 1024, 4),
    }


def _memory() -> dict[str, Any]:
    """Peak resident memory of the whole stage in fresh processes: a tenth of Games, which fills few batches of one length, all of
    it, and all of it ten times."""
    tenth, once, ten_times = (
        float(subprocess.run([sys.executable, __file__, "--peak", str(times)], capture_output=True, check=True).stdout)
        for times in (1, 10, 100)
    )
    peaks = {"peak MB, a tenth of the samples": tenth, "peak MB, all": once, "peak MB, all ten times": ten_times}
    return {
        **peaks,
        "ratio, all to a tenth": round(once / tenth, 3),
        "ratio, ten times to all": round(ten_times / once, 3),
    }


def _peak_mb(samples: Sequences, recent: Sequences, item_count: int, *, times: int) -> float:
    """Memory of the whole stage on `times` tenths of the samples, an untrained network."""
    model = networks.build("sasrec", Shape(item_count), seed=0)
    order = np.random.default_rng(0).permutation(len(samples))
    some = samples.take(np.resize(order, len(samples) * times // 10))
    config = InfluenceConfig(loss="sampled", damping=0.1, damping_rule="top", tolerance=TOLERANCE)
    influence.score(model, some, recent.take(np.arange(1000)), config=config, seed=0)
    # Not ru_maxrss, which starts from what the parent had at the fork.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024, 1)


def _sequences(pairs: list[tuple[np.ndarray, Any]]) -> Sequences:
    histories = [history[-HISTORY_LENGTH:] for history, _ in pairs]
    offsets = np.concatenate([[0], np.cumsum([len(history) for history in histories])])
    return Sequences(np.concatenate(histories), offsets, np.array([int(target) for _, target in pairs]))


def _seconds(step: Callable[[], Any]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--only", nargs="+", help="parts, such as 'sampled all', repeatability or memory")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
