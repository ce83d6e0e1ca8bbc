"""Who was erased from a lake, as ingestion asks: by salted hashes, since the ids are gone."""

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
        """The events of all other users."""
        if not self.users:
            return events
        users = events[schema.USER_ID].unique()
        gone = pl.Series([user for user in users if hashed(user, self.salt) in self.users], dtype=pl.String)
        return events if gone.is_empty() else events.filter(~pl.col(schema.USER_ID).is_in(gone.implode()))


NOBODY = Erased(b"", frozenset())


def erased(lake: Lake) -> Erased:
    """Who was erased from this lake."""
    if not lake.exists(TABLE):
        return NOBODY
    users = lake.scan(TABLE).select("user").collect()["user"]
    return Erased(bytes.fromhex(lake.read_bytes(SALT).decode()), frozenset(users))


def hashed(user_id: str, salt: bytes) -> str:
    """32 hex digits that tell users apart, and say nothing without the salt."""
    return hashlib.blake2b(user_id.encode(), key=salt, digest_size=16).hexdigest()
