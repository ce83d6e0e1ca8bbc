"""Writes docs/walk.md: two nights on a small log, and one row of it followed through every stage.

    python docs/walk.py          # about a minute

tests/flows/test_walk.py makes the page again from the nights of the tests and compares.
"""

import json
import re
from pathlib import Path

from dealrec_core.lake import Lake
from dealrec_core.lake.nights import nights
from tasks.report.trace import Step, trace

PAGE = Path(__file__).resolve().parent / "walk.md"
HEAD = """# One row, from the raw log to the tuned model

This page follows one row of a small synthetic log through two nights. Every block is the output of `dealrec trace SAMPLE_ID`
for that row, with shorter names of nights, folders and hashes. After `make demo` you can follow a row of the demo's
log: `dealrec trace SAMPLE_ID --config deployments/examples/demo.toml`, with a sample_id from
`var/demo/lake/emitted/coresets/*/coreset.parquet`.
"""
STAGES = {
    "raw line": (
        "A raw line",
        "The row begins as one line of a raw file. `dealrec_core/ingest/sources.py` lists the files and detects their format, "
        "and `dealrec_core/ingest/raw/` cuts them into records. A line that cannot be read is written to the table `quarantine`"
        " with the reason, so no row is lost silently.",
    ),
    "interaction": (
        "An interaction",
        "`dealrec_core/ingest/events.py` turns the record into typed columns, and `dealrec_core/ingest/landing.py` writes it to"
        " the table `interactions`. The commit also holds a transaction with the hash of the file, so no file is ever ingested "
        "twice.",
    ),
    "sample": (
        "A sample",
        "`dealrec_core/samples/histories.py` joins the interaction with the items of the user before it. The pair of history "
        "and next item is a sample. Its `sample_id` is a hash of user, item and time, and every later table uses it.",
    ),
    "influence": (
        "Influence",
        "The stage `tasks/stages/influence.py` estimates by how much the surrogate's error would change without the sample. "
        "`dealrec_core/influence/` computes this estimate for all samples at once, without training a network again.",
    ),
    "effort": (
        "Effort",
        "The stage `tasks/stages/effort.py` measures how strongly the language model would have to change to learn the sample: "
        "the norm of its gradient, from `dealrec_core/language/effort.py`. An effort is used again until the sample or the "
        "model changes, so the second night did not compute this effort again.",
    ),
    "coreset": (
        "The coreset",
        "The stage `tasks/stages/coreset.py` selects the samples worth learning by the method of the settings. Each method is a"
        " file in `dealrec_core/coreset/`. The block shows the score with which the sample was chosen, the group from which it "
        "was chosen, and how many of all samples the method chose.",
    ),
    "text": (
        "The text that is learnt",
        "`dealrec_core/language/prompts.py` writes the sample as a prompt and an answer. The files below `emitted/coresets/` "
        "hold the text, so that other trainers can use it, too.",
    ),
    "model": (
        "The model",
        "The stage `tasks/stages/fine_tune.py` tunes the base model on the coreset. `tasks/stages/evaluation.py` compares the "
        "tuned model with the champion, the surrogate and plain baselines. The gate in `dealrec_core/evaluation/gate.py` gives "
        "the verdict, which the table `promotions` stores.",
    ),
}


def page(lake: Lake) -> str:
    """The whole page, from a lake with two nights."""
    sample_id = chosen_twice(lake)
    steps = trace(lake, sample_id)
    names = {night.name: f"night {number}" for number, night in enumerate(nights(lake), 1)}
    blocks = {stage: [_block(step, names) for step in steps if step.stage == stage] for stage in STAGES}
    blocks["text"] = [_text(lake, sample_id)]
    parts = [HEAD]
    for number, (stage, (title, prose)) in enumerate(STAGES.items(), 1):
        parts += [f"## {number}. {title}\n", f"{prose}\n", "```", *blocks[stage], "```\n"]
    return "\n".join(parts)


def _block(step: Step, names: dict[str, str]) -> str:
    return "\n".join(f"{name + ': ' if name else ''}{_short(value, names)}" for name, value in step.facts)


def _short(value: str, names: dict[str, str]) -> str:
    """The value without what differs from one run or machine to another."""
    for name, short in names.items():
        value = value.replace(name, short)
    value = re.sub(r"\S*/(log/[^ ,]+)", r"\1", value)
    value = re.sub(r"\b[0-9a-f]{16}-", "…-", value)
    return value.split(" (95% interval")[0]


def chosen_twice(lake: Lake) -> str:
    """The first sample_id that both nights chose."""
    chosen = lake.scan("coresets").group_by("sample_id").len().collect()
    return min(chosen.filter(chosen["len"] == 2)["sample_id"])


def _text(lake: Lake, sample_id: str) -> str:
    """Prompt and answer of the sample, from the newest emitted coreset that holds it."""
    import polars as pl

    for night in reversed(nights(lake)):
        folder = str(night.need("coreset").path)
        rows = pl.read_parquet(lake.read_bytes(f"{folder}/coreset.parquet"))["sample_id"].to_list()
        if sample_id in rows:
            line = lake.read_bytes(f"{folder}/alpaca.jsonl").decode().splitlines()[rows.index(sample_id)]
            text = json.loads(line)
            return f"instruction: {text['instruction']}\ninput: {text['input']}\noutput: {text['output']}"
    return "(no emitted coreset holds the sample)"


def main() -> None:
    """Runs the two nights of tests/flows/conftest.py in a temporary folder, and writes the page."""
    import os
    import tempfile

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from prefect.testing.utilities import prefect_test_harness

    from tests.flows.conftest import new_town

    with tempfile.TemporaryDirectory() as folder, prefect_test_harness(server_startup_timeout=120):
        place = new_town(Path(folder))
        for day in (0, 1):
            place.write(day)
            place.night(day)
        PAGE.write_text(page(place.lake), encoding="utf-8")


if __name__ == "__main__":
    main()
