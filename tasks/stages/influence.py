"""Scores the influence of every train sample, from the sums of an earlier night if they may be used."""

from functools import partial

import numpy as np
import polars as pl

from dealrec_core import schema
from dealrec_core.errors import DataError, LakeError
from dealrec_core.influence import carried, continued
from dealrec_core.influence.carried import Change
from dealrec_core.influence.continued import Continued, Earlier
from dealrec_core.lake.nights import Fact, Manifest, Night, Snapshot
from dealrec_core.language.memory import with_fewer_tokens
from dealrec_core.samples import split
from dealrec_core.samples.contents import differences
from dealrec_core.samples.sequences import encode
from dealrec_core.surrogate import checkpoint
from dealrec_core.surrogate.training import unusable
from tasks import storage
from tasks.naming import naming
from tasks.progress import shown
from tasks.stage import stage
from tasks.stages.surrogate import GENERATION
from tasks.tonight import Tonight

FOLDER = "models/influence"
RECENT = 0.5
"""Share of the validation slice that influence.risk = 'recent' takes from its end."""

NONE_WITHIN_REACH = "loss, because no target is within reach of a list"


@stage("influence")
def score_influence(tonight: Tonight) -> Snapshot:
    """Writes to the table `influences` what leaving each train sample out would do to the surrogate's risk."""
    config, train, risk = tonight.config.influence, tonight.train, risk_samples(tonight)
    scored = _scored(tonight, risk)
    path, sha256 = _publish(tonight, scored)
    result = scored.result
    frame = train.select(schema.SAMPLE_ID, pl.Series(schema.INFLUENCE, result.scores))
    version = tonight.replace_rows("influences", frame, schema.INFLUENCES)
    facts: dict[str, Fact] = {
        "samples": len(train),
        "risk samples": len(risk),
        "risk samples that count": result.risk_count,
        "objective": tonight.config.algorithms.influence.objective if result.risk_count else NONE_WITHIN_REACH,
        "solver": config.solver,
        "products": result.products,
        "residual": float(f"{result.residual:.2e}"),
        "damping": float(f"{result.damping:.3g}"),
        "cosine of q and v": round(result.alignment, 4),
        "share positive": round(float((result.scores > 0).mean()), 4),
        "scored": scored.scored,
        "reused": len(train) - scored.scored,
        "why": scored.why,
    }
    return Snapshot(
        stage="influence", table="influences", version=version, rows=len(train), facts=facts, path=path, sha256=sha256
    )


def risk_samples(tonight: Tonight) -> pl.DataFrame:
    """The samples whose mean loss is the risk, sorted by sample_id.

    Raises:
        DataError: there are none.
    """
    config = tonight.config.influence
    samples = tonight.train if config.risk == "train" else tonight.aimed_at
    if samples.is_empty():
        message = "the validation slice is empty; raise samples.validation_fraction or set influence.risk = 'train'"
        raise DataError(message)
    return split.latest(samples, RECENT) if config.risk == "recent" else samples


def _scored(tonight: Tonight, risk: pl.DataFrame) -> Continued:
    """The scores of tonight's train samples: from the sums of an earlier night if they may be used, else computed again."""
    model, item_ids = tonight.surrogate
    samples, aims = encode(tonight.train, item_ids), encode(risk, item_ids)
    config, seed, device = tonight.config.algorithms.influence, tonight.config.run.seed, tonight.device
    earlier = _earlier(tonight, risk)
    score = partial(continued.score_on, earlier, model, samples, aims, seed=seed, device=device)
    with naming(tonight.train, lambda: unusable(model, samples).tolist()), shown("influence", "percent") as progress:
        return with_fewer_tokens(
            config.batch_tokens,
            lambda most: score(config=config.model_copy(update={"batch_tokens": most}), progress=progress),
        )


def _earlier(tonight: Tonight, risk: pl.DataFrame) -> Earlier | str:
    """An earlier night's scores that tonight can start from, or the reason why there are none."""
    if tonight.config.surrogate.most_new == 0:
        return "surrogate.most_new is 0"
    last = _last_scored(tonight)
    if last is None:
        return "no earlier night with these settings and this code has published its scores"
    ours, theirs = (night.need("surrogate").facts.get(GENERATION) for night in (tonight.night, last[0]))
    if ours != theirs:
        return "the surrogate is of a new generation"
    before, record = Tonight(last[0]), last[1]
    folder, device = tonight.local_copy(record), str(tonight.device)
    model, known_ids, _ = checkpoint.load(folder, device=device)
    item_ids = tonight.surrogate[1]
    if known_ids != item_ids[: len(known_ids)]:
        return f"the surrogate numbers its items in another way than in night {before.night.name}"
    try:
        train, old_risk, scores = before.train, risk_samples(before), before.rows("influence")
    except (LakeError, OSError, pl.exceptions.PolarsError) as error:
        return f"the samples of night {before.night.name} are not there any more ({type(error).__name__})"
    new_train, gone_train = differences(train, tonight.train)
    new_risk, gone_risk = differences(old_risk, risk)
    unchanged = scores.join(new_train, on=schema.SAMPLE_ID, how="anti")
    ids = tonight.train.select(schema.SAMPLE_ID)
    column = ids.join(unchanged, on=schema.SAMPLE_ID, how="left", maintain_order="left")
    return Earlier(
        model=model,
        carried=carried.load(folder, device=device)[0],
        scores=column[schema.INFLUENCE].fill_null(np.nan).to_numpy().copy(),
        train=Change(encode(new_train, item_ids), encode(gone_train, item_ids)),
        risk=Change(encode(new_risk, item_ids), encode(gone_risk, item_ids)),
    )


def _publish(tonight: Tonight, scored: Continued) -> tuple[str | None, str | None]:
    """Publishes the sums that the next night can start from; returns their path and hash, None if there are none."""
    if scored.result.carried is None or tonight.config.surrogate.most_new == 0:
        return None, None
    name = tonight.night.name
    path, lineage = f"{FOLDER}/{name}", {"night": name}
    with storage.publishing(tonight.lake, path) as published:
        config, item_ids = tonight.config.algorithms.surrogate, tonight.surrogate[1]
        checkpoint.save(published.folder, scored.model, item_ids=item_ids, config=config, lineage=lineage)
        carried.save(published.folder, scored.result.carried, lineage=lineage)
    _forget(tonight)
    return path, published.sha256


def _forget(tonight: Tonight) -> None:
    """Removes what nights before the last one published; a night that missed it would compute everything."""
    last = _last_scored(tonight)
    needed = {tonight.night.name, last[0].name if last else tonight.night.name}
    for path in tonight.lake.list_paths(FOLDER):
        if path.split("/")[2] not in needed:
            tonight.lake.remove(path)


def _last_scored(tonight: Tonight) -> tuple[Night, Snapshot] | None:
    """The newest earlier night that scored in the same way and published its scores, with its record of influence."""
    for night in reversed(tonight.night.earlier):
        record = night.find("influence") if _way(night.manifest) == _way(tonight.night.manifest) else None
        if (
            record is not None
            and record.path is not None
            and storage.published(tonight.lake, record.path, record.sha256)
        ):
            return night, record
    return None


def _way(manifest: Manifest) -> tuple[object, ...]:
    """Everything that the scores of a night depend on beside its samples."""
    settings = manifest.settings
    return settings.algorithms.influence, settings.algorithms.surrogate, settings.run.seed, manifest.code
