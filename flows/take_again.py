"""Reads raw files again after a correction of the settings or of the files, by hand."""

from datetime import UTC, datetime

from prefect import flow

from dealrec_core.ingest.again import Correction
from dealrec_core.lake.nights import last_whole_day
from tasks.nights import NightRequest
from tasks.stages import ingest


@flow(name="take-again", result_serializer="json")
def take_again(request: NightRequest = NightRequest(), patterns: list[str] = ["**"], fewer: bool = False) -> Correction:  # noqa: B006 - Prefect shows it
    """Replaces the earlier rows of files by their present rows; the next night makes samples of them.

    patterns: paths or glob patterns below `sources.root`, among the files of interactions and items.
    fewer: whether a file may have less than half as many rows as its name has in the lake.
    """
    return ingest.take_again(
        request.settings(), patterns, request.day or last_whole_day(datetime.now(UTC)), fewer=fewer
    )
