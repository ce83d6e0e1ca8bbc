"""Drafts the next version of a table from Parquet files, and commits it in one step that a racing draft cannot overlap."""

import io
import json
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import polars as pl
from deltalake import DeltaTable
from deltalake import Schema as DeltaSchema
from deltalake.transaction import AddAction, RemoveAction

from dealrec_core import schema as schemas
from dealrec_core.errors import LakeError
from dealrec_core.lake import Lake, damage, space
from dealrec_core.lake.commit import FENCE, Result, commit, until_committed
from dealrec_core.lake.store import s3_options
from dealrec_core.lake.tables import configuration


@dataclass
class Draft:
    """A table as it was when the draft was opened, and the data files that its next version adds and drops."""

    lake: Lake
    table: str
    schema: pl.Schema
    partition: str | None
    handle: DeltaTable
    _added: list[AddAction] = field(default_factory=list)
    _removed: list[RemoveAction] = field(default_factory=list)

    def recorded(self, identifier: str) -> int | None:
        """Returns the number that the table has recorded for a transaction identifier."""
        return self.handle.transaction_version(identifier)

    def rows(self) -> int:
        """Returns how many rows the table has."""
        return int(self.files()["rows"].sum())

    def files(self) -> pl.DataFrame:
        """Returns the table's data files: path (below the table), rows and the partition column where there is one.

        Raises:
            LakeError: one of them is torn or gone.
        """
        damage.require_whole(self.lake, self.table, self.handle)
        actions = pl.DataFrame(self.handle.get_add_actions(flatten=True))
        names = {"path": "path", "num_records": "rows", f"partition.{self.partition}": self.partition or ""}
        columns = [pl.col(old).alias(new) for old, new in names.items() if old in actions.columns]
        if not actions.height:
            return pl.DataFrame(
                schema={name: pl.Int64 if name == "rows" else pl.String for name in names.values() if name}
            )
        return actions.select(columns)

    def paths_by_partition(self) -> dict[str, list[str]]:
        """Returns the addresses of the table's data files by partition value ('' without partitions)."""
        files = self.files().with_columns(pl.col(self.partition) if self.partition else pl.lit("").alias("all"))
        return {
            str(value): [f"{self.lake.uri(self.table)}/{path}" for path in part["path"]]
            for (value,), part in files.partition_by(self.partition or "all", as_dict=True).items()
        }

    def remove(self, path: str) -> None:
        """Drops a data file with the next commit; `path` is below the table."""
        parts = (part.partition("=") for part in path.split("/")[:-1])
        values: dict[str, str | None] = {name: value for name, _, value in parts}
        now = int(time.time() * 1000)
        self._removed.append(RemoveAction(path, data_change=True, deletion_timestamp=now, partition_values=values))

    def drop(self, condition: pl.Expr) -> int:
        """Drops the rows that meet a condition with the next commit, and returns how many these are."""
        count = 0
        for file in self.files().iter_rows(named=True):
            scan = self.lake.read_parquet([f"{self.lake.uri(self.table)}/{file['path']}"])
            dropped = scan.select(condition.sum()).collect().item() or 0
            count += dropped
            if dropped:
                self.remove(file["path"])
            if 0 < dropped < file["rows"]:
                whole = [self.schema.to_frame().lazy(), scan.filter(~condition)]
                rows = pl.concat(whole, how="diagonal").collect()
                value = str(file[self.partition]) if self.partition else ""
                self.write(rows.with_columns(pl.lit(value).alias(self.partition)) if self.partition else rows, value)
        return count

    def write(self, frame: pl.DataFrame, value: str = "") -> None:
        """Writes a data file of one partition, which becomes part of the table with `commit`."""
        rows = schemas.check(frame, self.schema, name=self.table)
        if self.partition:
            rows = rows.drop(self.partition)
        name = f"{uuid.uuid4().hex}.parquet"
        path = f"{self.partition}={value}/{name}" if self.partition else name
        try:
            with space.watched(self.lake.root):
                size = self._store(rows, f"{self.table}/{path}")
        except BaseException:
            with suppress(LakeError):  # the disk may be gone, too
                self.lake.remove(f"{self.table}/{path}")
            raise
        partitions: dict[str, str | None] = {self.partition: value} if self.partition else {}
        self._added.append(AddAction(path, size, partitions, 0, True, _statistics(rows)))

    def commit(self, transactions: dict[str, int], notes: dict[str, str] | None = None) -> int:
        """Makes the draft the table's next version, records the transactions with it, and returns that version.

        The written files are on the disk before the commit that names them, so that a power cut loses both or none. From here
        on they are not the draft's any more: `discard` leaves them, however the commit ends.

        Raises:
            Conflict: another draft was faster; open a new one and look again.
        """
        self.lake.sync(*(f"{self.table}/{action.path}" for action in self._added))
        actions: list[AddAction | RemoveAction] = [*self._removed, *self._added]
        self._removed, self._added = [], []
        write = partial(
            self.handle.create_write_transaction,
            actions,
            "append",
            _delta_schema(self.schema),
            [self.partition] if self.partition else None,
        )
        recorded = {FENCE: self.handle.version() + 1} | transactions
        return commit(
            self.lake, self.table, self.handle, write, transactions=recorded, notes=notes, is_data_synced=True
        )

    def discard(self) -> None:
        """Removes the files that were written and not committed."""
        for action in self._added:
            self.lake.remove(f"{self.table}/{action.path}")
        self._added.clear()
        self._removed.clear()

    def _store(self, rows: pl.DataFrame, path: str) -> int:
        local = self.lake.local_path(path)
        if local is None:
            buffer = io.BytesIO()
            rows.write_parquet(buffer, compression="zstd", compression_level=1)
            self.lake.write_bytes(path, buffer.getvalue())
            return buffer.tell()
        local.parent.mkdir(parents=True, exist_ok=True)
        rows.write_parquet(local, compression="zstd", compression_level=1)
        return local.stat().st_size


def change(
    lake: Lake, table: str, attempt: Callable[[Draft], Result], *, schema: pl.Schema, partition: str | None = None
) -> Result:
    """Returns the result of `attempt`, which looks at a draft, fills and commits it; again while other writers are faster.

    Raises:
        LakeError: others were faster too many times, or the table cannot be opened or made.
    """

    def once() -> Result:
        draft = open_draft(lake, table, schema=schema, partition=partition)
        try:
            return attempt(draft)
        finally:
            draft.discard()

    return until_committed(table, once)


def open_draft(lake: Lake, table: str, *, schema: pl.Schema, partition: str | None = None) -> Draft:
    """Returns a draft on the newest version of a table, which is made when it does not exist.

    A table that an older program made gets the columns it lacks; its data files stay as they are and read as null there.

    Raises:
        LakeError: the table cannot be opened or made, or is partitioned in another way.
    """
    handle = until_committed(table, partial(_opened, lake, table, schema, partition))
    return Draft(lake, table, schema, partition, handle)


def _opened(lake: Lake, table: str, schema: pl.Schema, partition: str | None) -> DeltaTable:
    """The newest version, after the table was made or got its new columns: both are commits to the log alone."""
    handle = lake.open(table)
    partitions = [partition] if partition else []
    if handle is None:
        create = partial(
            DeltaTable.create,
            lake.uri(table),
            schema=_delta_schema(schema),
            partition_by=partitions or None,
            configuration=configuration(schema),
            storage_options=s3_options(lake.root),
        )
        commit(lake, table, None, create)
        return _opened(lake, table, schema, partition)
    if handle.metadata().partition_columns != partitions:
        raise LakeError(
            f"table '{table}' in {lake.root} is not partitioned by {partition or 'nothing'}: an older dealrec made it; begin "
            f"another lake, or remove the folder {table} if it is 'samples', which is then made anew"
        )
    present = {field.name for field in handle.schema().fields}
    missing = [field for field in _delta_schema(schema).fields if field.name not in present]
    if not missing:
        return handle
    commit(lake, table, handle, partial(handle.alter.add_columns, missing))
    return _opened(lake, table, schema, partition)


def _delta_schema(schema: pl.Schema) -> DeltaSchema:
    return DeltaSchema.from_arrow(schema.to_frame().to_arrow(compat_level=pl.CompatLevel.oldest()).schema)


def _statistics(rows: pl.DataFrame) -> str:
    statistics: dict[str, Any] = {"numRecords": rows.height}
    if schemas.TIMESTAMP in rows.columns and rows.height:
        times = rows.select(low=pl.col(schemas.TIMESTAMP).min(), high=pl.col(schemas.TIMESTAMP).max()).row(0)
        low, high = (time.strftime("%Y-%m-%dT%H:%M:%S.%fZ") for time in times)
        bounds = {"minValues": low, "maxValues": high, "nullCount": 0}
        statistics |= {name: {schemas.TIMESTAMP: value} for name, value in bounds.items()}
    return json.dumps(statistics)
