"""Prints the results of commands as lines, tables or JSON. Text from the data is never read as markup or as a command to the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dealrec_core.errors import plain

out = Console(soft_wrap=True)
WARNED = 3
"""Exit code of a night that has done its work and found something odd in the files."""


def warn(warnings: str | None) -> None:
    """Ends with WARNED where the files of a night are odd: it took them, and a person should look at the settings."""
    if warnings:
        Console(stderr=True, soft_wrap=True).print(Text(f"warning: {plain(warnings)}", style="yellow"))
        raise typer.Exit(WARNED)


def show(result: BaseModel, json: bool) -> None:
    """Prints the fields of a result, one a line, or as JSON."""
    facts = {
        name: ", ".join(f"{key} {inner}" for key, inner in value.items()) if isinstance(value, dict) else value
        for name, value in result.model_dump(mode="json", exclude_none=True).items()
    }
    say(result, [f"{name}: {text}" for name, text in facts.items()], json)


def say(data: Any, lines: Sequence[str | Text | Table], json: bool) -> None:
    """Prints the data as JSON, or the lines and tables."""
    if json:
        content = data.model_dump(mode="json") if isinstance(data, BaseModel) else data
        out.print_json(
            data=content,
            default=lambda value: value.to_dicts() if hasattr(value, "to_dicts") else str(value),
            ensure_ascii=True,
        )
        return
    for line in lines:
        out.print(Text(plain(line)) if isinstance(line, str) else line)


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "file"), counted(2_000, "file")
    ('1 file', '2,000 files')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def place(path: str) -> str:
    """A raw file as a person names it: below the current folder without that folder's name, elsewhere in full.

    >>> place("s3://bucket/log.csv"), place("file:///nowhere/log.csv"), place(f"file://{Path.cwd()}/log.csv")
    ('s3://bucket/log.csv', '/nowhere/log.csv', 'log.csv')
    """
    local = path.removeprefix("file://")
    return local.removeprefix(f"{Path.cwd()}/")


def duration(seconds: float) -> str:
    """A time as a clock shows it, short enough for a column of the terminal.

    >>> duration(3.04), duration(75), duration(3 * 3600 + 120)
    ('3.0 s', '1:15', '3:02:00')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def table(title: str | None, rows: list[dict[str, Any]], *, plainly: bool = False) -> Table:
    """The rows as a table whose columns are named as in the first one; plainly: without lines around them."""
    made = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ["nothing yet"]:
        made.add_column(name, no_wrap=name == "night")  # another command needs the whole name
    if plainly:
        made.box, made.pad_edge = None, False
    for row in rows:
        made.add_row(*[Text("" if value is None else plain(value)) for value in row.values()])
    return made
