"""A command that is told to end: it ends, whatever it waits for."""

import signal
import subprocess
import sys

import pytest

WAITING = """
import signal, sys, time
from flows.ending import ends_when_told

signal.signal(signal.SIGINT, signal.default_int_handler)
with ends_when_told({grace_s}):
    try:
        print("runs", flush=True)
        time.sleep(60)
    finally:  # where Prefect's client waits for a server that is gone
        print("is told", flush=True)
        time.sleep({busy_s})
"""


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("busy_s", [0, 60])
def test_a_command_that_is_told_to_end_waits_for_a_server_that_is_gone_no_longer_than_its_grace(sent, busy_s):
    code = WAITING.format(grace_s=0.2 if busy_s else 60, busy_s=busy_s)
    with subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout.readline() == "runs\n"
        process.send_signal(sent)
        said, errors = process.communicate(timeout=40)
    assert said == "is told\n"
    assert process.returncode in ((128 + sent,) if busy_s or sent == signal.SIGTERM else (-sent, 1))
    assert ("error: the command was told to end, still ran after 0.2 s" in errors) == bool(busy_s)
