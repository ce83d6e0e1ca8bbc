"""Shows how a night ended where its user looks: the run's log and an artifact in the Prefect UI."""

from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from tasks.nights import NightSummary


def show_night(summary: NightSummary) -> NightSummary:
    """Writes the summary as an artifact and a log line, and returns it."""
    get_run_logger().info("night %s: %s: %s", summary.night, summary.outcome, summary.message)
    create_markdown_artifact(markdown(summary), key="night", description=f"{summary.night}: {summary.outcome}")
    return summary


def markdown(summary: NightSummary) -> str:
    """The summary as a small Markdown page."""
    facts = {
        "rows new": summary.rows_new,
        "samples": summary.samples,
        "coreset": summary.coreset,
        "model version": summary.version or "none",
        "champion": summary.champion or "none",
        "coreset against random": summary.verdict or "not judged",
    }
    recall = [f"| {name} | {value:.4f} |" for name, value in summary.recall.items()]
    return "\n".join(
        [
            f"# Night {summary.night}: {summary.outcome}",
            "",
            summary.message,
            "",
            "| | |",
            "|---|---|",
            *[f"| {name} | {value} |" for name, value in facts.items()],
            *(["", "| recommender | recall |", "|---|---|", *recall] if recall else []),
        ]
    )
