"""Tonight's scores from those of an earlier night: only changed samples are computed (see carried.py)."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from dealrec_core.influence import operators
from dealrec_core.influence.carried import Carried, Change, followed, widened
from dealrec_core.influence.curvature import Curvature
from dealrec_core.influence.inverse import Solution
from dealrec_core.influence.operators import Problem
from dealrec_core.influence.parameters import choose
from dealrec_core.influence.scores import InfluenceResult, result_of, score, solve
from dealrec_core.language.progress import Progress, silent
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.influence import InfluenceConfig


@dataclass(frozen=True)
class Earlier:
    """Scores and sums of an earlier night, and the difference between its samples and tonight's."""

    model: Any
    """The network at whose weights they were computed; its items are the first of tonight's."""
    carried: Carried
    scores: np.ndarray
    """I(s) of that night for tonight's train samples (N,), NaN for new samples."""
    train: Change
    risk: Change


@dataclass(frozen=True)
class Continued:
    """Tonight's scores and how they were computed."""

    result: InfluenceResult
    model: Any
    """The network whose weights the scores belong to: tonight's, or still the earlier one."""
    scored: int
    """Number of train samples whose gradient product was computed."""
    why: str
    """Says what was reused, and the figure that decided it."""


def score_on(
    earlier: Earlier | str,
    model: Any,
    train: Sequences,
    risk: Sequences,
    *,
    config: InfluenceConfig,
    seed: int,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> Continued:
    """Scores and errors as of `influence.score`, at the weights of the earlier scores where these can be followed.

    earlier: an earlier night's scores, or the reason why there are none.
    """

    def anew(why: str) -> Continued:
        result = score(model, train, risk, config=config, seed=seed, device=device, progress=progress)
        return Continued(result, model, len(train), f"all computed: {why}")

    if isinstance(earlier, str):
        return anew(earlier)
    reference = _with_new_items(earlier.model, model)
    if reference is None:
        return anew("the network is another")
    carried = earlier.carried
    if model.item_count > earlier.model.item_count:
        old, new = (choose(network, config.parameters) for network in (earlier.model, reference))
        carried = widened(carried, old=old, new=new)
    before = operators.problem(reference, carried.loss, config=config, device=device)
    following = followed(before, carried, train=earlier.train, risk=earlier.risk, config=config)
    if following is None:
        return anew(f"no target of the risk is within reach {config.reach} of the earlier surrogate")
    carried = following
    if carried.residual <= config.most_residual:
        scores, scored = _fresh_scores(before, carried, earlier, train)
        why, products = f"the earlier q is used again: its residual is {carried.residual:.1e}", 0
    else:
        why = f"q corrected: its residual was {carried.residual:.1e}, more than {config.most_residual:g}"
        carried, scores, products = _corrected(before, carried, train, config=config, seed=seed)
        scored = len(train)
    solution = Solution(carried.q, carried.residual, products, carried.damping, carried.top)
    return Continued(
        result_of(scores, solution, carried.v, risk_count=carried.risk_count, carried=carried),
        reference,
        scored,
        why,
    )


def _with_new_items(earlier: Any, tonight: Any) -> Any | None:
    """The earlier weights in a network of tonight's size, with tonight's new items; None where the networks do not match."""
    reference = copy.deepcopy(tonight)
    theirs, ours = (dict(network.named_parameters()) for network in (earlier, reference))
    if type(earlier) is not type(tonight) or theirs.keys() != ours.keys() or earlier.item_count > tonight.item_count:
        return None
    buffers = dict(tonight.named_buffers())
    if any(not torch.equal(value, buffers[name].to(value)) for name, value in earlier.named_buffers()):
        return None  # buffers, such as a graph, are part of the scored function
    with torch.no_grad():
        for name, value in theirs.items():
            if any(small > large for small, large in zip(value.shape, ours[name].shape, strict=True)):
                return None
            ours[name][tuple(slice(size) for size in value.shape)] = value.to(ours[name])
    return reference


def _fresh_scores(problem: Problem, carried: Carried, earlier: Earlier, train: Sequences) -> tuple[np.ndarray, int]:
    """Earlier scores, divided by tonight's number of samples, and scores of new samples; and the number of new samples."""
    scores = earlier.scores * (earlier.carried.train_count / len(train))
    rows = np.flatnonzero(np.isnan(scores))
    if len(rows):
        scores[rows] = operators.directional(problem, train.take(rows), carried.q) / len(train)
    return scores, len(rows)


def _corrected(
    problem: Problem, carried: Carried, train: Sequences, *, config: InfluenceConfig, seed: int
) -> tuple[Carried, np.ndarray, int]:
    """The sums with the corrected q, all scores along it, and the number of products spent."""
    goal = config.tolerance / carried.residual
    settings = config.model_copy(
        update={"damping": carried.damping, "damping_rule": "absolute", "tolerance": min(goal, 0.99)}
    )
    correction = solve(Curvature(problem, train, settings.curvature), carried.remainder, config=settings, seed=seed)
    assert correction.remainder is not None
    image = carried.image + carried.remainder - correction.remainder - carried.damping * correction.q
    better = replace(carried, q=carried.q + correction.q, image=image)
    return better, operators.directional(problem, train, better.q) / len(train), correction.products
