"""The surrogate as a recommender, so that it stands beside the model it helps to train."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from dealrec_core.samples.calibration import Calibration, Scored
from dealrec_core.samples.sequences import Sequences
from dealrec_core.surrogate.logits import blocks


@dataclass(frozen=True)
class SurrogateRecommender:
    """Ranks the whole catalogue by the surrogate's logits, calibrated where there is a calibration; ties go to the lower row.

    Unknown ids of a history are skipped. A history with no known item is answered with `popular`, or with nothing.
    """

    model: Any
    item_ids: list[str]
    name: str = "surrogate"
    popular: Sequence[str] = field(default=())
    """Answer to an empty history, best first."""
    calibration: Calibration | None = field(default=None, repr=False)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.item_ids)}

    def recommend(self, histories: Sequence[Sequence[str]], k: int) -> list[list[str]]:
        """The k best item ids for each history, best first."""
        return [[item for item, _ in ranking] for ranking in self.scored(histories, k, self.calibration)]

    def scored(self, histories: Sequence[Sequence[str]], k: int, calibration: Calibration | None) -> list[Scored]:
        """The k best items for each history, with their logits (`samples.calibration`)."""
        numbered = [[self._place[item] for item in history if item in self._place] for history in histories]
        answers: list[Scored] = [[(item, 0.0) for item in self.popular[:k]] for _ in histories]
        rows = np.array([row for row, history in enumerate(numbered) if history], dtype=np.int64)
        if not len(rows):
            return answers
        lengths = [len(numbered[row]) for row in rows]
        flat = np.concatenate([np.array(numbered[row], dtype=np.int64) for row in rows])
        samples = Sequences(flat, np.concatenate([[0], np.cumsum(lengths)]), np.zeros(len(rows), dtype=np.int64))
        best, logits = self._best(samples, min(k, len(self.item_ids)), calibration)
        for row, items, scores in zip(rows, best.tolist(), logits.tolist(), strict=True):
            answers[row] = [(self.item_ids[item], score) for item, score in zip(items, scores, strict=True)]
        return answers

    @property
    def title_chances(self) -> None:
        """None: it writes no titles."""

    def _best(self, samples: Sequences, k: int, calibration: Calibration | None) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the k best items of each sample and their logits, (N, k) each."""
        best, logits = np.empty((len(samples), k), dtype=np.int64), np.empty((len(samples), k))
        added = None if calibration is None else torch.from_numpy(calibration.of(self.item_ids))
        for block in blocks(self.model, samples):
            scores = block.logits if added is None else block.logits + added.to(block.logits.device)  # in float64
            order = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :k]
            best[block.rows], logits[block.rows] = order.cpu().numpy(), block.logits.gather(1, order).cpu().numpy()
        return best, logits
