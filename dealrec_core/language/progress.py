"""Progress of a long computation: its caller gives a function, the core calls it and never waits for it."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with how many parts are done, and of how many."""


def silent(done: int, total: int) -> None:
    """Tells nobody."""
