"""Checkpoints of a computation that may be killed at any moment: whole or not there, and checked before use."""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor, nn

from dealrec_core.language import whole

log = logging.getLogger(__name__)

TENSORS, FACTS, COMPLETE = "state.safetensors", "state.json", "COMPLETE"
PREFIX = "step-"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a computation after `step` steps."""

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def write(folder: Path, checkpoint: Checkpoint, *, keep: int = 2) -> None:
    """Adds a checkpoint and removes all but the newest `keep`. Only one process writes to a folder.

    The marker COMPLETE with the hashes of the other files is written last, everything is synced, and only then does the
    checkpoint get its name.
    """
    target = folder / f"{PREFIX}{checkpoint.step:09d}"
    for leftover in (target, *folder.glob("part-*")):
        shutil.rmtree(leftover, ignore_errors=True)
    with whole.folder(target) as part:
        tensors = {name: tensor.cpu() for name, tensor in checkpoint.tensors.items()}
        (part / TENSORS).write_bytes(safetensors.save(tensors))
        (part / FACTS).write_text(json.dumps(checkpoint.facts), encoding="utf-8")
        whole.seal(part, COMPLETE)
    for old in sorted(folder.glob(f"{PREFIX}*"))[:-keep]:
        shutil.rmtree(old)


def newest(folder: Path, *, fingerprint: str) -> Checkpoint | None:
    """The newest usable checkpoint whose facts hold this fingerprint; torn, foreign and not finite ones are passed over."""
    for path in sorted(folder.glob(f"{PREFIX}*"), reverse=True):
        checkpoint = _read(path)
        if checkpoint is None:
            log.warning("checkpoint %s is torn or holds a NaN; an older one is used", path.name)
        elif checkpoint.facts.get("fingerprint") == fingerprint:
            return checkpoint
    return None


def state(weights: Mapping[str, Tensor], optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The weights and the optimiser's state as tensors of a checkpoint; the optimiser holds the weights in this order."""
    tensors = {f"now/{name}": weight.detach() for name, weight in weights.items()}
    for number, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{number}/{key}": tensor for key, tensor in moments.items()}
    return tensors


def restore(checkpoint: Checkpoint, weights: Mapping[str, Tensor], optimiser: torch.optim.Optimizer) -> None:
    """Puts the tensors of `state` back into the weights and the optimiser."""
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(checkpoint.tensors[f"now/{name}"])
    moments: dict[int, dict[str, Tensor]] = {number: {} for number in range(len(weights))}
    for name, tensor in checkpoint.tensors.items():
        if name.startswith("optimiser/"):
            _, number, key = name.split("/")
            moments[int(number)][key] = tensor
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})


def fingerprint(model: nn.Module) -> str:
    """Tells models apart by the names and shapes of their weights and the first values of each."""
    digest = hashlib.sha256()
    for name, weight in model.named_parameters():
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        digest.update(weight.detach().flatten()[:256].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> Checkpoint | None:
    try:
        if whole.changes(path, COMPLETE):
            return None
        facts = json.loads((path / FACTS).read_bytes())
        tensors = safetensors.load((path / TENSORS).read_bytes())
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            return None
        return Checkpoint(int(path.name.removeprefix(PREFIX)), tensors, facts)
    except (OSError, ValueError):
        return None
