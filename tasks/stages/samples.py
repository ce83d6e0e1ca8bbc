"""Builds samples from the log, and fixes the moments that split it for tonight."""

from dealrec_core.errors import DataError
from dealrec_core.lake.nights import NOBODY, Fact, Snapshot
from dealrec_core.samples import sample_table, split
from tasks.stage import stage
from tasks.tonight import Tonight


@stage("samples")
def build_samples(tonight: Tonight) -> Snapshot:
    """Writes every (history, next item) of the log to the table `samples`, and records the moments that split it."""
    manifest, config = tonight.night.manifest, tonight.config.samples
    log_version = tonight.night.need("ingest").version
    assert log_version is not None
    lake, not_before = tonight.lake, manifest.champion.trained_through if manifest.champion else None
    log = tonight.night.scan("interactions", log_version)
    bounds = split.boundaries(log, config, not_before=not_before)
    length, before = config.history_length, manifest.versions["samples"]
    update = sample_table.update(lake, log_version=log_version, length=length, before=before)
    if update.rows == 0:
        raise DataError("the log gives no sample: no user has two events; wait for more data or loosen the filter")
    judged = not_before is None or split.any_held_out(log, bounds)
    facts: dict[str, Fact] = {
        **{name: moment.isoformat() for name, moment in bounds.model_dump().items()},
        **split.counts(tonight.lake.scan("samples", update.version), bounds, config.mode),
        "new or changed": update.written,
        "all made anew": update.is_rebuilt,
    }
    if not judged:
        facts[NOBODY] = (
            f"nobody to judge a model: no earlier user has an event after {not_before:%Y-%m-%d %H:%M}, up to which the champion has "
            "learnt; the new rows are in the lake and are learnt in the next night"
        )
    return Snapshot(stage="samples", table="samples", version=update.version, rows=update.rows, facts=facts)
