"""Builds samples from the log, and fixes the moments that split it for tonight."""

from dealrec_core.errors import DataError
from dealrec_core.lake.nights import Fact, Snapshot
from dealrec_core.samples import sample_table, split
from tasks.stage import stage
from tasks.tonight import Tonight


@stage("samples")
def build_samples(tonight: Tonight) -> Snapshot:
    """Writes every (history, next item) of the log to the table `samples`, and records the moments that split it."""
    manifest, config = tonight.night.manifest, tonight.config.samples
    log_version = tonight.night.need("ingest").version
    assert log_version is not None
    champion = manifest.champion
    bounds = split.boundaries(
        tonight.lake.scan("interactions", log_version),
        config,
        not_before=champion.trained_through if champion else None,
    )
    update = sample_table.update(
        tonight.lake, log_version=log_version, length=config.history_length, before=manifest.versions["samples"]
    )
    if update.rows == 0:
        raise DataError("the log gives no sample: no user has two events; wait for more data or loosen the filter")
    facts: dict[str, Fact] = {
        **{name: moment.isoformat() for name, moment in bounds.model_dump().items()},
        **split.counts(tonight.lake.scan("samples", update.version), bounds, config.mode),
        "new or changed": update.written,
        "all made anew": update.is_rebuilt,
    }
    return Snapshot(stage="samples", table="samples", version=update.version, rows=update.rows, facts=facts)
