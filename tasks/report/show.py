"""Shows a night where its user looks: artifacts and the run's log in Prefect, runs and the report in MLflow."""

from contextlib import suppress
from typing import cast

from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger
from prefect.states import Completed, State

from dealrec_core.errors import DealrecError, RegistryError, plain
from dealrec_core.lake.nights import STAGES, Night, Snapshot
from tasks import markup, registry, report, tracking
from tasks.nights import NightSummary

REPORT = "report.html"


def show_stage(night: Night, snapshot: Snapshot) -> None:
    """Writes a finished stage as an artifact and as an MLflow run; a fault here is logged and stops nothing."""
    log = get_run_logger()
    key = snapshot.stage.replace("_", "-")
    try:
        create_markdown_artifact(stage_page(night, snapshot), key=key, description=night.name)
    except DealrecError as error:
        log.warning("no page of %s: %s", snapshot.stage, error)
    try:
        tracking.log_stage(night, snapshot)
    except RegistryError as error:
        log.warning("%s is not in MLflow yet; the end of the night will add it: %s", snapshot.stage, error)


def stage_page(night: Night, snapshot: Snapshot) -> str:
    """The page of a finished stage as Markdown: where its result is, and its section of the report."""
    where = snapshot.path or f"table {snapshot.table}, version {snapshot.version}"
    place = f" on {snapshot.device}" if snapshot.device else ""
    back = "[The night's summary](/artifacts/key/night)"
    head = f"# {snapshot.stage} of {night.name}\n\nIn {where}; {snapshot.seconds:.1f} s{place}. {back}"
    section = report.section(night, snapshot.stage)
    if section is None:
        rows = [f"| {name} | {markup.markdown(value)} |" for name, value in snapshot.facts.items()]
        return "\n".join([head, "", "| | |", "|---|---|", *rows])
    return f"{head}\n\n{report.markdown(section)}"


def write_report(night: Night) -> str:
    """Writes the night's report into the lake and its MLflow run; returns its path below the lake's root."""
    path = f"nights/{night.name}/{REPORT}"
    from tasks.report.page import page  # matplotlib takes a second to import, and only this function draws

    html = page(night)
    night.lake.write_bytes(path, html.encode())
    promoted = night.find("promotion")
    if promoted is not None:
        run_id = str(promoted.facts["mlflow run"])
        tracking.log_stage(night, promoted)
        registry.attach_text(night.config.registry, run_id, {REPORT: html}, finish=True)
    return path


def show_night(night: Night, summary: NightSummary) -> NightSummary:
    """Writes the report where it is missing, the summary with its links as the artifact `night`, and a log line.

    The run's state then has the outcome as its name and the verdict as its message, so that a list of runs tells nights apart.
    """
    log = get_run_logger()
    log.info("night %s: %s: %s", summary.night, summary.outcome, plain(summary.message))
    path = f"nights/{night.name}/{REPORT}"
    if night.find("promotion") is not None and not night.lake.exists_path(path):
        try:
            write_report(night)
        except DealrecError as error:
            log.warning("no report of %s: %s; `dealrec report %s` writes it", night.name, error, night.name)
    page, description = markdown(summary, _links(night)), f"{summary.night}: {summary.outcome}"
    create_markdown_artifact(page, key="night", description=description)
    state: State[NightSummary] = Completed(
        name=summary.outcome.capitalize(), message=plain(summary.message), data=summary
    )
    return cast(NightSummary, state)  # Prefect gives the data to whoever calls the flow


def markdown(summary: NightSummary, links: dict[str, str]) -> str:
    """The summary as a small Markdown page."""
    facts = {"rows new": summary.rows_new, "samples": summary.samples, "coreset": summary.coreset}
    models = {"model version": summary.version or "none", "champion": summary.champion or "none"}
    recall = [f"| {name} | {value:.4f} |" for name, value in summary.recall.items()]
    pages = [stage.replace("_", "-") for stage in STAGES]  # the page of a run lists only the artifacts of that run
    stages = ", ".join(f"[{key}](/artifacts/key/{key})" for key in pages)
    return "\n".join(
        [
            f"# Night {summary.night}: {summary.outcome}\n\n{markup.markdown(summary.message)}\n",
            *(
                [f"Coreset against random: {markup.markdown(summary.against_random)}", ""]
                if summary.against_random
                else []
            ),
            *[f"- [{name}]({address})" for name, address in links.items()],
            f"- Stages: {stages}\n\n| | |\n|---|---|",
            *[f"| {name} | {markup.markdown(value)} |" for name, value in (facts | models).items()],
            *(["", "| recommender | recall |", "|---|---|", *recall] if recall else []),
        ]
    )


def _links(night: Night) -> dict[str, str]:
    page = None
    with suppress(RegistryError):
        if promoted := night.find("promotion"):
            page = registry.page_of(night.config.registry, str(promoted.facts["mlflow run"]))
    return {"MLflow run": page, "Report": f"{page}/artifacts/{REPORT}"} if page else {}
