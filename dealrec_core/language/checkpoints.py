"""Checkpoints of a computation that may be killed at any moment: whole or not there, and checked before use."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor, nn

log = logging.getLogger(__name__)

TENSORS, FACTS, COMPLETE = "state.safetensors", "state.json", "COMPLETE"
PREFIX = "step-"


@dataclass(frozen=True)
class Checkpoint:
    """What was known after `step` steps."""

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def write(folder: Path, checkpoint: Checkpoint, *, keep: int = 2) -> None:
    """Adds a checkpoint and removes all but the newest `keep`.

    The marker COMPLETE with the hashes of the other files is written last, everything is synced, and only then does the
    folder get its name.
    """
    target = folder / f"{PREFIX}{checkpoint.step:09d}"
    part = folder / f"part-{checkpoint.step:09d}"
    for leftover in (part, target):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    _write_synced(part / TENSORS, safetensors.save({name: tensor.cpu() for name, tensor in checkpoint.tensors.items()}))
    _write_synced(part / FACTS, json.dumps(checkpoint.facts).encode())
    hashes = {name: _sha256(part / name) for name in (TENSORS, FACTS)}
    _write_synced(part / COMPLETE, json.dumps(hashes).encode())
    part.rename(target)
    _sync_folder(folder)
    for old in sorted(folder.glob(f"{PREFIX}*"))[:-keep]:
        shutil.rmtree(old)


def newest(folder: Path, *, fingerprint: str) -> Checkpoint | None:
    """The newest whole checkpoint whose facts carry this fingerprint; torn and foreign ones are passed over."""
    for path in sorted(folder.glob(f"{PREFIX}*"), reverse=True):
        found = _read(path)
        if found is None:
            log.warning("checkpoint %s is torn, an older one is taken", path.name)
        elif found.facts.get("fingerprint") == fingerprint:
            return found
    return None


def state(weights: Mapping[str, Tensor], optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The weights and the optimiser's state as tensors of a checkpoint; the optimiser holds the weights in this order."""
    found = {f"now/{name}": weight.detach() for name, weight in weights.items()}
    for number, each in optimiser.state_dict()["state"].items():
        found |= {f"optimiser/{number}/{key}": tensor for key, tensor in each.items()}
    return found


def restore(checkpoint: Checkpoint, weights: Mapping[str, Tensor], optimiser: torch.optim.Optimizer) -> None:
    """Puts back what `state` kept."""
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(checkpoint.tensors[f"now/{name}"])
    found: dict[int, dict[str, Tensor]] = {number: {} for number in range(len(weights))}
    for name, tensor in checkpoint.tensors.items():
        if name.startswith("optimiser/"):
            _, number, key = name.split("/")
            found[int(number)][key] = tensor
    optimiser.load_state_dict({"state": found, "param_groups": optimiser.state_dict()["param_groups"]})


def fingerprint(model: nn.Module) -> str:
    """Tells models apart by the names and shapes of their weights and the first values of each."""
    found = hashlib.sha256()
    for name, weight in model.named_parameters():
        found.update(f"{name}{tuple(weight.shape)}".encode())
        found.update(weight.detach().flatten()[:256].float().cpu().numpy().tobytes())
    return found.hexdigest()


def _read(path: Path) -> Checkpoint | None:
    try:
        hashes = json.loads((path / COMPLETE).read_bytes())
        if any(_sha256(path / name) != hashes.get(name) for name in (TENSORS, FACTS)):
            return None
        facts = json.loads((path / FACTS).read_bytes())
        return Checkpoint(int(path.name.removeprefix(PREFIX)), safetensors.load((path / TENSORS).read_bytes()), facts)
    except (OSError, ValueError):
        return None


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
