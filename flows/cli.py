"""The `dealrec` command: one night, one stage, or a look at what there is.

Flows are imported inside the commands, because Prefect and torch take seconds and `--help` should not.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dealrec_core.errors import DealrecError, SettingsError, plain
from flows.options import (
    Again,
    ConfigFile,
    Day,
    Fewer,
    FidelityFile,
    From,
    Host,
    Json,
    ModelName,
    NightName,
    Now,
    PoolType,
    Port,
    Reason,
    Repair,
    Replay,
    Set,
    Sources,
    StudyFile,
    Tables,
    To,
    User,
)  # fmt: skip
from flows.own_server import own_server, told_when_gone
from tasks.logins import log_in

if TYPE_CHECKING:
    from dealrec_core.ingest.preview import Preview

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__.splitlines()[0]
)
out = Console(soft_wrap=True)
studies = typer.Typer(invoke_without_command=True)
app.add_typer(studies, name="study")

WARNED = 3
"""Exit code of a night that has done its work and found something odd in the files."""
PIPELINE, FIDELITY = "deployments/pipeline.toml", "deployments/studies/fidelity-movielens.toml"


def main() -> None:
    """Runs the command line; a dealrec error becomes one line and exit code 1."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads ruin a busy machine
    log_in(os.environ)  # before Prefect reads it
    try:
        app()
    except DealrecError as error:
        Console(stderr=True, soft_wrap=True).print(Text(f"error: {error}", style="red"))
        sys.exit(1)


STEPS = {
    "nightly": ("nightly", "Run or continue one night in this process."),
    "retrain": ("retrain_surrogate", "Retrain the surrogate."),
    "score": ("score_samples", "Score every train sample: influence and effort."),
    "select": ("select_coreset", "Select the coreset."),
    "fine-tune": ("fine_tune", "Tune the language model on the coreset."),
    "evaluate": ("evaluate_candidate", "Compare tonight's model with champion, surrogate and baselines."),
    "promote": ("promote", "Register tonight's model and promote it if it is better."),
}
"""Commands that run one flow on one night: its module, which names the flow too, and what it does."""


def _step(module: str) -> Callable[..., None]:
    def step(day: Day = None, config: ConfigFile = PIPELINE, set: Set = None, json: Json = False) -> None:
        result = _run(module, day, config, set)
        _show(result, json)
        _warn(getattr(result, "warnings", None))

    return step


for _name, (_module, _does) in STEPS.items():
    app.command(_name, help=_does)(_step(_module))


@app.command()
def ingest(
    day: Day = None,
    config: ConfigFile = PIPELINE,
    set: Set = None,
    json: Json = False,
    replay_quarantine: Replay = False,
    again: Again = None,
    fewer: Fewer = False,
) -> None:
    """Take new raw files into the lake and build samples."""
    if again and replay_quarantine:
        raise SettingsError("--again reads quarantined rows, too; leave --replay-quarantine out")
    if again:
        _show(_run("take_again", day, config, set, patterns=again, fewer=fewer), json)
        return
    if replay_quarantine:
        _show(_run("replay_quarantine", day, config, set), json)
        return
    taken = _run("ingest", day, config, set)
    _show(taken, json)
    _warn(getattr(taken, "facts", {}).get("warnings"))


@app.command()
def rollback(reason: Reason = "by hand", config: ConfigFile = PIPELINE, set: Set = None, json: Json = False) -> None:
    """Put the previous champion back in charge."""
    from flows import roll_back as flow

    with _in_this_process(computes=False):
        _show(flow.roll_back(config=config, overrides=set or [], reason=reason), json)


@app.command("register-champion")
def register_champion(config: ConfigFile = PIPELINE, set: Set = None, json: Json = False) -> None:
    """Register the champion in MLflow again, where its version is gone."""
    from flows import register_champion as flow

    with _in_this_process():
        _show(flow.register_champion(config=config, overrides=set or []), json)


@app.command()
def upkeep(config: ConfigFile = PIPELINE, set: Set = None, json: Json = False) -> None:
    """Join small files, remove those that nothing needs, report every table."""
    from flows import upkeep as flow

    with _in_this_process(computes=False):
        report = flow.upkeep(config=config, overrides=set or [])
    _say(
        report,
        [_table("tables", [table.model_dump() for table in report.tables]), f"scrub: {report.scrub}", report.message],
        json,
    )


@app.command("erase-user")
def erase_user(
    user_id: User, now: Now = False, config: ConfigFile = PIPELINE, set: Set = None, json: Json = False
) -> None:
    """Remove a user from every table and emitted coreset, and keep that user out of later ingests."""
    from dealrec_core import settings
    from tasks.erasure import erase_user as erase

    _show(erase(settings.load(config, set or []), user_id, now=now), json)


@app.command()
def status(config: ConfigFile = PIPELINE, set: Set = None, json: Json = False) -> None:
    """Show the nights, the champion and the tables of the lake."""
    from flows.look import status as look

    lake = look(config, set or [])
    tables = [{"table": name, "version": version} for name, version in lake.tables.items()]
    nights = _table("nights", [night.model_dump() for night in lake.nights])
    _say(lake, [nights, _table("tables", tables), f"champion: {lake.champion or 'none'}"], json)


@app.command()
def plan(day: Day = None, config: ConfigFile = PIPELINE, set: Set = None, json: Json = False) -> None:
    """Show the files that a night would take, without taking them."""
    from flows.look import plan as look

    paths = look(config, set or [], day and day.date())
    _say(paths, [*paths, f"{len(paths)} files with rows that no night has taken"], json)


@app.command()
def doctor(
    config: ConfigFile = PIPELINE,
    set: Set = None,
    json: Json = False,
    sources: Sources = False,
    repair: Repair = False,
) -> None:
    """Check settings, sources, lake, registry, device and every file of the lake; exit 1 when something is wrong."""
    from flows.look import doctor as look
    from flows.look import first_rows

    if sources:
        found = first_rows(config, set or [])
        rows = [line for preview in [*found.interactions, *found.items] for line in _preview(preview)]
        mapping = ", ".join(f"{name} from '{raw}'" for name, raw in found.mapping.items())
        said = [f"warning: {text}" for text in found.warnings] + [
            f"a night would stop: {text}" for text in found.problems
        ]
        _say(asdict(found), [*rows, f"{found.files} files looked at; {mapping}", *said], json)
        if found.problems:
            raise typer.Exit(1)
        return
    checks = look(config, set or [], repair=repair)
    lines = [f"{'ok  ' if check.ok else 'BAD '} {check.what}: {check.state}" for check in checks]
    _say([check.model_dump() for check in checks], lines, json)
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


@app.command()
def report(
    night: NightName = None, to: To = "report.html", config: ConfigFile = PIPELINE, set: Set = None, json: Json = False
) -> None:
    """Write the report of a night: one HTML file with figures and plots."""
    from flows.look import report as look

    name = look(config, set or [], night, to)
    _say({"night": name, "report": to}, [f"night: {name}", f"report: {to}"], json)


@app.command()
def trace(sample_id: str, config: ConfigFile = PIPELINE, set: Set = None, json: Json = False) -> None:
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
    _say([{"stage": step.stage, **dict(step.facts)} for step in steps], lines, json)


@studies.callback()
def study(
    context: typer.Context, config: StudyFile = None, set: Set = None, tables: Tables = False, json: Json = False
) -> None:
    """Compare selection methods: run what has not finished, then write tables and plots."""
    if context.invoked_subcommand:
        if config or set or tables or json:
            raise SettingsError(f"options of 'study {context.invoked_subcommand}' stand after its name")
        return
    if config is None:
        raise SettingsError("dealrec study needs a settings file; name one with --config")
    from flows import study as flow

    request = flow.StudyRequest(config=config, overrides=set or [], tables_only=tables)
    request.settings()  # a wrong setting is an error before a server starts
    with _in_this_process():
        summary = flow.study(request)
    ended = f"{summary.ran} cells ran, {summary.kept} were done before; tables and plots are in {summary.folder}"
    _say(summary, [*summary.table.splitlines(), ended], json)


@studies.command("fidelity")
def fidelity(config: FidelityFile = FIDELITY, set: Set = None, json: Json = False) -> None:
    """Compare influence scores with what retraining without samples does, for every estimator."""
    from dealrec_core import settings
    from dealrec_core.study import fidelity as core

    loaded = settings.read(core.FidelityConfig, config, set or [])
    results = core.study(loaded)
    _say(results, [*core.table(results).splitlines(), f"{loaded.starts} starts are kept in {loaded.folder}"], json)


@app.command()
def deploy(pool_type: PoolType = "process", config: ConfigFile = PIPELINE) -> None:
    """Apply work pools, limits, deployments and automations to the Prefect server (PREFECT_API_URL)."""
    from flows.set_up import apply

    _say(None, apply(config, pool_type=pool_type), json=False)


@app.command("get-model")
def get_model(name: ModelName, source: From = None, json: Json = False) -> None:
    """Put a base model into this machine's folder of models (DEALREC_MODELS)."""
    from flows.get_model import get_model as get

    _show(get(name, source), json)


@app.command()
def bridge(port: Port = 4300, host: Host = "127.0.0.1") -> None:
    """Pass MLflow's signed webhooks on to Prefect as events (DEALREC_WEBHOOK_SECRET)."""
    from tasks.bridge import serve

    secret = os.environ.get("DEALREC_WEBHOOK_SECRET")
    if not secret:
        raise SettingsError("DEALREC_WEBHOOK_SECRET is not set; give MLflow and the bridge the same secret")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    serve(host=host, port=port, secret=secret)


@app.command()
def demo(json: Json = False) -> None:
    """Run three nights on a bundled synthetic log that grows every day."""
    from flows.demo import comparisons, table, three_nights

    with _in_this_process():
        summaries = three_nights()
    rows = _table("three nights on a growing log", table(summaries))
    _say([summary.model_dump(mode="json") for summary in summaries], [rows, *comparisons(summaries)], json)


def _warn(warnings: str | None) -> None:
    """Ends with WARNED where the files of a night are odd: it took them, and a person should look at the settings."""
    if warnings:
        Console(stderr=True, soft_wrap=True).print(Text(f"warning: {plain(warnings)}", style="yellow"))
        raise typer.Exit(WARNED)


def _run(module: str, day: datetime | None, config: str, overrides: list[str] | None, **parameters: Any) -> BaseModel:
    """Runs the flow of a module, which has the module's name."""
    from tasks.nights import NightRequest

    request = NightRequest(day=day and day.date(), config=config, overrides=overrides or [])
    request.settings()  # a wrong setting is an error before a server starts
    with _in_this_process():
        return getattr(import_module(f"flows.{module}"), module)(request, **parameters)


def _preview(preview: "Preview") -> list[str | Table]:
    good = preview.records - preview.filtered - preview.quarantined
    filtered, bad = f"{preview.filtered:,} be filtered out", f"{preview.quarantined:,} go to quarantine"
    counts = f"of its first {preview.records:,} records {good:,} would land, {filtered}, {bad}"
    frames = {"would land": preview.landing, "would go to quarantine": preview.bad}
    tables = [_table(title, rows.to_dicts()) for title, rows in frames.items() if rows.height]
    return [f"{preview.file.path}: {preview.form}", counts, *tables]


def _show(result: BaseModel, json: bool) -> None:
    """Prints the fields of a result, one a line, or as JSON."""
    facts = {
        name: ", ".join(f"{key} {inner}" for key, inner in value.items()) if isinstance(value, dict) else value
        for name, value in result.model_dump(mode="json", exclude_none=True).items()
    }
    _say(result, [f"{name}: {text}" for name, text in facts.items()], json)


def _say(data: Any, lines: Sequence[str | Text | Table], json: bool) -> None:
    """Prints the data as JSON, or the lines and tables: nothing in them is taken for markup or for a terminal's command."""
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


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(*(rows[0] if rows else ["nothing yet"]), title=title, title_justify="left")
    for row in rows:
        table.add_row(*[Text("" if value is None else plain(value)) for value in row.values()])
    return table


@contextmanager
def _in_this_process(*, computes: bool = True) -> Iterator[None]:
    """Runs flows here: failures are told in one line by main(), and no heartbeat is sent where no server listens."""
    # Prefect's own 20 s are too few for its first start on a busy machine.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    # A server that is gone is waited for, two minutes instead of one.
    os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "6")
    # Its report to its makers would be sent, and would lock the new database against the night's first steps.
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    if computes:
        import transformers

        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
    from prefect.logging.configuration import setup_logging
    from prefect.settings import PREFECT_API_URL, temporary_settings

    setup_logging()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: record.levelno < logging.ERROR)
    with nullcontext() if PREFECT_API_URL.value() else temporary_settings(own_server()), told_when_gone():
        yield


if __name__ == "__main__":
    main()
