"""Training from scratch where a warm start has lost too much accuracy; the better of the two networks wins."""

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from dealrec_core.language.progress import Progress, silent
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.surrogate import SurrogateConfig
from dealrec_core.surrogate import training
from dealrec_core.surrogate.training import Trained

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Followed:
    """The better surrogate, and the figures by which the warm start was judged."""

    trained: Trained
    reference: float
    """Validation NDCG@10 of the last training that was compared with one from scratch; later nights are compared with it."""
    lost: float
    """Share of the earlier reference by which the warm start falls short; negative where it exceeds the reference."""
    scratch: Trained | None
    """The training from scratch that drift forced; None where drift forced none."""


def follow(
    train: Sequences,
    validation: Sequences,
    *,
    initial: Any,
    reference: float | None,
    new_rows: np.ndarray | None = None,
    item_count: int,
    config: SurrogateConfig,
    seed: int,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> Followed:
    """Trains on from `initial` (with `new_rows` as `training.train` has them), and from scratch where that falls too far below `reference`.

    Drift is measured from the last reference, not from last night: many small losses add up. Both trainings are compared
    on the same validation samples; the better one is the new reference, so that one lasting change forces one retraining.
    """
    settings: dict[str, Any] = {"config": config, "seed": seed, "device": device, "progress": progress}
    fit = partial(training.train, train, validation, item_count=item_count, **settings)
    warm = fit(initial=initial, new_rows=new_rows)
    if not reference:
        return Followed(warm, warm.best.ndcg, 0.0, None)
    lost = 1 - warm.best.ndcg / reference
    if lost <= config.drift_tolerance:
        return Followed(warm, reference, lost, None)
    log.info("surrogate: the warm start lost %.0f%% of NDCG@10 %.4f: training from scratch", 100 * lost, reference)
    scratch = fit()
    better = scratch if scratch.best.ndcg > warm.best.ndcg else warm
    return Followed(better, better.best.ndcg, lost, scratch)
