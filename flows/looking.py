"""The commands that look: at a person's files, at what a night would do, at what the nights have done. None of them starts a server."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from flows.options import (
    CARE,
    FOUND,
    ConfigFile,
    Count,
    Day,
    Folder,
    Force,
    History,
    InitTo,
    InteractionFiles,
    ItemColumn,
    ItemFiles,
    Json,
    Last,
    Names,
    NightName,
    Repair,
    Set,
    Sources,
    TimeColumn,
    TitleColumn,
    To,
    UserColumn,
)  # fmt: skip
from flows.printing import counted, duration, place, say, table

if TYPE_CHECKING:
    from dealrec_core.ingest.preview import Preview

looking = typer.Typer()
MEASURED = "nights on other logs, on one core of the machine of docs/scale.md, because no night has finished here"
EXTRAPOLATED = "this estimate is extrapolated, because the rows or the settings lie outside of what was measured"


@looking.command()
def init(
    folder: Folder = "data",
    to: InitTo = Path("pipeline.toml"),
    force: Force = False,
    user: UserColumn = None,
    item: ItemColumn = None,
    time: TimeColumn = None,
    title: TitleColumn = None,
    interactions: InteractionFiles = None,
    items: ItemFiles = None,
    json: Json = False,
) -> None:
    """Look at your files, ask about columns that are not clear, and write a settings file."""
    from flows import first_steps

    answers = first_steps.Answers(user, item, time, title, interactions, items)
    begun = first_steps.init(folder, answers, to=to, force=force)
    say(asdict(begun), begun.lines(), json)


@looking.command()
def status(config: ConfigFile = FOUND, set: Set = None, json: Json = False) -> None:
    """Show the nights, the champion and the tables of the lake."""
    from flows.look import status as look

    lake = look(config, set or [])
    tables = [{"table": name, "version": version} for name, version in lake.tables.items()]
    columns = [{name.replace("_", " "): value for name, value in night.model_dump().items()} for night in lake.nights]
    nights = table("nights", columns)
    say(lake, [nights, table("tables", tables), f"champion: {lake.champion or 'none'}"], json)


@looking.command()
def plan(day: Day = None, config: ConfigFile = FOUND, set: Set = None, json: Json = False) -> None:
    """Show the files that a night would read, and estimate how long the night will take."""
    from flows.look import plan as look

    ahead = look(config, set or [], day and day.date())
    lines = [
        *map(place, ahead.files),
        f"{counted(len(ahead.files), 'file')} with rows that no night has ingested"
        + (f", about {ahead.rows:,} rows" if ahead.files else ""),
    ]
    steps = ", ".join(f"{step} {duration(seconds)}" for step, seconds in ahead.seconds.items())
    by = counted(len(ahead.by), "earlier night") if ahead.by else MEASURED
    if steps:
        lines.append(f"tonight will take about {duration(sum(ahead.seconds.values()))}, estimated from {by}: {steps}")
    if ahead.extrapolated:
        lines.append(EXTRAPOLATED)
    if ahead.unknown:
        stages = ", ".join(stage.replace("_", " ") for stage in ahead.unknown)
        lines.append(f"no estimate before the first night, because no such model was measured: {stages}")
    say(ahead, lines, json)


@looking.command()
def recommend(
    names: Names,
    history: History = False,
    count: Count = 10,
    config: ConfigFile = FOUND,
    set: Set = None,
    json: Json = False,
) -> None:
    """Show the titles that champion, surrogate and recent popularity recommend, side by side."""
    from flows.here import quiet_models
    from flows.recommend import recommend as ask

    quiet_models()
    answer = ask(config, set or [], names, is_history=history, count=count)
    told: list[str | Table] = [f"history: {', '.join(answer.history[-5:])}", table(None, answer.rows())]
    if answer.champion is None:
        told.append("there is no champion yet: no night has promoted a model")
    say(answer, told, json)


@looking.command()
def doctor(
    config: ConfigFile = FOUND,
    set: Set = None,
    json: Json = False,
    sources: Sources = False,
    repair: Repair = False,
) -> None:
    """Check settings, sources, lake, registry, device and every file of the lake; exit with 1 if something is wrong."""
    from flows.look import doctor as look
    from flows.look import first_rows

    if sources:
        found = first_rows(config, set or [])
        rows = [line for preview in [*found.interactions, *found.items] for line in _preview(preview)]
        mapping = ", ".join(f"{name} from '{raw}'" for name, raw in found.mapping.items())
        said = [f"warning: {text}" for text in found.warnings] + [
            f"a night would stop: {text}" for text in found.problems
        ]
        say(asdict(found), [*rows, f"{counted(found.files, 'file')} looked at; {mapping}", *said], json)
        if found.problems:
            raise typer.Exit(1)
        return
    checks = look(config, set or [], repair=repair)
    lines = []
    for check in checks:
        lines.append(f"{'ok  ' if check.ok else 'BAD '} {check.what}: {check.state}")
        lines += [f"     fix: {check.fix}"] if check.fix else []
    say([check.model_dump() for check in checks], lines, json)
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


@looking.command()
def report(
    night: NightName = None, to: To = "report.html", last: Last = 1,
    config: ConfigFile = FOUND, set: Set = None, json: Json = False,
) -> None:  # fmt: skip
    """Write the report of a night, or of the last nights: one HTML file with figures and plots."""
    from flows.look import report as look

    name = look(config, set or [], night, to, last=last)
    say({"night": name, "report": to}, [f"night: {name}", f"report: {to}"], json)


@looking.command(rich_help_panel=CARE)
def trace(sample_id: str, config: ConfigFile = FOUND, set: Set = None, json: Json = False) -> None:
    """Follow one sample through every stage, from the raw line to the tuned model."""
    from dealrec_core import settings
    from dealrec_core.lake import Lake
    from tasks.report.trace import trace as follow

    loaded = settings.load(config, set or [])
    steps = follow(Lake(loaded.lake.root), sample_id, loaded.sources.interactions)
    lines: list[str | Text] = []
    for step in steps:
        lines.append(Text(step.stage, style="bold"))
        lines += [f"    {name + ': ' if name else ''}{value}" for name, value in step.facts]
    say([{"stage": step.stage, **dict(step.facts)} for step in steps], lines, json)


def _preview(preview: "Preview") -> list[str | Table]:
    good = preview.records - preview.filtered - preview.quarantined
    filtered, bad = f"{preview.filtered:,} would be filtered out", f"{preview.quarantined:,} would be quarantined"
    counts = f"of its first {preview.records:,} records, {good:,} would be stored, {filtered}, and {bad}"
    frames = {"would be stored": preview.landing, "would be quarantined": preview.bad}
    tables = [table(title, rows.to_dicts()) for title, rows in frames.items() if rows.height]
    return [f"{place(preview.file.path)}: {preview.form}", counts, *tables]
