"""Adds Parquet files to a Delta table in one commit that a racing writer of the same kind cannot overlap."""

import io
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from dealrec_core import schema as schemas
from dealrec_core.errors import LakeError
from dealrec_core.lake import Conflict, Lake
from dealrec_core.lake.tables import configuration, line, s3_options

ATTEMPTS = 5
FENCE = "dealrec.appender"
"""Every commit of an appender carries this transaction: of two that saw the same version, the table refuses the second."""


@dataclass
class Appender:
    """The table as it was when the appender was opened, and the files that wait to be added to it."""

    lake: Lake
    table: str
    schema: pl.Schema
    partition: str | None
    handle: DeltaTable
    _added: list[AddAction] = field(default_factory=list)
    _removed: list[RemoveAction] = field(default_factory=list)

    def taken(self, identifier: str) -> int | None:
        """The number that the table has recorded for a transaction identifier."""
        return self.handle.transaction_version(identifier)

    def rows(self) -> int:
        """How many rows the table has."""
        return int(self.files()["rows"].sum())

    def files(self) -> pl.DataFrame:
        """Data files of the table: path (below the table), rows and the partition column where there is one."""
        actions = pl.DataFrame(self.handle.get_add_actions(flatten=True))
        names = {"path": "path", "num_records": "rows", f"partition.{self.partition}": self.partition or ""}
        columns = [pl.col(old).alias(new) for old, new in names.items() if old in actions.columns]
        if not actions.height:
            return pl.DataFrame(
                schema={name: pl.Int64 if name == "rows" else pl.String for name in names.values() if name}
            )
        return actions.select(columns)

    def known_files(self) -> dict[str, list[str]]:
        """Paths of the table's data files by partition value ('' without partitions)."""
        files = self.files().with_columns(pl.col(self.partition) if self.partition else pl.lit("").alias("all"))
        return {
            str(value): [f"{self.lake.uri(self.table)}/{path}" for path in part["path"]]
            for (value,), part in files.partition_by(self.partition or "all", as_dict=True).items()
        }

    def remove(self, path: str) -> None:
        """Takes a data file out of the table with the next commit; `path` is below the table."""
        values: dict[str, str | None] = {}
        for part in path.split("/")[:-1]:
            name, value = part.split("=", 1)
            values[name] = value
        removed = RemoveAction(
            path, data_change=True, deletion_timestamp=int(time.time() * 1000), partition_values=values
        )
        self._removed.append(removed)

    def write(self, frame: pl.DataFrame, value: str = "") -> None:
        """Writes a data file of one partition; it is part of the table only after `commit`."""
        rows = schemas.check(frame, self.schema, name=self.table)
        if self.partition:
            rows = rows.drop(self.partition)
        name = f"{uuid.uuid4().hex}.parquet"
        path = f"{self.partition}={value}/{name}" if self.partition else name
        size = self._store(rows, f"{self.table}/{path}")
        partitions: dict[str, str | None] = {self.partition: value} if self.partition else {}
        self._added.append(AddAction(path, size, partitions, 0, True, _statistics(rows)))

    def commit(self, transactions: dict[str, int], notes: dict[str, str] | None = None) -> None:
        """Adds what was written, and records the transactions, in one step.

        Raises:
            Conflict: another appender was faster; open a new one and look again.
        """
        fence = Transaction(FENCE, self.handle.version() + 1)
        properties = CommitProperties(
            app_transactions=[fence, *(Transaction(*each) for each in transactions.items())], custom_metadata=notes
        )
        try:
            self.handle.create_write_transaction(
                [*self._removed, *self._added],
                "append",
                _delta_schema(self.schema),
                [self.partition] if self.partition else None,
                commit_properties=properties,
            )
        except CommitFailedError as error:
            self.abandon()
            raise Conflict(f"table '{self.table}' was changed meanwhile: {line(error)}") from error
        self._added.clear()
        self._removed.clear()
        self.lake.sync(f"{self.table}/_delta_log/{self.handle.version():020}.json")

    def abandon(self) -> None:
        """Removes the files that wait."""
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


def open_appender(lake: Lake, table: str, *, schema: pl.Schema, partition: str | None = None) -> Appender:
    """An appender on the newest version of a table, which is made when it does not exist.

    A table that an older program made gets the columns it lacks; its data files stay as they are and read as null there.

    Raises:
        LakeError: the table cannot be opened or made.
    """
    handle = lake.open(table)
    if handle is None:
        try:
            handle = DeltaTable.create(
                lake.uri(table),
                schema=_delta_schema(schema),
                partition_by=[partition] if partition else None,
                configuration=configuration(schema),
                storage_options=s3_options(lake.root),
            )
        except (DeltaError, OSError) as error:
            handle = lake.open(table)  # another process made it first
            if handle is None:
                raise LakeError(f"cannot make table '{table}' in {lake.root}: {line(error)}") from error
    if handle.metadata().partition_columns != ([partition] if partition else []):
        raise LakeError(
            f"table '{table}' in {lake.root} is not partitioned by {partition or 'nothing'}: an older dealrec made it; begin "
            f"another lake, or remove the folder {table} if it is 'samples', which is then made anew"
        )
    return Appender(lake, table, schema, partition, _with_columns(lake, table, handle, schema))


def _with_columns(lake: Lake, table: str, handle: DeltaTable, schema: pl.Schema) -> DeltaTable:
    """The table after it got the columns that it lacks: one commit to its log, no data file is touched."""
    for _ in range(ATTEMPTS):
        present = {field.name for field in handle.schema().fields}
        missing = [field for field in _delta_schema(schema).fields if field.name not in present]
        if not missing:
            return handle
        try:
            handle.alter.add_columns(missing)
        except (DeltaError, OSError) as error:  # most likely another process did it first
            last = line(error)
        handle = lake.open(table) or handle
    raise LakeError(f"cannot add columns to table '{table}' in {lake.root}: {last}")


def _delta_schema(schema: pl.Schema) -> DeltaSchema:
    return DeltaSchema.from_arrow(schema.to_frame().to_arrow(compat_level=pl.CompatLevel.oldest()).schema)


def _statistics(rows: pl.DataFrame) -> str:
    found: dict[str, Any] = {"numRecords": rows.height}
    if schemas.TIMESTAMP in rows.columns and rows.height:
        times = rows.select(low=pl.col(schemas.TIMESTAMP).min(), high=pl.col(schemas.TIMESTAMP).max()).row(0)
        low, high = (time.strftime("%Y-%m-%dT%H:%M:%S.%fZ") for time in times)
        nulls = {schemas.TIMESTAMP: 0}
        found |= {"minValues": {schemas.TIMESTAMP: low}, "maxValues": {schemas.TIMESTAMP: high}, "nullCount": nulls}
    return json.dumps(found)
