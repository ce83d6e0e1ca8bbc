"""The surrogate networks by name."""

from typing import Any

import torch
from torch import nn

from dealrec_core.errors import SettingsError
from dealrec_core.surrogate import bert4rec, dcrec, gru4rec, sasrec
from dealrec_core.surrogate.base import Surrogate

NETWORKS: dict[str, type[Surrogate]] = {
    "sasrec": sasrec.SASRec,
    "bert4rec": bert4rec.BERT4Rec,
    "gru4rec": gru4rec.GRU4Rec,
    "dcrec": dcrec.DCRec,
}


def build(name: str, shape: sasrec.Shape, *, seed: int) -> Any:
    """An untrained network of that name on the CPU; weights follow `seed` alone.

    Raises:
        SettingsError: the name is unknown, or the heads do not divide the width.
    """
    if name not in NETWORKS:
        raise SettingsError(f"surrogate.network is '{name}'; choose one of {', '.join(NETWORKS)}")
    if shape.width % shape.heads:
        raise SettingsError(
            f"surrogate.width {shape.width} is not a multiple of surrogate.heads {shape.heads}; change one"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[name](shape)


def name_of(model: nn.Module) -> str:
    """The name under which this network is built."""
    return next(name for name, network in NETWORKS.items() if type(model) is network)
