"""Finds what an earlier night's influence left in the lake, and leaves tonight's there."""

import math
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from dealrec_core import schema
from dealrec_core.errors import DataError, LakeError
from dealrec_core.influence import carried
from dealrec_core.influence.carried import Change
from dealrec_core.influence.continued import Continued, Earlier
from dealrec_core.lake.nights import Night, Snapshot
from dealrec_core.samples import sequences
from dealrec_core.surrogate import checkpoint
from tasks import storage
from tasks.ingest import samples_of
from tasks.stage import device


def earlier_of(night: Night, item_ids: list[str], train: pl.DataFrame, risk: pl.DataFrame) -> Earlier | str:
    """What tonight's scores can go on from, or why there is nothing.

    Args:
        train, risk: tonight's, sorted by sample_id as they are scored.
    """
    if night.config.influence.most_moved == 0:
        return "influence.most_moved is 0"
    found = _last(night)
    if found is None:
        return "no earlier night with these settings and this code left anything"
    earlier, record = found
    folder = storage.local_copy(night.lake, str(record.path), home=night.config.run.home)
    where = str(device(night))
    model, known, _ = checkpoint.load(folder, device=where)
    if known != item_ids[: len(known)]:
        return f"the surrogate numbers its items in another way than in night {earlier.name}"
    try:
        old_train, old_risk = samples_of(earlier, "train"), risk_samples(earlier)
        scores = night.lake.scan("influences", record.version).filter(pl.col(schema.NIGHT) == earlier.name).collect()
    except (LakeError, OSError, pl.exceptions.PolarsError) as error:
        return f"the samples of night {earlier.name} are not there any more ({type(error).__name__})"
    new_train, gone_train = _differences(old_train, train)
    new_risk, gone_risk = _differences(old_risk, risk)
    kept = scores.join(new_train, on=schema.SAMPLE_ID, how="anti")
    column = train.select(schema.SAMPLE_ID).join(kept, on=schema.SAMPLE_ID, how="left", maintain_order="left")
    return Earlier(
        model=model,
        carried=carried.load(folder, device=where)[0],
        scores=column[schema.INFLUENCE].fill_null(np.nan).to_numpy().copy(),
        train=Change(sequences.encode(new_train, item_ids), sequences.encode(gone_train, item_ids)),
        risk=Change(sequences.encode(new_risk, item_ids), sequences.encode(gone_risk, item_ids)),
    )


def leave(night: Night, made: Continued, item_ids: list[str]) -> tuple[str | None, str | None]:
    """Publishes what the next night can go on from; its path below the lake's root and its hash, None where nothing is left."""
    if made.result.carried is None or night.config.influence.most_moved == 0:
        return None, None
    path = f"models/influence/{night.name}"
    with tempfile.TemporaryDirectory() as folder:
        lineage = {"night": night.name}
        checkpoint.save(Path(folder), made.model, item_ids=item_ids, config=night.config.surrogate, lineage=lineage)
        carried.save(Path(folder), made.result.carried, lineage=lineage)
        sha256 = storage.publish(night.lake, Path(folder), path)
    _forget(night)
    return path, sha256


def _forget(night: Night) -> None:
    """Removes what nights before the last one left; a night that missed it would compute everything."""
    last = _last(night)
    needed = {night.name, last[0].name if last else night.name}
    for path in night.lake.list_paths("models/influence"):
        if path.split("/")[2] not in needed:
            night.lake.remove(path)


def risk_samples(night: Night) -> pl.DataFrame:
    """The samples whose mean loss is the risk, sorted by sample_id.

    Raises:
        DataError: there are none.
    """
    config = night.config.influence
    found = samples_of(night, "train" if config.risk == "train" else "validation")
    if found.is_empty():
        raise DataError(
            "the validation slice is empty; raise samples.validation_fraction or set influence.risk = 'train'"
        )
    return latest(found, config.recent_share) if config.risk == "recent" else found


def latest(samples: pl.DataFrame, share: float) -> pl.DataFrame:
    """The most recent share of the samples, at least one, sorted by sample_id; of equal times the higher ids first."""
    count = math.ceil(share * len(samples))
    return samples.sort(schema.TIMESTAMP, schema.SAMPLE_ID).tail(count).sort(schema.SAMPLE_ID)


def _last(night: Night) -> tuple[Night, Snapshot] | None:
    """The newest earlier night that scored in the same way and left something, with its record of influence."""
    ours = night.manifest
    for earlier in reversed(night.earlier):
        theirs = earlier.manifest
        same = (theirs.settings.influence, theirs.settings.surrogate, theirs.settings.run.seed, theirs.code) == (
            ours.settings.influence, ours.settings.surrogate, ours.settings.run.seed, ours.code
        )  # fmt: skip
        if not same:
            continue
        record = earlier.find("influence")
        if record is not None and record.path is not None and storage.published(night.lake, record.path):
            return earlier, record
    return None


def _differences(before: pl.DataFrame, tonight: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Samples of tonight that were not there before with the same history and target, and the other way round."""
    before, tonight = _with_words(before), _with_words(tonight)
    keys = [schema.SAMPLE_ID, "words"]
    return tonight.join(before, on=keys, how="anti"), before.join(tonight, on=keys, how="anti")


def _with_words(samples: pl.DataFrame) -> pl.DataFrame:
    words = pl.concat_str(pl.col(schema.HISTORY).list.join("\x1f"), pl.lit("\x1e"), pl.col(schema.ITEM_ID))
    return samples.with_columns(words.hash(seed=0).alias("words"))
