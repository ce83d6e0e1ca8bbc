"""A full disk is reported with its place, its free space and the next step, whatever library met it."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dealrec_core.errors import DiskFull

TEXTS = ("No space left on device", "os error 28", "Disk quota exceeded", "os error 122")
"""Texts by which libraries with error classes of their own report ENOSPC (disk full) and EDQUOT (quota reached)."""


@contextmanager
def watched(*places: str | Path) -> Iterator[None]:
    """Makes a DiskFull error of every error in the block that a full disk has caused.

    places: folders on this machine that the block writes to; the error names the one with the least space.
    """
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        if not is_full(error):
            raise
        raise DiskFull(told(*places)) from error


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that there is no space."""
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT) or any(text in str(error) for text in TEXTS):
            return True
        error = error.__cause__ or error.__context__
    return False


def told(*places: str | Path) -> str:
    """Returns a sentence that names the full disk, how much of it is free, and the next step."""
    free = {str(place): shutil.disk_usage(_existing(Path(place))).free for place in places if "://" not in str(place)}
    if not free:
        return f"the store of {places[0]} has no space left; free some and run it again: what was finished is kept"
    place = min(free, key=lambda name: free[name])
    return (
        f"the disk of {place} is full, {free[place] / 2**20:,.1f} MiB are free; free some space there and run it again: "
        "what was finished is kept"
    )


def _existing(place: Path) -> Path:
    return next(folder for folder in (place, *place.resolve().parents) if folder.exists())
