"""Slices of users whom a mean over all users could hide."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from dealrec_core import schema

RARE = 5
"""An item with fewer interactions before the held-out slice is cold; a user with a shorter history is new."""


def slices(cases: pl.DataFrame, counts: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Marks, bool (U,) in the order of the cases, the users who are new and the users who took a cold item.

    cases: columns history and targets. counts: interactions of each item before the held-out slice.

    >>> cases = pl.DataFrame({"history": [["a"] * 5, ["a"]], "targets": [["b"], ["a"]]})
    >>> {name: users.tolist() for name, users in slices(cases, {"a": 9, "b": 2}).items()}
    {'new users': [False, True], 'users of cold items': [True, False]}
    """
    common = {item for item, count in counts.items() if count >= RARE}
    return {
        "new users": (cases[schema.HISTORY].list.len() < RARE).to_numpy(),
        "users of cold items": np.array([not common.issuperset(taken) for taken in cases["targets"]], dtype=bool),
    }
