"""The Prefect server that is started for one command where none is named, and the error when a server does not answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any

from dealrec_core.errors import ServerGone

if TYPE_CHECKING:
    from prefect.settings import Setting


def own_server() -> dict["Setting", Any]:
    """Settings of the server that Prefect starts for this process where none is named: it answers no one else."""
    from prefect.settings import (
        PREFECT_API_AUTH_STRING,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_SERVER_API_AUTH_STRING,
        PREFECT_SERVER_CORS_ALLOWED_ORIGINS,
    )

    login = f"dealrec:{token_urlsafe(32)}"
    return {
        PREFECT_API_AUTH_STRING: login,
        PREFECT_SERVER_API_AUTH_STRING: login,
        PREFECT_SERVER_CORS_ALLOWED_ORIGINS: "",
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,  # each flow would wait a second for the thread of its heartbeat
    }


@contextmanager
def told_when_gone() -> Iterator[None]:
    """Makes one line of the errors with which Prefect's client gives up a server, after it has waited for it.

    Raises:
        ServerGone: the server does not answer.
    """
    import httpx
    from prefect.settings import PREFECT_API_URL

    try:
        yield
    except (httpx.TransportError, RuntimeError) as error:
        address, request = str(PREFECT_API_URL.value()), getattr(error, "_request", None)
        if not str(request.url if request else error).removeprefix("Failed to reach API at ").startswith(address):
            raise
        raise ServerGone(
            "Prefect's server (PREFECT_API_URL) does not answer; start it and run the command again: finished stages are kept"
        ) from error
