"""The device that models are computed on."""

from typing import Literal

import torch


def device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device of that name; auto takes a GPU when there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
