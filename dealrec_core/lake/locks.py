"""Keeps a second night, erasure or upkeep away from a lake."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dealrec_core.errors import NightBusy
from dealrec_core.lake.tables import Lake


@contextmanager
def lock(lake: Lake, *, home: str, name: str = "night") -> Iterator[None]:
    """Holds the lake for this process: a file lock that the kernel frees however the process ends.

    home: folder for the lock of a lake in a bucket.
    name: which lock. `night` keeps nights apart; `upkeep`, which keeps those apart that rewrite data files, may be held beside it.

    Raises:
        NightBusy: another process holds the lock.
    """
    folder = (
        Path(lake.root) if not lake.is_remote else Path(home) / "locks" / lake.root.split("://")[1].replace("/", "_")
    )
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise NightBusy(
                f"process {file.read().strip() or '?'} holds {lake.root} ({name}); wait until it ends"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
