"""Keeps erased users from coming back with raw files: by salted hashes, since their ids are gone."""

import hashlib
from dataclasses import dataclass

import polars as pl

from dealrec_core import schema
from dealrec_core.lake import Lake

TABLE, SALT = "erasures", "erasures.salt"


@dataclass(frozen=True)
class Erased:
    """The users that must not come back, as salted hashes."""

    salt: bytes
    users: frozenset[str]

    def without(self, events: pl.DataFrame) -> pl.DataFrame:
        """Returns the events of all other users."""
        if not self.users:
            return events
        users = events[schema.USER_ID].unique()
        erased_users = pl.Series([user for user in users if hashed(user, self.salt) in self.users], dtype=pl.String)
        return (
            events if erased_users.is_empty() else events.filter(~pl.col(schema.USER_ID).is_in(erased_users.implode()))
        )


NOBODY = Erased(b"", frozenset())


def erased(lake: Lake) -> Erased:
    """Returns the users who were erased from a lake."""
    if not lake.exists(TABLE):
        return NOBODY
    users = lake.scan(TABLE).select("user").collect()["user"]
    return Erased(bytes.fromhex(lake.read_bytes(SALT).decode()), frozenset(users))


def hashed(user_id: str, salt: bytes) -> str:
    """Returns 32 hex digits that tell users apart and cannot be traced back without the salt."""
    return hashlib.blake2b(user_id.encode(), key=salt, digest_size=16).hexdigest()
