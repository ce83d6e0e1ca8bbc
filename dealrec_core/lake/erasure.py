"""Removes a user from everything below the lake's root, and keeps the user from coming back with an old raw file."""

import json
import re
import secrets
from datetime import datetime

import polars as pl
from pydantic import BaseModel, ConfigDict

from dealrec_core import schema
from dealrec_core.errors import DataError
from dealrec_core.lake import Lake, damage, upkeep
from dealrec_core.lake.draft import Draft, change
from dealrec_core.lake.erased import SALT, TABLE, hashed
from dealrec_core.lake.nights import TABLES
from dealrec_core.lake.store import SUMS

EMITTED = "emitted/coresets"
PARTITIONS = {"interactions": schema.PERIOD, "samples": schema.PERIOD}
SCHEMAS = {
    table: schema.SAMPLE_TABLE if table == "samples" else getattr(schema, table.upper()) for table in TABLES
}  # fmt: skip


class Erasure(BaseModel):
    """The report of an erasure: what was removed, and where the user can still be read."""

    model_config = ConfigDict(frozen=True)

    rows: dict[str, int]
    """Removed rows by table; for quarantine, rows whose raw text was blanked."""
    withdrawn: list[str]
    """Folders of emitted coresets that held the user's samples."""
    remaining: list[str]
    """Data files of older versions that still hold the user, and files of killed writers, which nobody can look into."""


def erase(lake: Lake, user_id: str, *, at: datetime, now: bool) -> Erasure:
    """Removes a user from every table and emitted coreset, and returns a report.

    The caller holds the lake's lock. An erasure that was killed is simply run again. A file that a killed writer left torn stops
    nothing: no version names it, so no row of it is in a table.

    now: whether the user goes from older versions as well, by removing every file that the newest versions do not need. Else
        upkeep removes those files after its retention, whatever a night names.

    Raises:
        DataError: the id is empty.
        LakeError: other writers were faster too many times, or a file that the newest version of a table names is torn.
    """
    if not user_id:
        raise DataError("the user id is empty; give the id as it stands in the log")
    _remember(lake, user_id, at, {})  # first: an ingest after a kill must not bring the user back
    sample_ids = _sample_ids(lake, user_id)
    withdrawn = _withdraw(lake, sample_ids)
    rows = {table: _remove(lake, table, user_id, sample_ids) for table in TABLES if lake.exists(table)}
    _remember(lake, user_id, at, {table: lake.version(table) for table in rows})
    if now:
        for table in rows:
            upkeep.vacuum(lake, table, keep=set(), retention_hours=0)
    remaining = [
        path
        for table in rows
        for path in [*upkeep.data_files(lake, table), *damage.unfinished(lake, table)]
        if _may_hold(lake, path, user_id, sample_ids)
    ]
    counts = {table: count for table, count in rows.items() if count}
    return Erasure(rows=counts, withdrawn=withdrawn, remaining=remaining)


def forgotten(lake: Lake) -> dict[str, int]:
    """Returns, by table, the first version that may still be read: older ones hold an erased user."""
    first: dict[str, int] = {}
    if lake.exists(TABLE):
        for text in lake.scan(TABLE).select("versions").collect()["versions"]:
            for table, version in json.loads(text).items():
                first[table] = max(first.get(table, 0), version)
    return first


def _remember(lake: Lake, user_id: str, at: datetime, versions: dict[str, int]) -> None:
    if not lake.exists_path(SALT):
        lake.write_bytes(SALT, secrets.token_hex(16).encode())
    user = hashed(user_id, bytes.fromhex(lake.read_bytes(SALT).decode()))
    row = pl.DataFrame([{"at": at, "user": user, "versions": json.dumps(versions)}], schema=schema.ERASURES)
    lake.append(TABLE, row, schema=schema.ERASURES)


def _sample_ids(lake: Lake, user_id: str) -> pl.Series:
    """The ids of all samples that the user ever had, in any version."""
    paths = [lake.uri(path) for path in upkeep.data_files(lake, "samples") if not damage.torn(lake, path)]
    if not paths:
        return pl.Series(schema.SAMPLE_ID, dtype=pl.String)
    rows = lake.read_parquet(paths).filter(pl.col(schema.USER_ID) == user_id)
    return rows.select(schema.SAMPLE_ID).unique().collect()[schema.SAMPLE_ID]


def _withdraw(lake: Lake, sample_ids: pl.Series) -> list[str]:
    """Removes the emitted coresets that hold a sample of the user, and returns their folders.

    A folder without its list of hashes goes too: an emission or a withdrawal was killed there, and no record names it.
    """
    folders: dict[str, list[str]] = {}
    for path in lake.list_paths(EMITTED):
        folders.setdefault(path.rsplit("/", 1)[0], []).append(path)
    withdrawn = []
    for folder, paths in folders.items():
        listing = f"{folder}/{SUMS}"
        if listing not in paths or any(_holds_sample(lake, path, sample_ids) for path in paths):
            for path in [listing, *paths]:  # the list first: a kill from here on leaves an unfinished folder
                lake.remove(path)
            withdrawn.append(folder)
    for path in damage.unfinished(lake, EMITTED):
        lake.remove(path)
    return withdrawn


def _holds_sample(lake: Lake, path: str, sample_ids: pl.Series) -> bool:
    """Whether a file of a coreset holds a sample of the user; a torn one may, and is of no use."""
    if not path.endswith(".parquet"):
        return False
    if damage.torn(lake, path):
        return True
    rows = lake.read_parquet([lake.uri(path)]).collect()
    return schema.SAMPLE_ID in rows.columns and bool(rows[schema.SAMPLE_ID].is_in(sample_ids.implode()).any())


def _remove(lake: Lake, table: str, user_id: str, sample_ids: pl.Series) -> int:
    """Writes the files of a table that hold the user again without the user's rows; returns how many rows these were."""
    partition = PARTITIONS.get(table)

    def attempt(draft: Draft) -> int:
        count = 0
        for file in draft.files().iter_rows(named=True):
            rows = lake.read_parquet([f"{lake.uri(table)}/{file['path']}"]).collect()
            others, removed = _without(rows, user_id, sample_ids)
            count += removed
            if removed:
                draft.remove(file["path"])
            if removed and others.height:
                whole = pl.concat([SCHEMAS[table].to_frame(), others], how="diagonal")
                period = str(file[partition]) if partition else ""
                draft.write(whole.with_columns(pl.lit(period).alias(partition)) if partition else whole, period)
        if count:
            draft.commit({})
        return count

    return change(lake, table, attempt, schema=SCHEMAS[table], partition=partition)


def _without(rows: pl.DataFrame, user_id: str, sample_ids: pl.Series) -> tuple[pl.DataFrame, int]:
    """The rows without the user's, or with their raw text blanked, and how many rows were the user's."""
    is_users = _is_users(rows, user_id, sample_ids)
    if schema.RAW not in rows.columns:
        return rows.filter(~is_users), int(is_users.sum())
    blank = pl.when(is_users).then(pl.lit("")).otherwise(pl.col(schema.RAW)).alias(schema.RAW)
    return rows.with_columns(blank), int(is_users.sum())


def _is_users(rows: pl.DataFrame, user_id: str, sample_ids: pl.Series) -> pl.Series:
    """Whether each row belongs to the user: by user id, by sample id, or by the raw text of a bad row."""
    if schema.RAW in rows.columns:
        word = rf"(^|[^\pL\pN]){re.escape(user_id)}($|[^\pL\pN])"
        return rows[schema.RAW].str.contains(word).fill_null(False)
    if schema.USER_ID in rows.columns:
        return rows[schema.USER_ID] == user_id
    if schema.SAMPLE_ID in rows.columns:
        return rows[schema.SAMPLE_ID].is_in(sample_ids.implode())
    return pl.repeat(False, rows.height, eager=True)


def _may_hold(lake: Lake, path: str, user_id: str, sample_ids: pl.Series) -> bool:
    """Whether a data file holds the user, or cannot be looked into because its writer was killed."""
    if not path.endswith(".parquet") or damage.torn(lake, path):
        return True
    rows = lake.read_parquet([lake.uri(path)]).collect()
    return bool(_is_users(rows, user_id, sample_ids).any())
