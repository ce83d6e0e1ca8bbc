"""Error norms (EL2N) and gradient norms (GraNd) of samples, by surrogates that have only begun to learn.

Paul et al., NeurIPS 2021, "Deep Learning on a Data Diet": both are means over early epochs and several initialisations.
"""

from typing import Any

import numpy as np
import torch

from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.surrogate import EarlyConfig, SurrogateConfig
from dealrec_core.surrogate.logits import blocks
from dealrec_core.surrogate.training import train


def norms(
    samples: Sequences,
    validation: Sequences,
    *,
    item_count: int,
    surrogate: SurrogateConfig,
    config: EarlyConfig,
    seed: int,
    device: torch.device | str = "cpu",
) -> dict[str, np.ndarray]:
    """el2n and grand of each sample, float64 (N,): means over early epochs and initialisations."""
    totals = {"el2n": np.zeros(len(samples)), "grand": np.zeros(len(samples))}
    brief = surrogate.model_copy(update={"epochs": config.epochs, "patience": config.epochs})

    def add(model: Any) -> None:
        for name, figures in of_model(model, samples).items():
            totals[name] += figures

    alike: dict[str, Any] = {"item_count": item_count, "config": brief, "device": device, "after_epoch": add}
    for start in range(config.initialisations):
        train(samples, validation, seed=seed + 1000 * start, **alike)
    return {name: total / (config.initialisations * config.epochs) for name, total in totals.items()}


def of_model(model: Any, samples: Sequences) -> dict[str, np.ndarray]:
    """el2n and grand of each sample by one model, float64 (N,).

    el2n = ‖p − onehot(y)‖. grand = ‖p − onehot(y)‖ · ‖h‖, the norm of the gradient by the output table, exactly: that
    gradient is (p − onehot(y)) hᵀ. Where inputs share the table, the part through the inputs is left out.
    """
    figures = {name: np.empty(len(samples)) for name in ("el2n", "grand")}
    for rows, states, logits, targets in blocks(model, samples, cells=2**21):
        log_shares = logits.log_softmax(1)
        of_target = log_shares.gather(1, targets)[:, 0]
        shares = log_shares.exp_()
        error = (shares.square().sum(1) - 2 * of_target.exp() + 1).clamp(min=0).sqrt()
        figures["el2n"][rows] = error.cpu().numpy()
        figures["grand"][rows] = (error * states.norm(dim=1)).cpu().numpy()
    return figures


@torch.no_grad()
def states(model: Any, samples: Sequences, *, device: torch.device | str = "cpu") -> np.ndarray:
    """The surrogate's state after each history, float32 (N, D): a vector of the user."""
    table = model.eval().item_table()
    vectors = np.empty((len(samples), model.items.embedding_dim), dtype=np.float32)
    for rows, histories, _ in samples.batches(8192):
        vectors[rows] = model.last(histories.to(device), table).cpu().numpy()
    return vectors
