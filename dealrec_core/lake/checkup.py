"""Looks for damage in every table and night of a lake, repairs what can be repaired, and says what cannot and what to do then."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pydantic import BaseModel, ValidationError

from dealrec_core.errors import LakeError
from dealrec_core.lake import Lake, damage, erased, upkeep
from dealrec_core.lake.nights import TABLES, Manifest, Snapshot, nights

COMMIT = re.compile(r"/_delta_log/(\d{20})\.json$")
BACKUP = "it cannot be repaired: restore it from a backup"
AGAIN = {"samples": "remove the folder samples, which the next ingest makes anew"}
"""Tables whose damaged data files need no backup, and how to make them anew."""
ASIDE = "damaged"
"""Folder to which a repair moves what nobody can read."""


@dataclass(frozen=True)
class Damage:
    """A file that is not as it was written, what became of it, and what to do."""

    path: str
    state: str
    advice: str
    content: bytes | None = None
    """The bytes that a repair writes to this path."""
    is_movable: bool = False
    """Whether a repair moves the file away, as nothing that counted is in it."""

    @property
    def is_repairable(self) -> bool:
        """Whether `repair` can do something about it."""
        return self.content is not None or self.is_movable

    def __str__(self) -> str:
        repair = "`dealrec doctor --repair` repairs it: " if self.is_repairable else ""
        return f"{self.path} {self.state}; {repair}{self.advice}"


def damages(lake: Lake) -> list[Damage]:
    """Returns the damage in all tables (the newest version of each) and in the files of all nights of a lake."""
    of_nights = list(_of_nights(lake))
    needed = {} if of_nights else _needed(lake)
    of_tables = [each for table in (*TABLES, erased.TABLE) for each in _of_table(lake, table, needed.get(table, -1))]
    if of_nights:  # a night that cannot be read may name a commit that would be moved away
        first = "repair the damaged files of nights first, and look again"
        of_tables = [replace(each, is_movable=False, advice=first) if each.is_movable else each for each in of_tables]
    return [*of_tables, *of_nights]


def repair(lake: Lake, found: list[Damage]) -> None:
    """Repairs what can be repaired; what is moved away goes to the folder `damaged`. The caller holds the lake's locks."""
    for each in found:
        if each.is_movable:
            lake.write_bytes(f"{ASIDE}/{each.path}", lake.read_bytes(each.path))
            lake.remove(each.path)
        elif each.content is not None:
            lake.write_bytes(each.path, each.content)


def _of_table(lake: Lake, table: str, needed: int) -> Iterator[Damage]:
    """The damage of a table of which nights name versions up to `needed`: of its log or, where that is whole, of its data."""
    of_log = list(_of_log(lake, table, needed))
    yield from of_log
    if of_log:
        return
    try:
        handle = lake.open(table)
    except LakeError as error:
        yield Damage(f"{table}/_delta_log", f"cannot be read ({error})", BACKUP)
        return
    if handle is None:
        return
    states = dict(damage.damaged_files(lake, table, handle))
    paths = [f"{table}/{path}" for path in handle.get_add_actions().column("path").to_pylist()]
    for path in paths:
        if path not in states and damage.torn(lake, path):
            states[path] = "is torn"
    for path, state in states.items():
        yield Damage(path, state, " or ".join([BACKUP, *([AGAIN[table]] if table in AGAIN else [])]))


def _of_log(lake: Lake, table: str, needed: int) -> Iterator[Damage]:
    commits = {int(match[1]): path for path in lake.list_paths(table) if (match := COMMIT.search(path))}
    last, copy = damage.counted(lake, table)
    newest = max([last, needed, *commits])
    for version in range(min([newest + 1, *commits, *([last] if last >= 0 else [])]), newest + 1):
        path = damage.log(table, version)
        content = lake.read_bytes(path) if version in commits else None
        if _is_whole(content) and (version != last or content == copy):
            continue
        state = "is gone" if content is None else "is empty" if not content else "is torn"
        if version == last:
            yield Damage(path, state, "a copy of it is there", content=copy)
        elif 0 <= last < version == newest > needed:
            yield Damage(path, state, "its write did not count, and the next night does it again", is_movable=True)
        else:
            yield Damage(path, state, f"{BACKUP}; without one, the rows of this write are lost")


def _is_whole(content: bytes | None) -> bool:
    """Whether all actions of a commit are there, as far as one can see."""
    try:
        return bool(content) and all(isinstance(json.loads(action), dict) for action in (content or b"").splitlines())
    except ValueError:
        return False


def _needed(lake: Lake) -> dict[str, int]:
    """By table, the newest version that a night names."""
    newest: dict[str, int] = {}
    for night in nights(lake):
        for table, version in upkeep.versions_of(night):
            newest[table] = max(newest.get(table, -1), version)
    return newest


def _of_nights(lake: Lake) -> Iterator[Damage]:
    paths = lake.list_paths("nights")
    for path in paths:
        _, night, *rest = path.split("/")
        if rest == ["manifest.json"] and (state := _state(lake, path, Manifest)):
            has_begun = any(other.startswith(f"nights/{night}/stages/") for other in paths)
            artifact = "restore it from a backup or from manifest.json in the MLflow run of the night"
            opened = "no stage had finished, and the night is opened anew"
            yield Damage(path, state, artifact if has_begun else opened, is_movable=not has_begun)
        elif rest[0] == "stages" and (state := _state(lake, path, Snapshot)):
            again = "the stage counts as not done, and an unfinished night does it again"
            yield Damage(path, state, again, is_movable=True)


def _state(lake: Lake, path: str, kind: type[BaseModel]) -> str | None:
    content = lake.read_bytes(path)
    try:
        kind.model_validate_json(content)
    except ValidationError:
        return "is torn" if content else "is empty"
    return None
