"""The end of a command that is told to end while Prefect's client still waits for a server that is gone."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_S = 10.0
"""Time for the report to Prefect's server. A server that answers needs a second or two; docker and `make up` wait for ten."""


@contextmanager
def ends_when_told(grace_s: float = GRACE_S) -> Iterator[None]:
    """Sees to it that SIGTERM or Ctrl-C ends this process within `grace_s` seconds; the exit status is 128 plus the number of the signal.

    Prefect reports the crash of every flow of the stack to its server, and waits two minutes in each where the server is gone.
    Whatever the main thread waits for, Python's own handler writes the number of a signal to the pipe that a thread reads here.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    threading.Thread(target=_watch, args=(reader, grace_s), daemon=True).start()
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = signal.signal(signal.SIGTERM, _exit)  # so that a server of this process's own is stopped, too
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.set_wakeup_fd(wakeup)
        os.close(writer)


def _watch(reader: int, grace_s: float) -> None:
    while number := os.read(reader, 1):
        if number[0] in (signal.SIGTERM, signal.SIGINT):
            threading.Event().wait(grace_s)
            sys.stderr.write(
                f"error: the command was told to end, still ran after {grace_s:g} s (does Prefect's server answer?), and was ended; "
                "run it again: finished stages are kept\n"
            )
            sys.stderr.flush()
            os._exit(128 + number[0])
    os.close(reader)


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
