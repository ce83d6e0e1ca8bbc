"""Choose the samples of a log that are worth learning, tune a recommender on them, and promote it if it is better.

Flows are imported inside the commands, because Prefect and torch take seconds and `--help` should not.
"""

import logging
import os
import sys
from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from typing import Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.text import Text

from dealrec_core.errors import DealrecError, SettingsError, plain
from flows.here import in_this_process
from flows.looking import looking
from flows.options import (
    CARE,
    FOUND,
    SERVERS,
    STEP,
    Again,
    ConfigFile,
    Day,
    Fewer,
    FidelityFile,
    From,
    Host,
    Json,
    ModelName,
    Now,
    PoolType,
    Port,
    Reason,
    Replay,
    Set,
    StudyFile,
    Tables,
    User,
    Version,
)  # fmt: skip
from flows.printing import say, show, table, warn
from tasks.logins import log_in

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
studies = typer.Typer(invoke_without_command=True)
app.add_typer(studies, name="study")
app.registered_commands += looking.registered_commands

FIDELITY = "deployments/studies/fidelity-movielens.toml"


def main() -> None:
    """Runs the command line; a dealrec error becomes one line and exit code 1."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads ruin a busy machine
    log_in(os.environ)  # before Prefect reads it
    try:
        app()
    except DealrecError as error:
        console = Console(stderr=True, soft_wrap=True)
        console.print(Text(f"error: {error}", style="red"))
        for note in getattr(error, "__notes__", []):
            console.print(Text(note))
        sys.exit(1)


@app.callback(help=__doc__.splitlines()[0])
def dealrec(version: Version = False) -> None:
    """Shows the version; everything else is a command."""


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
    def step(day: Day = None, config: ConfigFile = FOUND, set: Set = None, json: Json = False) -> None:
        result = _run(module, day, config, set)
        show(result, json)
        warn(getattr(result, "warnings", None))

    return step


@app.command(rich_help_panel=STEP)
def ingest(
    day: Day = None,
    config: ConfigFile = FOUND,
    set: Set = None,
    json: Json = False,
    replay_quarantine: Replay = False,
    again: Again = None,
    fewer: Fewer = False,
) -> None:
    """Read new raw files into the lake and build samples."""
    if again and replay_quarantine:
        raise SettingsError("--again also reads quarantined rows; omit --replay-quarantine")
    if again:
        show(_run("take_again", day, config, set, patterns=again, fewer=fewer), json)
        return
    if replay_quarantine:
        show(_run("replay_quarantine", day, config, set), json)
        return
    taken = _run("ingest", day, config, set)
    show(taken, json)
    warn(getattr(taken, "facts", {}).get("warnings"))


for _name, (_module, _does) in STEPS.items():
    app.command(_name, help=_does, rich_help_panel=None if _name == "nightly" else STEP)(_step(_module))


@app.command(rich_help_panel=CARE)
def rollback(reason: Reason = "by hand", config: ConfigFile = FOUND, set: Set = None, json: Json = False) -> None:
    """Make the model before the last promotion the champion again."""
    from flows import roll_back as flow

    with in_this_process(_home(config, set), computes=False):
        champion = flow.roll_back(config=config, overrides=set or [], reason=reason)
    show(champion, json)


@app.command("register-champion", rich_help_panel=CARE)
def register_champion(config: ConfigFile = FOUND, set: Set = None, json: Json = False) -> None:
    """Register the champion again if MLflow has lost its version."""
    from flows import register_champion as flow

    with in_this_process(_home(config, set)):
        champion = flow.register_champion(config=config, overrides=set or [])
    show(champion, json)


@app.command(rich_help_panel=CARE)
def upkeep(config: ConfigFile = FOUND, set: Set = None, json: Json = False) -> None:
    """Join small files, remove files that nothing needs, check hashes, and report every table."""
    from flows import upkeep as flow

    with in_this_process(_home(config, set), computes=False):
        report = flow.upkeep(config=config, overrides=set or [])
    say(
        report,
        [table("tables", [table.model_dump() for table in report.tables]), f"scrub: {report.scrub}", report.message],
        json,
    )


@app.command("erase-user", rich_help_panel=CARE)
def erase_user(
    user_id: User, now: Now = False, config: ConfigFile = FOUND, set: Set = None, json: Json = False
) -> None:
    """Remove a user from every table and emitted coreset, and keep that user out of later ingests."""
    from dealrec_core import settings
    from tasks.erasure import erase_user as erase

    show(erase(settings.load(config, set or []), user_id, now=now), json)


@studies.callback()
def study(
    context: typer.Context, config: StudyFile = None, set: Set = None, tables: Tables = False, json: Json = False
) -> None:
    """Compare selection methods: run the cells that have not finished, then write tables and plots."""
    if context.invoked_subcommand:
        if config or set or tables or json:
            raise SettingsError(f"write the options of 'study {context.invoked_subcommand}' after its name")
        return
    if config is None:
        raise SettingsError("dealrec study needs a settings file; name one with --config")
    from flows import study as flow

    request = flow.StudyRequest(config=config, overrides=set or [], tables_only=tables)
    request.settings()  # a wrong setting is an error before a server starts
    with in_this_process("var"):
        summary = flow.study(request)
    ended = f"{summary.ran} cells ran, and {summary.kept} had finished before; tables and plots are in {summary.folder}"
    say(summary, [*summary.table.splitlines(), ended], json)


@studies.command("fidelity")
def fidelity(config: FidelityFile = FIDELITY, set: Set = None, json: Json = False) -> None:
    """Compare the influence scores of every estimator with the result of training without samples."""
    from dealrec_core import settings
    from dealrec_core.study import fidelity as core

    loaded = settings.read(core.FidelityConfig, config, set or [])
    results = core.study(loaded)
    say(results, [*core.table(results).splitlines(), f"{loaded.starts} starts are stored in {loaded.folder}"], json)


@app.command(rich_help_panel=SERVERS)
def deploy(pool_type: PoolType = "process", config: ConfigFile = FOUND) -> None:
    """Apply work pools, limits, deployments and automations to the Prefect server (PREFECT_API_URL)."""
    from flows.set_up import apply

    say(None, apply(config, pool_type=pool_type), json=False)


@app.command("get-model", rich_help_panel=CARE)
def get_model(name: ModelName, source: From = None, json: Json = False) -> None:
    """Fetch a base model into this machine's folder of models (DEALREC_MODELS)."""
    from flows.get_model import get_model as get

    show(get(name, source), json)


@app.command(rich_help_panel=SERVERS)
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
    from flows.demo import comparison, rows, start_anew, three_nights

    summaries = []
    with in_this_process(start_anew()):
        for summary in three_nights():
            summaries.append(summary)
            Console(stderr=True, soft_wrap=True).print(Text(f"night {summary.day}: {plain(summary.message)}"))
    say(
        [summary.model_dump(mode="json") for summary in summaries],
        [table(None, rows(summaries), plainly=True), comparison(summaries)],
        json,
    )


def _run(module: str, day: datetime | None, config: str, overrides: list[str] | None, **parameters: Any) -> BaseModel:
    """Runs the flow of a module, which has the module's name."""
    from tasks.nights import NightRequest

    request = NightRequest(day=day and day.date(), config=config, overrides=overrides or [])
    home = request.settings().run.home  # a wrong setting is an error before a server starts
    flow = getattr(import_module(f"flows.{module}"), module)
    with in_this_process(home):
        result: BaseModel = flow(request, **parameters)
    return result


def _home(config: str, overrides: list[str] | None) -> str:
    from dealrec_core import settings

    return settings.load(config, overrides or []).run.home


if __name__ == "__main__":
    main()
