"""Things that cells share: each is made once, under a name, and written in one atomic step."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dealrec_core.language import whole

ARRAYS, SECONDS = "arrays.npz", "seconds.json"


@dataclass(frozen=True)
class Shelf:
    """A folder of finished things. A kill while one is made leaves nothing of it behind under its name."""

    folder: Path

    def arrays(self, name: str, make: Callable[[], Mapping[str, np.ndarray]]) -> tuple[dict[str, np.ndarray], float]:
        """The arrays of that name and the CPU seconds that making them took."""
        place = self.folder_of(name, lambda folder: np.savez(folder / ARRAYS, **make()))  # type: ignore[arg-type]
        with np.load(place / ARRAYS) as file:
            return {key: file[key] for key in file.files}, self.seconds(name)

    def folder_of(self, name: str, make: Callable[[Path], Any]) -> Path:
        """The folder of that name, filled by `make` when it is not there yet."""
        place = self.folder / name
        if not place.exists():
            with whole.folder(place) as part:
                started = time.process_time()
                make(part)
                (part / SECONDS).write_text(json.dumps(round(time.process_time() - started, 2)), encoding="utf-8")
        return place

    def seconds(self, name: str) -> float:
        """CPU seconds that making the thing of that name took."""
        return float(json.loads((self.folder / name / SECONDS).read_text(encoding="utf-8")))
