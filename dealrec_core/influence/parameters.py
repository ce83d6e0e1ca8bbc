"""The weights that influence differentiates, as one flat vector."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dealrec_core.errors import SettingsError
from dealrec_core.settings.influence import Precision


@dataclass(frozen=True)
class Parameters:
    """The chosen weights theta of a model, in a fixed order; P is their total size."""

    values: dict[str, Tensor]

    @property
    def size(self) -> int:
        """P."""
        return sum(value.numel() for value in self.values.values())

    def flat(self, parts: Sequence[Tensor]) -> Tensor:
        """One vector (P,) from one tensor per weight, in order."""
        return torch.cat([part.reshape(-1) for part in parts])

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """The vector (P,) as one view per weight."""
        sizes = [value.numel() for value in self.values.values()]
        parts = zip(self.values.items(), vector.split(sizes), strict=True)
        return {name: part.view_as(value) for (name, value), part in parts}


def choose(model: Any, which: str) -> Parameters:
    """The weights named by `which`: "all", "released" or "layer:<module or weight name>".

    Raises:
        SettingsError: there is no such layer; the message lists those there are.
    """
    named: dict[str, Tensor] = dict(nn.Module.named_parameters(model))
    if which == "all":
        return Parameters(named)
    prefix = model.released_parameter if which == "released" else which.removeprefix("layer:")
    chosen: dict[str, Tensor] = {name: value for name, value in named.items() if f"{name}.".startswith(f"{prefix}.")}
    if not chosen or (which != "released" and not which.startswith("layer:")):
        layers = sorted({name.rpartition(".")[0] or name for name in named})
        raise SettingsError(
            f"influence.parameters is '{which}'; choose all, released or layer:<name> of {', '.join(layers)}"
        )
    return Parameters(chosen)


class Table(nn.Module):
    """Computes the item table of a model, also with other weights through `call`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self) -> Tensor:
        """(V, D or wider)."""
        return self.model.item_table()


class States(nn.Module):
    """Computes the states of a model after several batches of histories, one below the other.

    In bf16 the network's matrix products round to bfloat16; weights, table, states and every sum keep their precision.
    """

    def __init__(self, model: nn.Module, precision: Precision = "float32") -> None:
        super().__init__()
        self.model: Any = model
        self.precision = precision

    def forward(self, histories: Sequence[Tensor], table: Tensor) -> Tensor:
        """(B, D), B over all batches."""
        rounded = self.precision == "bf16"
        with torch.autocast(table.device.type, torch.bfloat16, enabled=rounded, cache_enabled=False):
            states = torch.cat([self.model.last(items, table) for items in histories])
        return states.to(table.dtype)


def call(method: nn.Module, values: dict[str, Tensor], *arguments: Any) -> Any:
    """Result of the method with `values` in place of the model's own weights."""
    named = {f"model.{name}": value for name, value in values.items()}
    return torch.func.functional_call(method, named, arguments)
