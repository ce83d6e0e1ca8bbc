"""A warm start that has lost too much is answered by a training from scratch; the better of the two is kept."""

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from dealrec_core.language.progress import Progress, silent
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.surrogate import SurrogateConfig
from dealrec_core.surrogate import training
from dealrec_core.surrogate.training import Trained

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Followed:
    """The surrogate that is kept, and what the warm start was measured by."""

    trained: Trained
    reference: float
    """Validation NDCG@10 at the last training that was measured against one from scratch: the next nights' measure."""
    lost: float
    """Share of the earlier reference that the warm start did not reach; negative where it reached more."""
    scratch: Trained | None
    """The training from scratch that drift forced, None where it did not."""

    @property
    def is_warm(self) -> bool:
        """Whether the warm start is the one that is kept."""
        return self.trained is not self.scratch


def follow(
    train: Sequences,
    validation: Sequences,
    *,
    initial: Any,
    reference: float | None,
    item_count: int,
    config: SurrogateConfig,
    seed: int,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> Followed:
    """Trains on from `initial`, and from scratch too where the result lies too far below `reference`.

    Drift is measured from the last reference, not from last night: many small losses add up. Both trainings are compared
    on the same validation samples; the better one is kept and is the new reference, so one lasting change forces one retrain.
    """
    settings: dict[str, Any] = {"config": config, "seed": seed, "device": device, "progress": progress}
    fit = partial(training.train, train, validation, item_count=item_count, **settings)
    warm = fit(initial=initial)
    if not reference:
        return Followed(warm, warm.best_ndcg, 0.0, None)
    lost = 1 - warm.best_ndcg / reference
    if lost <= config.drift_tolerance:
        return Followed(warm, reference, lost, None)
    log.info("surrogate: the warm start lost %.0f%% of NDCG@10 %.4f: training from scratch", 100 * lost, reference)
    scratch = fit()
    better = scratch if scratch.best_ndcg > warm.best_ndcg else warm
    return Followed(better, better.best_ndcg, lost, scratch)
