"""The lines of a night on a terminal and in a pipe, and the name of its log when it fails."""

import io
from types import SimpleNamespace

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from rich.console import Console

from dealrec_core.errors import DataError
from dealrec_core.lake.nights import Snapshot
from flows import cli
from flows.here import in_this_process
from flows.screen import Screen
from tasks.progress import watched_by, watcher

RETRAINED = Snapshot(stage="surrogate", seconds=75.0, facts={"items": 1200, "validation ndcg@10": 0.25})
NIGHT = SimpleNamespace(earlier=[SimpleNamespace(find={"surrogate": RETRAINED}.get)])


def shown(*, is_terminal: bool) -> str:
    """The text that is written to a console during the training of a second night's surrogate."""
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=120, color_system=None)
    with Screen(console) as screen, watched_by(screen):
        watcher().begins(NIGHT, "surrogate")
        screen._live.refresh()
        watcher().moves(3, 12, "epochs at most")
        screen._live.refresh()
        watcher().ends(RETRAINED)
    return console.file.getvalue()


def test_a_terminal_shows_how_far_a_stage_is_and_how_long_it_took_in_the_night_before():
    text = shown(is_terminal=True)
    assert "retrain" in text
    assert "last night 1:15" in text
    assert (
        text.index("last night 1:15") < text.index("3 of 12 epochs at most") < text.index("surrogate over 1,200 items")
    )


def test_a_pipe_gets_one_line_for_a_step_that_has_ended_and_no_control_code():
    assert shown(is_terminal=False) == "retrain      1:15  surrogate over 1,200 items: validation ndcg@10 0.25\n"


def test_a_night_that_fails_ends_with_its_error_and_the_name_of_its_log(tmp_path, monkeypatch, capsys):
    def fail() -> None:
        with (
            temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
            in_this_process(str(tmp_path), computes=False),
        ):
            raise DataError("no file below 'log'")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit):
        cli.main()
    log = tmp_path / "logs" / "dealrec.log"
    assert capsys.readouterr().err.splitlines()[-2:] == ["error: no file below 'log'", f"log: {log}"]
    assert log.exists()
