"""The Prefect server that is started for one command where none is named."""

from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any

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
