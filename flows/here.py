"""Runs flows in the process of a command: its lines on the terminal, everything else that is logged in a file."""

import atexit
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from logging.handlers import RotatingFileHandler
from pathlib import Path

from rich.console import Console
from rich.text import Text

from dealrec_core.errors import plain
from flows.ending import ends_when_told
from flows.own_server import own_server, told_when_gone

LOG = "logs/dealrec.log"
"""Below `run.home`: the log of every command that runs flows."""
LOG_BYTES = 10_000_000
"""Size at which the log is put aside; three such files are kept."""


@contextmanager
def in_this_process(home: str, *, computes: bool = True) -> Iterator[None]:
    """Lets flows run here, and shows the steps of a night on the terminal.

    home: folder of the log. computes: whether models are loaded. An error of the block gets the name of the log as a note.
    """
    # Prefect's own 20 s are too few for its first start on a busy machine.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    # A server that is gone is waited for, two minutes instead of one.
    os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "6")
    # Its report to its makers would be sent, and would lock the new database against the night's first steps.
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    if computes:
        quiet_models()
    from prefect.logging.configuration import setup_logging
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.screen import Screen
    from tasks.progress import watched_by

    setup_logging()
    file, console = Path(home) / LOG, Console(stderr=True, soft_wrap=True)
    server = nullcontext() if PREFECT_API_URL.value() else temporary_settings(own_server())
    with ends_when_told(), logged_to(file), server, Screen(console) as screen, watched_by(screen):
        console.print(Text(f"log: {plain(file)}"))
        try:
            with told_when_gone():
                yield
        except Exception as error:
            error.add_note(f"log: {file}")
            raise
        finally:
            atexit.register(logging.disable, logging.INFO)  # runs before the server is stopped, which would say so


def quiet_models() -> None:
    """Keeps transformers from drawing bars and warning of its own future while models are loaded."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")


@contextmanager
def logged_to(file: Path) -> Iterator[None]:
    """Writes to a file, until the block ends, what any logger would write to the terminal; servers and tests get theirs as before."""
    file.parent.mkdir(parents=True, exist_ok=True)
    log = RotatingFileHandler(file, maxBytes=LOG_BYTES, backupCount=2, encoding="utf-8")
    log.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    known = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    loggers = [logger for logger in known if isinstance(logger, logging.Logger)]
    before = {logger: logger.handlers for logger in loggers}
    for logger in loggers:
        kept = [handler for handler in logger.handlers if not _writes_to_terminal(handler)]
        logger.handlers = [*kept, log] if len(kept) < len(logger.handlers) else kept
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for logger, handlers in before.items():
            logger.handlers = handlers
        log.close()


def _writes_to_terminal(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
