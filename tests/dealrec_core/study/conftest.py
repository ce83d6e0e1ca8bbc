"""A tiny data set in the released format, and a study of it that takes a second a cell."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dealrec_core.study.config import StudyConfig


def write_released(folder: Path, *, users: int = 120, items: int = 24) -> Path:
    """Users who walk through the items in order, from random starts."""
    random = np.random.default_rng(3)
    lines: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for user in range(users):
        walk = [(int(random.integers(items)) + step) % items + 1 for step in range(8)]
        for period, part in (("train", walk[:5]), ("valid", walk[5:6]), ("test", walk[6:])):
            lines[period].append(" ".join(map(str, [user + 1, *part])))
    folder.mkdir(parents=True, exist_ok=True)
    for period, rows in lines.items():
        (folder / f"sequential_{period}.txt").write_text("\n".join(rows) + "\n")
    catalogue = [
        {"item_id": item, "title": f"Saga {item % 4} part {item}", "categories": ["Games", f"kind {item % 3}"]}
        for item in range(1, items + 1)
    ]
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, catalogue)) + "\n")
    return folder


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """A study of that data set with everything small."""
    found = {
        "name": "tiny",
        "folder": str(folder / "study"),
        "cutoff": 10,
        "judges": "all",
        "device": "cpu",
        "pretraining_epochs": 1,
        "aims": 10,
        "datasets": {"tiny": {"folder": str(write_released(folder / "data")), "users": 30, "risk_samples": 30}},
        "grids": {"all": {"datasets": ["tiny"], "backends": ["tiger"], "methods": ["random", "greedy"], "seeds": [0]}},
        "surrogate": {"width": 8, "layers": 1, "heads": 1, "epochs": 2, "history_length": 5},
        "early": {"initialisations": 1, "epochs": 1},
        "coreset": {"groups": 5},
        "language_model": {"vocabulary": 512, "width": 32, "layers": 1, "heads": 1, "steps": 5, "history_length": 3},
        "bigrec": {"history_length": 3, "beams": 5},
        "fine_tune": {"epochs": 1, "validation_examples": 10},
        "semantic_ids": {"levels": 2, "codes": 8, "width": 8},
        "tiger": {
            "width": 16,
            "layers": 1,
            "heads": 1,
            "head_width": 8,
            "inner_width": 16,
            "epochs": 1,
            "history_length": 5,
            "beams": 10,
        },
        "proxy": {"width": 8, "epochs": 1},
        "evaluation": {"k": 5},
    }
    return {**found, **changes}


@pytest.fixture
def tiny(tmp_path: Path) -> StudyConfig:
    return StudyConfig.model_validate(settings(tmp_path))
