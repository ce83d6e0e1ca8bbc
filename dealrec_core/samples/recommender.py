"""The protocol of every recommender."""

from collections.abc import Sequence
from typing import Protocol


class Recommender(Protocol):
    """Anything that ranks catalogue items for a history of item ids."""

    @property
    def name(self) -> str:
        """Short name for tables and plots."""
        ...

    def recommend(self, histories: Sequence[Sequence[str]], k: int) -> list[list[str]]:
        """The k best item ids for each history (item ids, oldest first; may be empty or hold unknown ids), best first.

        Lists hold only catalogue items, no duplicates, and are shorter than k only where the recommender
        knows fewer than k items. Items of the history may be recommended; masking them is the caller's task.
        """
        ...
