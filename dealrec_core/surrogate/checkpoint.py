"""A surrogate on disk: safetensors, JSON and hashes. Loading it runs no code from the files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import nn

from dealrec_core.errors import DataError
from dealrec_core.language import whole
from dealrec_core.samples import calibration
from dealrec_core.samples.calibration import Calibration
from dealrec_core.surrogate import networks
from dealrec_core.surrogate.sasrec import Shape

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
HASHES = "sha256.json"


def save(
    folder: Path | str,
    model: nn.Module,
    *,
    item_ids: Sequence[str],
    config: BaseModel,
    lineage: Mapping[str, Any],
    calibrated: Calibration | None = None,
) -> None:
    """Writes the model with its item ids (row n is item_ids[n]), its settings and what it was made from.

    The hashes are written last, so a torn folder does not load. Equal inputs give equal bytes.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    description = {
        "network": networks.name_of(model),
        "shape": {**model.shape._asdict(), "item_count": len(item_ids)},  # type: ignore[operator, union-attr]
        "item_ids": list(item_ids),
        "config": config.model_dump(mode="json"),
        "lineage": dict(lineage),
        "calibration": None if calibrated is None else calibrated.described(),
    }
    (folder / WEIGHTS).write_bytes(safetensors.save(weights))
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1, sort_keys=True), encoding="utf-8")
    whole.seal(folder, HASHES)


def load(folder: Path | str, *, device: torch.device | str = "cpu") -> tuple[Any, list[str], dict[str, Any]]:
    """The model in eval mode on `device`, its item ids and its lineage.

    Raises:
        DataError: a file is missing, torn or changed since it was written.
    """
    folder = Path(folder)
    _verify(folder)
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    model = networks.build(description["network"], Shape(**description["shape"]), seed=0)
    try:
        weights = safetensors.load_file(folder / WEIGHTS)
        model.to(weights["items.weight"].dtype).load_state_dict(weights)
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise DataError(f"{folder / WEIGHTS} does not fit {DESCRIPTION} ({error}); retrain the surrogate") from error
    return model.to(device).eval(), description["item_ids"], description["lineage"]


def load_calibration(folder: Path | str) -> Calibration | None:
    """The calibration of a checkpoint, None for one without; the files must have been checked, as `load` does it."""
    description = json.loads((Path(folder) / DESCRIPTION).read_text(encoding="utf-8"))
    return calibration.read(description.get("calibration"))


def _verify(folder: Path) -> None:
    try:
        changes = whole.changes(folder, HASHES)
    except (OSError, ValueError) as error:
        raise DataError(f"no whole surrogate checkpoint in {folder} ({error}); retrain the surrogate") from error
    for name, (now, sealed) in changes.items():
        raise DataError(f"{folder / name} has sha256 {now[:12]}, written was {sealed[:12]}; retrain the surrogate")
