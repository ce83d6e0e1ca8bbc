"""The safeguards behind the fault matrix: each is taken out of a copy of the code, and the test of its cell must fail there.

`python tests/faults/safeguards.py` tries them all, in an hour or more, and writes benchmarks/results/safeguards.json; with names of
components, or of cells such as `"night: kill"`, it tries theirs alone. `python tests/faults/safeguards.py table` writes the table into
docs/operations.md.
"""

import importlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.machine import machine
from tests.faults import matrix

ROOT = matrix.ROOT
BEGIN, END = "<!-- written by tests/faults/safeguards.py -->\n", "<!-- end of the safeguards -->\n"
RESULTS = ROOT / "benchmarks" / "results" / "safeguards.json"
COPIED = ("dealrec_core", "tasks", "flows", "deployments", "docker", "tests", "benchmarks", "pyproject.toml", "docs")
LIBRARIES = ("torch", "transformers", "peft", "polars", "deltalake", "mlflow", "prefect", "scipy.stats", "hypothesis")
"""Libraries that most tests import. They are imported once before the forks, and importing them starts no thread."""
LAKE, LANGUAGE = "dealrec_core/lake", "dealrec_core/language"


class Safeguard(NamedTuple):
    """A piece of code that a cell of the matrix is about."""

    component: str
    fault: str
    name: str
    path: str
    code: str
    """Stands once in the file."""
    without: str = ""
    """Stands in its place where the safeguard is removed."""
    endless: bool = False
    """Without the safeguard the test does not end, so that its time limit is what turns it red."""


SAFEGUARDS = [
    Safeguard("ingest", "kill", "the next ingest writes the rows that commits note", f"{LAKE}/ledger.py",
              "    if seen:\n        write(lake, rows, seen=seen)\n"),
    Safeguard("ingest", "answer of a commit lost", "the log, not the answer, says whether a commit is there", f"{LAKE}/commit.py",
              "if version is not None:", "if version is not None and failure is None:"),
    Safeguard("ingest on S3", "no answer to any commit", "each commit has a token", f"{LAKE}/commit.py",
              "if token.encode() in lake.read_bytes(path):", "if False:", endless=True),
    Safeguard("ingest on S3", "two at once", "each raw file is a transaction", f"{LAKE}/commit.py",
              "app_transactions=[Transaction(*pair) for pair in (transactions or {}).items()],", "app_transactions=[],"),
    Safeguard("append", "answer of a commit lost", "each commit has a token", f"{LAKE}/commit.py",
              "if token.encode() in lake.read_bytes(path):", "if False:"),
    Safeguard("append", "interrupt in a commit", "files are not the draft's once a commit began", f"{LAKE}/draft.py",
              "        self._removed, self._added = [], []\n        write = partial("  , "        write = partial("),
    Safeguard("tables", "write fails", "a failed write removes its own file", f"{LAKE}/draft.py",
              "                self.lake.remove(f\"{self.table}/{path}\")\n            raise", "                pass\n            raise"),
    Safeguard("tables", "disk full", "a full disk is reported in one line", f"{LAKE}/draft.py",
              "with space.watched(self.lake.root):", "if True:"),
    Safeguard("commit", "disk full", "a full disk is reported in one line", f"{LAKE}/commit.py", "if space.is_full(failure):", "if False:"),
    Safeguard("small files", "disk full", "a full disk is reported in one line", f"{LAKE}/tables.py", 
              "with space.watched(self.root):", "if True:"),
    Safeguard("lake", "power cut: last commit gone, empty, torn", "a copy of the newest commit", f"{LAKE}/commit.py",
              "if damage.counted(lake, table)[0] < version:", "if False:"),
    Safeguard("lake", "power cut: data file gone, empty, torn", "sizes are compared before a table is read", f"{LAKE}/damage.py",
              "for path, state in damaged_files(lake, table, handle):", "for path, state in list[tuple[str, str]]():"),
    Safeguard("lake", "power cut: order of writes", "data files are synced before the commit", f"{LAKE}/draft.py",
              "        self.lake.sync(*(f\"{self.table}/{action.path}\" for action in self._added))\n"),
    Safeguard("nights", "power cut: record or manifest torn", "doctor reads every stage record", f"{LAKE}/checkup.py",
              "elif rest[0] == \"stages\" and (state := _state(lake, path, Snapshot)):", "elif False:"),
    Safeguard("tables", "bit flip", "data files are hashed before their first read", f"{LAKE}/sums.py",
              "for path in changed(lake, listed):", "for path in list[str]():"),
    Safeguard("tables", "changed with the list of hashes", "the record holds the hash of the list", f"{LAKE}/nights.py",
              "if hashlib.sha256(listing).hexdigest() != snapshot.tables_sha256:", "if False:"),
    Safeguard("models", "changed with the list of hashes", "the record holds the hash of the list", f"{LAKE}/sums.py",
              "if recorded is not None and hashlib.sha256(listing).hexdigest() != recorded:", "if False:"),
    Safeguard("lake", "changes that no night reads", "the scrub hashes every recorded file", f"{LAKE}/scrub.py",
              "sorted(damages | set(sums.changed(lake, recorded)))", "sorted(damages)"),
    Safeguard("upkeep", "two ingests beside it", "a refused commit reads the log again", f"{LAKE}/commit.py",
              "        raise Conflict(message) from failure", "        pass"),
    Safeguard("erasure", "kill, torn write, no space", "torn files are skipped", f"{LAKE}/erasure.py",
              "if not path.endswith(\".parquet\") or damage.torn(lake, path):", "if not path.endswith(\".parquet\"):"),
    Safeguard("erasure", "torn files of killed writers", "torn files are skipped", f"{LAKE}/erasure.py",
              "\"samples\") if not damage.torn(lake, path)]", "\"samples\")]"),
    Safeguard("surrogate", "NaN gradient", "the norm of the gradient is checked", "dealrec_core/surrogate/training.py",
              "if not np.isfinite(norm):", "if False:"),
    Safeguard("surrogate", "NaN in the warm start", "the weights are checked", "dealrec_core/surrogate/training.py",
              "    if initial is not None:\n        _require_finite(model, train)\n"),
    Safeguard("surrogate", "out of memory", "a batch is computed in parts", f"{LANGUAGE}/memory.py",
              "if self.count >= size or not is_exhausted(error):", "if True:"),
    Safeguard("influence", "NaN", "the samples are named", "tasks/naming.py", "if not len(rows):", "if True:"),
    Safeguard("influence", "out of memory", "the work starts again with fewer tokens", f"{LANGUAGE}/memory.py",
              "if tokens <= FEWEST_TOKENS or not is_exhausted(error):", "if True:"),
    Safeguard("effort", "NaN", "the norms are checked", f"{LANGUAGE}/effort.py", "if len(bad_rows):", "if False:"),
    Safeguard("effort", "out of memory", "the work starts again with fewer tokens", f"{LANGUAGE}/memory.py",
              "if tokens <= FEWEST_TOKENS or not is_exhausted(error):", "if True:"),
    Safeguard("fine-tuning", "NaN loss", "the loss is checked", f"{LANGUAGE}/training.py",
              "self._require_finite(\"training loss\", loss.item(), part)", "pass"),
    Safeguard("fine-tuning", "NaN gradient", "the norm of the gradient is checked", f"{LANGUAGE}/training.py",
              "self._require_finite(\"norm of the gradient\", norm.item(), batch)", "pass"),
    Safeguard("fine-tuning", "out of memory", "a batch is computed in parts", f"{LANGUAGE}/memory.py",
              "if self.count >= size or not is_exhausted(error):", "if True:"),
    Safeguard("fine-tuning", "kill", "a checkpoint holds the optimiser", f"{LANGUAGE}/checkpoints.py",
              "    optimiser.load_state_dict({\"state\": moments, \"param_groups\": optimiser.state_dict()[\"param_groups\"]})\n"),
    Safeguard("fine-tuning", "torn checkpoint", "a checkpoint is compared with its hashes", f"{LANGUAGE}/checkpoints.py",
              "if whole.changes(path, COMPLETE):", "if False:"),
    Safeguard("models", "code in the folder", "remote code is refused", f"{LANGUAGE}/language_model.py",
              "AutoTokenizer.from_pretrained(folder, trust_remote_code=False)", "AutoTokenizer.from_pretrained(folder)"),
    Safeguard("models", "pickled weights", "weights are loaded from safetensors alone", f"{LANGUAGE}/language_model.py",
              "INERT = {\"trust_remote_code\": False, \"use_safetensors\": True}", "INERT = {\"trust_remote_code\": False}"),
    Safeguard("registry", "clock jumps", "decisions are in the order of their commits", f"{LAKE}/promotions.py",
              ".sort(\"number\", \"at\", nulls_last=False)", ".sort(\"at\")"),
    Safeguard("registry", "rollback repeated", "a rollback reads promotions alone", f"{LAKE}/promotions.py",
              "if action != ROLLED_BACK]", "]"),
    Safeguard("registry", "killed before the alias moves", "a start heals the aliases", "tasks/champions.py",
              "    if changed := heal(config, lake):\n        get_run_logger().info(\"aliases changed: %s\", changed)\n"),
    Safeguard("registry", "MLflow gone", "a start continues without MLflow", "tasks/champions.py",
              "except (RegistryError, DataError) as error:\n        log.warning(", "except DataError as error:\n        log.warning("),
    Safeguard("night", "kill", "rows that a killed stage wrote are not written again", "tasks/stages/effort.py",
              ".join(done, on=KEYS, how=\"anti\")"),
    Safeguard("night", "worker killed", "an automation starts a crashed night", "deployments/automations.yaml",
              "    expect: [prefect.flow-run.Crashed]\n", "    expect: [prefect.flow-run.NoSuchState]\n"),
    Safeguard("night", "Prefect gone", "the client's errors are reported in one line", "flows/own_server.py",
              "except (httpx.TransportError, RuntimeError) as error:", "except ZeroDivisionError as error:"),
    Safeguard("night", "told to end while Prefect is gone", "the process ends itself", "flows/ending.py",
              "os._exit(128 + number[0])", "return"),
    Safeguard("night", "hostile titles and ids", "the letter that opens a token is set apart", f"{LANGUAGE}/prompts.py",
              "re.sub(r\"<(?=\\S)\", \"< \", re.sub(r\";(?=\\s)\", \",\", text))", "re.sub(r\";(?=\\s)\", \",\", text)"),
    Safeguard("secrets", "planted", "passwords are shown to a terminal alone", "deployments/up.sh",
              "if [ -n \"$first\" ] && [ -t 1 ]; then", "if [ -n \"$first\" ]; then"),
    Safeguard("make up", "a service dies", "make up waits for the first service that ends", "deployments/up.sh",
              "wait -n \"${pids[@]}\" || true", "wait \"${pids[@]}\" || true"),
    Safeguard("make up", "a worker and Prefect die together", "a worker waits until Prefect runs again", "deployments/up.sh",
              "|| continue 2 ;;", "|| exit 1 ;;"),
    Safeguard("make up", "a service hangs at Ctrl-C", "services that do not stop are killed", "deployments/up.sh",
              "gone 10 \"${all[@]}\" || kill -KILL \"${all[@]}\" 2>/dev/null || true", "wait"),
    Safeguard("access", "no login", "Prefect's server asks for a login", "deployments/up.sh",
              "PREFECT_SERVER_API_AUTH_STRING=$prefect_login \\\n", "PREFECT_LOGGING_LEVEL=INFO \\\n"),
    Safeguard("access", "foreign page", "the origins of pages are named", "deployments/up.sh",
              "export PREFECT_SERVER_CORS_ALLOWED_ORIGINS=", "export NOT_USED="),
    Safeguard("terminal", "hostile titles and ids", "letters that are not printed are shown as codes", "dealrec_core/errors.py",
              "    return \"\".join(letter if letter.isprintable() else _code(letter) for letter in shown)", "    return shown"),
    Safeguard("pages", "hostile titles and ids", "Markdown's own letters are escaped", "tasks/markup.py",
              "re.sub(r\"([\\\\`*_\\[\\]|~#])\", r\"\\\\\\1\", plain(text))", "plain(text)"),
    Safeguard("emitted files", "control tokens and headings", "the letter that opens a token is set apart", f"{LANGUAGE}/prompts.py",
              "re.sub(r\"<(?=\\S)\", \"< \", re.sub(r\";(?=\\s)\", \",\", text))", "re.sub(r\";(?=\\s)\", \",\", text)"),
]  # fmt: skip


def table() -> str:
    """The list as Markdown."""
    rows = [f"| {each.component} | {each.fault} | {each.name} | `{each.path}` |" for each in SAFEGUARDS]
    return "\n".join(["| component | fault | safeguard | removed in |", "|---|---|---|---|", *rows]) + "\n"


def page_with_table(page: str) -> str:
    """The page with today's list between its marks."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


def turns_red(safeguard: Safeguard, folder: Path) -> dict[str, str]:
    """Returns what became of the cell's test without the safeguard: `red` and its first error, else exit code and output.

    Where no end is expected, a test that runs past pytest's limit is red if it passes within half of that time with the safeguard.
    Any other test that runs past it shows nothing but a busy machine.
    """
    (cell,) = [each for each in matrix.CELLS if each[:2] == safeguard[:2]]
    file = folder / safeguard.path
    whole = file.read_text("utf-8")
    file.write_text(whole.replace(safeguard.code, safeguard.without), "utf-8")
    try:
        exit_code, said = _outcome(folder, cell.test)
    finally:
        file.write_text(whole, "utf-8")
    said = said.replace(sys.executable, "python").replace(f"{folder}/", "").replace(f"{ROOT}/", "")
    because = (re.findall(r"^E +(.+)", said, re.MULTILINE) or [""])[0][:200]
    is_broken = "ERROR " in said or "ImportError" in said  # the code without it must still be code
    if limit := re.search(r"Failed: Timeout \(>([\d.]+)s\)", said):
        started = time.monotonic()
        exit_code_with, _ = _outcome(folder, cell.test) if safeguard.endless else (None, "")
        spent = time.monotonic() - started
        because = f"runs past its limit of {limit[1]} s"
        if safeguard.endless:
            because += f"; with the safeguard it ends with {exit_code_with} after {spent:.0f} s"
        is_broken = exit_code_with != 0 or spent > float(limit[1]) / 2
    if exit_code == 1 and not is_broken:
        return {"test": "red", "because": because}
    return {"test": f"exit {exit_code}: {because or said.strip()[-300:]}"}


def _outcome(folder: Path, test: str) -> tuple[int | None, str]:
    """Exit code and output of a test of the copy; nothing that it started runs on."""
    process = multiprocessing.get_context("fork").Process(target=_test, args=(folder, test))
    try:
        process.start()
        process.join()
    finally:
        with suppress(ProcessLookupError):  # a test that fails may leave its servers running
            os.killpg(process.pid, signal.SIGKILL)
    return process.exitcode, (folder / "said.txt").read_text("utf-8")


def _test(folder: Path, test: str) -> None:
    """Runs a test of the copy in a fork of this process, which has imported the libraries but nothing of the program."""
    os.setsid()
    for name in [name for name in sys.modules if name.split(".")[0] in COPIED]:
        del sys.modules[name]
    sys.path[:] = [str(folder), *(path for path in sys.path if path != str(ROOT))]
    os.environ |= {
        "PYTHONPATH": str(folder),
        "DEALREC_DATA": str(ROOT / os.environ.get("DEALREC_DATA", "../shared/data")),
    }
    os.chdir(folder)
    with Path("said.txt").open("w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        os._exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", test]))


def main(wanted: list[str]) -> int:
    """Tries the safeguards of these components or cells ("night: kill"), or all, and writes down what became of each."""
    for library in LIBRARIES:
        importlib.import_module(library)
    cells = json.loads(RESULTS.read_text("utf-8"))["cells"] if RESULTS.exists() and wanted else {}
    states = []
    with tempfile.TemporaryDirectory() as name:
        for place in map(ROOT.joinpath, COPIED):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(place, Path(name) / place.name, ignore=ignored) if place.is_dir() else shutil.copy(
                place, name
            )
        for safeguard in SAFEGUARDS:
            cell = f"{safeguard.component}: {safeguard.fault}"
            if not wanted or {safeguard.component, cell} & set(wanted):
                started = time.monotonic()
                outcome = turns_red(safeguard, Path(name))
                states.append(outcome["test"])
                cells[cell] = {"without": safeguard.name, **outcome}
                sys.stdout.write(f"{outcome}: {cell} ({time.monotonic() - started:.0f} s)\n")
                sys.stdout.flush()
                count = sum(each["test"] == "red" for each in cells.values())
                result = {"red": count, "of": len(SAFEGUARDS), "cells": cells, "machine": machine()}
                RESULTS.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return 0 if set(states) == {"red"} else 1


if __name__ == "__main__":
    if sys.argv[1:] == ["table"]:
        matrix.PAGE.write_text(page_with_table(matrix.PAGE.read_text("utf-8")), "utf-8")
    else:
        sys.exit(main(sys.argv[1:]))
