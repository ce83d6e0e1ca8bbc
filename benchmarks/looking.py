"""Cost of commands that only read a lake, in two checkouts: `python benchmarks/looking.py --before OLD --after NEW`.

Every look is a process of its own. CPU seconds are user and system time, median of the repeats; memory is the peak of the resident
set. Each checkout looks at a lake of its own with one small night, made by its own code from the same log; both take turns.
Writes benchmarks/results/looking.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# Nothing heavy here: Linux counts the memory of this process into the peak of those it starts.

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "looking.json"
TOWN = """
import json, sys
from pathlib import Path
from benchmarks import town
folder = Path(sys.argv[1])
town.write_day(folder, 0)
print(json.dumps([str(town.day(0)), ["--config", town.DEMO, *(w for o in town.overrides(folder, "town") for w in ("--set", o))]]))
"""
SAMPLE = "import sys, polars as pl; print(pl.read_delta(sys.argv[1])['sample_id'][0])"
MACHINE = "import json; from benchmarks.machine import machine; print(json.dumps(machine()))"


def main() -> None:
    """Makes both lakes, looks at them in turn, prints the table and writes the results."""
    options = _options()
    trees = {"before": options.before.resolve(), "after": options.after.resolve()}
    with tempfile.TemporaryDirectory() as folder:
        commands = {name: _looks(tree, Path(folder) / name) for name, tree in trees.items()}
        measured: dict[str, Any] = {name: {look: [] for look in commands[name]} for name in trees}
        for look in commands["before"]:
            for name in list(trees) * options.repeats:
                measured[name][look].append(_cost(trees[name], Path(folder) / name, commands[name][look]))
    results = {name: {look: _medians(costs) for look, costs in looks.items()} for name, looks in measured.items()}
    results |= {"repeats": options.repeats, "machine": json.loads(_output(ROOT, ROOT, "-c", MACHINE))}
    options.results.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))


def table(results: dict[str, Any]) -> str:
    """The results as Markdown, before beside after."""
    lines = ["| look | CPU s before | CPU s after | peak MiB before | peak MiB after |", "|---|---:|---:|---:|---:|"]
    for look, before in results["before"].items():
        after = results["after"][look]
        cells = [f"{of[name]:.4g}" for name in before for of in (before, after)]
        lines.append(f"| {look} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _medians(costs: list[tuple[float, float]]) -> dict[str, float]:
    cpu_s, mib = (round(statistics.median(values), 2) for values in zip(*costs, strict=True))
    return {"CPU s": cpu_s, "peak MiB": mib}


def _looks(tree: Path, folder: Path) -> dict[str, list[str]]:
    """Makes a lake with one night in the folder; the arguments of Python for each look at it."""
    folder.mkdir()
    day, settings = json.loads(_output(tree, folder, "-c", TOWN, str(folder)))
    _output(tree, folder, "-m", "flows.cli", "nightly", "--day", day, *settings)
    sample = _output(tree, folder, "-c", SAMPLE, f"{folder}/town/lake/coresets").strip()
    promotions = "lake.promotions" if (tree / "dealrec_core" / "lake" / "promotions.py").exists() else "promotions"
    commands = {
        "--help": ["--help"],
        "rollback --help": ["rollback", "--help"],
        "status": ["status", *settings],
        "plan": ["plan", "--day", day, *settings],
        "trace": ["trace", sample, *settings],
        "doctor": ["doctor", *settings],
        "erase-user (nobody)": ["erase-user", "nobody", *settings],
        "report": ["report", "--to", f"{folder}/report.html", *settings],
    }
    return {
        "import dealrec_core.lake": ["-c", "import dealrec_core.lake"],
        "import promotions": ["-c", f"import dealrec_core.{promotions}"],
        **{f"dealrec {look}": ["-m", "flows.cli", *words] for look, words in commands.items()},
    }


def _environment(tree: Path, folder: Path) -> dict[str, str]:
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **quiet, "PYTHONPATH": str(tree), "PREFECT_HOME": str(folder / "prefect")}


def _output(tree: Path, folder: Path, *arguments: str) -> str:
    command, environment = [sys.executable, *arguments], _environment(tree, folder)
    return subprocess.run(command, env=environment, cwd=tree, stdout=subprocess.PIPE, text=True, check=True).stdout


def _cost(tree: Path, folder: Path, arguments: list[str]) -> tuple[float, float]:
    """CPU seconds and peak MiB of one process."""
    command, environment = [sys.executable, *arguments], _environment(tree, folder)
    process = subprocess.Popen(command, env=environment, cwd=tree, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{tree}: python {' '.join(arguments[:3])} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="the older checkout")
    parser.add_argument("--after", type=Path, default=ROOT, help="the newer checkout")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
