"""The surrogate as a recommender, so that it stands beside the model it helps to train."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from dealrec_core.samples.sequences import Sequences
from dealrec_core.surrogate.logits import blocks


@dataclass(frozen=True)
class SurrogateRecommender:
    """Ranks the whole catalogue by the surrogate's logits; ties go to the lower row.

    Unknown ids of a history are skipped. A history with no known item is answered with `popular`, or with nothing.
    """

    model: Any
    item_ids: list[str]
    name: str = "surrogate"
    popular: Sequence[str] = field(default=())
    """Answer to an empty history, best first."""

    @cached_property
    def _place(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.item_ids)}

    def recommend(self, histories: Sequence[Sequence[str]], k: int) -> list[list[str]]:
        """The k best item ids for each history, best first."""
        numbered = [[self._place[item] for item in history if item in self._place] for history in histories]
        answers = [list(self.popular[:k]) for _ in histories]
        rows = np.array([row for row, history in enumerate(numbered) if history], dtype=np.int64)
        if not len(rows):
            return answers
        lengths = [len(numbered[row]) for row in rows]
        flat = np.concatenate([np.array(numbered[row], dtype=np.int64) for row in rows])
        samples = Sequences(flat, np.concatenate([[0], np.cumsum(lengths)]), np.zeros(len(rows), dtype=np.int64))
        for row, best in zip(rows, self._best(samples, min(k, len(self.item_ids))), strict=True):
            answers[row] = [self.item_ids[item] for item in best]
        return answers

    def _best(self, samples: Sequences, k: int) -> np.ndarray:
        best = np.empty((len(samples), k), dtype=np.int64)
        for block in blocks(self.model, samples):
            order = torch.sort(block.logits, dim=1, descending=True, stable=True).indices
            best[block.rows] = order[:, :k].cpu().numpy()
        return best
