"""What a surrogate says of samples while it is still learning: error norms (EL2N) and gradient norms (GraNd).

Paul et al., NeurIPS 2021, "Deep Learning on a Data Diet": both are means over early epochs and several initialisations.
"""

from typing import Any

import numpy as np
import torch

from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.surrogate import EarlyConfig, SurrogateConfig
from dealrec_core.surrogate.base import outputs
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
    """el2n and grand of each sample, float64 (N,)."""
    totals = {"el2n": np.zeros(len(samples)), "grand": np.zeros(len(samples))}
    one_epoch = surrogate.model_copy(update={"epochs": 1})
    for start in range(config.initialisations):
        model = None
        for epoch in range(config.epochs):
            trained = train(
                samples,
                validation,
                item_count=item_count,
                config=one_epoch,
                seed=seed + 1000 * start + epoch,
                device=device,
                initial=model,
            )
            model = trained.model
            found = of_model(model, samples, device=device)
            for name in totals:
                totals[name] += found[name]
    return {name: total / (config.initialisations * config.epochs) for name, total in totals.items()}


@torch.no_grad()
def of_model(model: Any, samples: Sequences, *, device: torch.device | str = "cpu") -> dict[str, np.ndarray]:
    """The same by one model, and its `loss`.

    el2n = ‖p − onehot(y)‖. grand = ‖p − onehot(y)‖ · ‖h‖, the norm of the gradient by the output table, exactly: that
    gradient is (p − onehot(y)) hᵀ. Where inputs share the table, the part through the inputs is left out.
    """
    found = {name: np.empty(len(samples)) for name in ("el2n", "grand", "loss")}
    table = model.eval().item_table()
    for rows, histories, targets in samples.batches(8192):
        for part in torch.arange(len(rows)).split(max(1, 2**21 // len(table))):
            state = model.last(histories[part].to(device), table)  # (B, D)
            log_shares = (state @ outputs(table, state).T).log_softmax(1)  # (B, V)
            own = log_shares.gather(1, targets[part].to(device)[:, None])[:, 0]
            shares = log_shares.exp_()
            error = (shares.square().sum(1) - 2 * own.exp() + 1).clamp(min=0).sqrt()
            at = rows[part.numpy()]
            found["el2n"][at] = error.cpu().numpy()
            found["grand"][at] = (error * state.norm(dim=1)).cpu().numpy()
            found["loss"][at] = -own.cpu().numpy()
    return found


@torch.no_grad()
def states(model: Any, samples: Sequences, *, device: torch.device | str = "cpu") -> np.ndarray:
    """The surrogate's state after each history, float32 (N, D): what it knows of the user."""
    table = model.eval().item_table()
    found = np.empty((len(samples), model.items.embedding_dim), dtype=np.float32)
    for rows, histories, _ in samples.batches(8192):
        found[rows] = model.last(histories.to(device), table).cpu().numpy()
    return found
