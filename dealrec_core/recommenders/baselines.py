"""Plain recommenders that every coreset and model is compared with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from scipy import sparse

from dealrec_core import schema
from dealrec_core.samples.nearest import nearest

CELLS = 2**22
"""Numbers of a matrix by items that are in memory at once: 32 MiB, however many users and items there are."""


@dataclass(frozen=True)
class Ranking:
    """One list of items for everybody, best first."""

    name: str
    item_ids: list[str] = field(repr=False)

    def recommend(self, histories: Sequence[Sequence[str]], k: int) -> list[list[str]]:
        """The first k items, whatever the history."""
        return [self.item_ids[:k] for _ in histories]


def popularity(interactions: pl.DataFrame, *, name: str = "popularity") -> Ranking:
    """Items by number of interactions, ties by item id."""
    counts = interactions.group_by(schema.ITEM_ID).len().sort("len", schema.ITEM_ID, descending=[True, False])
    return Ranking(name, counts[schema.ITEM_ID].to_list())


@dataclass(frozen=True)
class ItemKNN:
    """Items near those of the history, by cosine of their users; 'item knn' in tables.

    Sarwar et al. 2001: similarity(i, j) = users of both / sqrt(users of i * users of j); a history's score for j is the sum over
    its items. Items that no neighbour votes for follow by popularity.
    """

    name: str
    item_ids: list[str] = field(repr=False)
    """By popularity: position is also the order of ties."""
    similarity: sparse.csr_matrix = field(repr=False)
    """(V, V), each row's nearest neighbours, no diagonal."""

    def recommend(self, histories: Sequence[Sequence[str]], k: int) -> list[list[str]]:
        """The k items with the largest summed similarity to each history."""
        lists = []
        for block in _blocks(len(histories), width=len(self.item_ids)):
            best = np.argsort(-self.scores(histories[block]), axis=1, kind="stable")[:, :k]
            lists += [[self.item_ids[item] for item in row] for row in best]
        return lists

    def scores(self, histories: Sequence[Sequence[str]]) -> np.ndarray:
        """Summed similarity of every item to each history, float64 (B, V); items that are not known are skipped."""
        place = {item: row for row, item in enumerate(self.item_ids)}
        rows = [[place[item] for item in history if item in place] for history in histories]
        lengths = [len(row) for row in rows]
        indices = np.fromiter((item for row in rows for item in row), dtype=np.int64, count=sum(lengths))
        taken = sparse.csr_matrix(
            (np.ones(len(indices)), indices, np.concatenate([[0], np.cumsum(lengths)])),
            shape=(len(rows), len(self.item_ids)),
        )
        return np.asarray((taken @ self.similarity).todense())


def item_knn(interactions: pl.DataFrame, *, neighbours: int = 100, name: str = "item knn") -> ItemKNN:
    """An ItemKNN over distinct (user, item) pairs, keeping each item's nearest `neighbours`."""
    item_ids = popularity(interactions).item_ids
    pairs = interactions.select(schema.USER_ID, schema.ITEM_ID).unique()
    places = pl.DataFrame({schema.ITEM_ID: item_ids, "column": np.arange(len(item_ids))})
    coded = pairs.join(places, on=schema.ITEM_ID).with_columns(pl.col(schema.USER_ID).rank("dense").alias("row") - 1)
    taken = sparse.csr_matrix(
        (np.ones(len(coded)), (coded["row"].to_numpy(), coded["column"].to_numpy())),
        shape=(coded["row"].n_unique(), len(item_ids)),
    )
    # Columns are in order of popularity: of equal neighbours the more popular ones are kept.
    blocks = [nearest(block, neighbours) for block in _cosines(taken)]
    return ItemKNN(name, item_ids, sparse.vstack(blocks, format="csr"))


def _cosines(taken: sparse.csr_matrix) -> Iterator[sparse.csr_matrix]:
    """Cosines of the columns of `taken` (U, V) without the diagonal, in blocks of rows of (V, V)."""
    scale, by_item, size = 1 / np.sqrt(np.asarray(taken.sum(axis=0)).ravel()), taken.T.tocsr(), taken.shape[1]
    for rows in _blocks(size, width=size):
        cosine = (sparse.diags(scale[rows]) @ (by_item[rows] @ taken) @ sparse.diags(scale)).tocsr()
        cosine.setdiag(0, k=rows.start)
        cosine.eliminate_zeros()
        yield cosine


def _blocks(count: int, *, width: int) -> Iterator[slice]:
    """Slices of `count` rows of a width, each of about CELLS numbers."""
    step = max(1, CELLS // max(1, width))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))
