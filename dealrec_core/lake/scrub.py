"""A scrub reads every file that a night has recorded, and finds those that a disk or a person has changed since."""

from datetime import datetime, timedelta
from functools import partial

from pydantic import BaseModel

from dealrec_core.errors import LakeError
from dealrec_core.lake import Lake, sums
from dealrec_core.lake.nights import Snapshot, nights
from dealrec_core.lake.store import SUMS

RECORD = "scrub.json"


class Scrub(BaseModel):
    """The result of a scrub: when it ran, how many files it read, and which of them were changed."""

    at: datetime
    files: int
    """Number of files that were read."""
    damages: list[str]
    """Files that are not what was recorded."""

    def __str__(self) -> str:
        bad = (
            f": {', '.join(self.damages)} changed since a night recorded them" if self.damages else ", none was changed"
        )
        return f"{self.files} files read on {self.at:%Y-%m-%d}{bad}"


def last(lake: Lake) -> Scrub | None:
    """Returns what the last scrub saw, None before the first one."""
    return Scrub.model_validate_json(lake.read_bytes(RECORD)) if lake.exists_path(RECORD) else None


def is_due(lake: Lake, *, now: datetime, days: int) -> bool:
    """Whether the last scrub is as many days ago, or has seen damage that may be mended now."""
    before = last(lake)
    return before is None or bool(before.damages) or now - before.at >= timedelta(days=days)


def scrub(lake: Lake, *, now: datetime) -> Scrub:
    """Reads the data files and published folders of all nights, and writes down what it saw."""
    recorded: dict[str, str] = {}
    damages = set()
    for night in nights(lake):
        for snapshot in night.snapshots():
            for listed in (partial(night.sums, snapshot.stage), partial(_published, lake, snapshot)):
                try:
                    recorded |= listed()
                except LakeError as error:
                    damages.add(str(error))
    found = Scrub(at=now, files=len(recorded), damages=sorted(damages | set(sums.changed(lake, recorded))))
    lake.write_bytes(RECORD, found.model_dump_json(indent=1).encode())
    return found


def _published(lake: Lake, snapshot: Snapshot) -> dict[str, str]:
    """Hashes of the folder that a stage has published, as far as it is still there, by path below the root."""
    if snapshot.path is None or not lake.exists_path(f"{snapshot.path}/{SUMS}"):
        return {}
    return {
        f"{snapshot.path}/{name}": sha256
        for name, sha256 in sums.of_folder(lake, snapshot.path, snapshot.sha256).items()
    }
