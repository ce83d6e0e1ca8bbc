"""The logins that `make up` made: a command in another shell uses them for the servers of this machine, and for no others."""

import re
from collections.abc import MutableMapping
from pathlib import Path

LOGINS = {
    "PREFECT_API_URL": ("PREFECT_API_AUTH_STRING",),
    "DEALREC_REGISTRY__TRACKING_URI": ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
}
"""The variable that names a server, and those that hold its login."""


def log_in(environment: MutableMapping[str, str]) -> None:
    """Adds the logins of those servers that the environment names and `make up` started; what is set already stays."""
    file = Path(environment.get("DEALREC_VAR", "var")) / "secrets" / "login.sh"
    try:
        made = dict(re.findall(r"^export (\w+)=(.*)$", file.read_text("utf-8"), re.MULTILINE))
    except OSError:  # nobody ran `make up` here, or another user did
        return
    for address, names in LOGINS.items():
        if address in made and environment.get(address) == made[address]:
            for name in names:
                environment.setdefault(name, made[name])
