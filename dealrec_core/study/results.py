"""Finished cells on disk: one folder each, written in one atomic step, so that a killed study continues where it stopped."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from dealrec_core.language import whole
from dealrec_core.study.config import Cell, StudyConfig
from dealrec_core.study.fingerprints import fingerprint

VALUES, FACTS = "per_user.parquet", "cell.json"


@dataclass(frozen=True)
class Result:
    """A finished cell."""

    cell: Cell
    facts: dict[str, Any]
    folder: Path

    def values(self, metric: str) -> pl.Series:
        """One metric per user, users in one order for all cells of a data set."""
        return pl.read_parquet(self.folder / VALUES, columns=[metric])[metric]


def find(config: StudyConfig, cell: Cell) -> Result | None:
    """The cell's result, None when it has not finished with these settings."""
    folder = _folder(config, cell)
    if not folder.exists():
        return None
    described = json.loads((folder / FACTS).read_text("utf-8"))
    return Result(cell, described["facts"], folder)


def write(config: StudyConfig, cell: Cell, *, per_user: pl.DataFrame, facts: dict[str, Any]) -> Result:
    """Writes a finished cell; one that is there already stays as it is."""
    folder = _folder(config, cell)
    if not folder.exists():
        with whole.folder(folder) as part:
            per_user.write_parquet(part / VALUES)
            text = json.dumps({"cell": cell._asdict(), "facts": facts}, indent=1)
            (part / FACTS).write_text(text + "\n", encoding="utf-8")
    return Result(cell, facts, folder)


def key(config: StudyConfig, cell: Cell) -> str:
    """The cell's name with the fingerprint of its settings."""
    return f"{cell.name}-{fingerprint(config, cell)}"


def _folder(config: StudyConfig, cell: Cell) -> Path:
    return Path(config.folder) / "cells" / key(config, cell)
