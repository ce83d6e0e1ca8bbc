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
    lake, not_before = tonight.lake, manifest.champion.trained_through if manifest.champion else None
    bounds = split.boundaries(tonight.night.scan("interactions", log_version), config, not_before=not_before)
    length, before = config.history_length, manifest.versions["samples"]
    update = sample_table.update(lake, log_version=log_version, length=length, before=before)
    if update.rows == 0:
        raise DataError("the log gives no sample: no user has two events; wait for more data or loosen the filter")
    facts: dict[str, Fact] = {
        **{name: moment.isoformat() for name, moment in bounds.model_dump().items()},
        **split.counts(tonight.lake.scan("samples", update.version), bounds, config.mode),
        "new or changed": update.written,
        "all made anew": update.is_rebuilt,
    }
    return Snapshot(stage="samples", table="samples", version=update.version, rows=update.rows, facts=facts)
