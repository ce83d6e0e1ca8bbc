"""What the commands that take files have beside the other commands: options, and an exit code for odd files."""

from typing import Annotated

import typer
from rich.console import Console

Again = Annotated[
    list[str] | None,
    typer.Option(
        "--again",
        help="Take files of this path or pattern again: what they landed goes, what they hold now comes. May be repeated.",
    ),
]
Fewer = Annotated[
    bool, typer.Option(help="With --again: also where a file has less than half of the rows that its name landed.")
]
WARNED = 3
"""Exit code of a night that has done its work and found something odd in the files."""


def warn(warnings: str | None) -> None:
    """Ends with WARNED where the files of a night are odd: it took them, and a person should look at the settings."""
    if warnings:
        Console(stderr=True, soft_wrap=True).print(
            f"warning: {warnings}", style="yellow", markup=False, highlight=False
        )
        raise typer.Exit(WARNED)
