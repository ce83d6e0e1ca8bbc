"""The lines of a night on a terminal: one that lives while a step of the night runs, and one that stays when the step has ended."""

from collections.abc import Callable, Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from dealrec_core.errors import plain
from dealrec_core.lake import promotions
from dealrec_core.lake.nights import STAGES, Night, Snapshot
from flows.printing import duration
from tasks.progress import Watcher

Records = Mapping[str, Snapshot]
"""The finished stages of a step, by name."""


class Screen(Watcher):
    """Draws on a console; without a terminal only the lines that stay are written."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (
            TextColumn("{task.fields[step]:<10}{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[before]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        self._live = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._step = ""
        self._records: dict[str, Snapshot] = {}

    def __enter__(self) -> "Screen":
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._clear()
        self._live.stop()
        self._end_step()

    def begins(self, night: Night, stage: str) -> None:
        """Shows the stage, and how long it took in the night before."""
        self._enter_step(stage)
        self._clear()
        record = next((found for earlier in reversed(night.earlier) if (found := earlier.find(stage))), None)
        before = f"last night {duration(record.seconds)}" if record else ""
        self._live.add_task(stage.replace("_", " "), total=None, step=self._step, count="", before=before)

    def moves(self, done: int, total: int, unit: str) -> None:
        """Moves the bar of the stage; the remaining time follows from its speed."""
        for task in self._live.task_ids:
            count = f"{done:,} of {total:,} {unit}"
            self._live.update(task, completed=done, total=total, count=count, before="left")

    def ends(self, record: Snapshot) -> None:
        """Keeps the record for the line of its step."""
        self._enter_step(record.stage)
        self._records[record.stage] = record
        self._clear()
        if record.stage == list(STAGES)[-1]:
            self._end_step()

    def _clear(self) -> None:
        for task in self._live.task_ids:
            self._live.remove_task(task)

    def _enter_step(self, stage: str) -> None:
        step = STAGES[stage].removeprefix("dealrec ")
        if step != self._step or stage in self._records:  # a stage that is there already belongs to the night before
            self._end_step()
        self._step = step

    def _end_step(self) -> None:
        if self._records:
            seconds = sum(record.seconds for record in self._records.values())
            line = f"{self._step:<10}{duration(seconds):>7}  {plain(WORDS[self._step](self._records))}"
            self._console.print(Text(line), soft_wrap=True)
        self._step, self._records = "", {}


def _ingest(records: Records) -> str:
    taken = records.get("ingest")
    samples = f", {records['samples'].rows:,} samples" if "samples" in records else ""
    return f"{taken.rows or 0:,} new rows{samples}" if taken else samples.removeprefix(", ")


def _retrain(records: Records) -> str:
    facts = records["surrogate"].facts
    return f"surrogate over {facts['items']:,} items: validation ndcg@10 {facts['validation ndcg@10']}"


def _score(records: Records) -> str:
    parts = []
    if found := records.get("influence"):
        parts.append(f"influence of {found.facts['scored']:,} samples, {found.facts['reused']:,} reused")
    if (found := records.get("base_model")) and found.facts.get("built tonight"):
        parts.append("base model built")
    if found := records.get("effort"):
        parts.append(f"effort of {found.facts['computed']:,}, {found.facts['kept']:,} reused")
    return "; ".join(parts) or "the method needs no score"


def _select(records: Records) -> str:
    facts = records["coreset"].facts
    how = "at random" if facts["method"] == "random" else f"by {facts['method']}"
    against = f"; the method against random ones: {facts['word']}" if "word" in facts else ""
    return f"{records['coreset'].rows:,} samples chosen {how}{against}"


def _fine_tune(records: Records) -> str:
    facts = records["fine_tune"].facts
    told = f"{facts['examples']:,} examples: loss {facts['first loss']} to {facts['last loss']}"
    if reason := facts.get(promotions.UNCHANGED):
        return f"{told}; UNCHANGED: {reason}"
    return f"{told}, best epoch {facts['best epoch']}"


def _evaluate(records: Records) -> str:
    parts = []
    if found := records.get("evaluation"):
        recalls = {
            name.removesuffix(" recall"): value for name, value in found.facts.items() if name.endswith(" recall")
        }
        named = ", ".join(f"{name} {value}" for name, value in recalls.items())
        parts.append(f"{found.facts['users']:,} users, recall: {named}")
    if found := records.get("refit"):
        parts += ["tuned on with the newest days"] if found.path and found.path.endswith("-refit") else []
    return "; ".join(parts)


def _promote(records: Records) -> str:
    facts = records["promotion"].facts
    return f"version {facts['version']}: {promotions.outcome(facts)}"


WORDS: dict[str, Callable[[Records], str]] = {
    "ingest": _ingest,
    "retrain": _retrain,
    "score": _score,
    "select": _select,
    "fine-tune": _fine_tune,
    "evaluate": _evaluate,
    "promote": _promote,
}
"""Functions that write the line of a finished step, by the step."""
