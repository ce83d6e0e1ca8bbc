"""Things made once and kept: each under a name and a fingerprint, written in one atomic step."""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Shelf:
    """A folder of finished things. A kill while one is made leaves nothing of it behind under its name."""

    folder: Path

    def arrays(self, name: str, make: Callable[[], Mapping[str, np.ndarray]]) -> tuple[dict[str, np.ndarray], float]:
        """The arrays of that name and the CPU seconds that making them took."""
        place = self.kept(name, lambda folder: np.savez(folder / "arrays.npz", **make()))  # type: ignore[arg-type]
        with np.load(place / "arrays.npz") as found:
            return {key: found[key] for key in found.files}, self.seconds(name)

    def kept(self, name: str, make: Callable[[Path], Any]) -> Path:
        """The folder of that name, filled by `make` when it is not there yet."""
        place = self.folder / name
        if place.exists():
            return place
        part = self.folder / f"{name}.{os.getpid()}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        started = time.process_time()
        make(part)
        (part / "seconds.json").write_text(json.dumps(round(time.process_time() - started, 2)))
        try:
            part.rename(place)
        except OSError:  # another process was faster with the same thing
            shutil.rmtree(part)
        return place

    def seconds(self, name: str) -> float:
        """CPU seconds that the thing took."""
        return float(json.loads((self.folder / name / "seconds.json").read_text()))
