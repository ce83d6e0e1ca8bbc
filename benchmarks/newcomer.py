"""Plays a newcomer: a log with a shape of its own, `dealrec init`, three nights, and what each command printed and took.

    python benchmarks/newcomer.py              # 30,000 events of 800 users; writes results/newcomer.json and prints the transcript

Nothing is set beside what README's path says. tests/flows/test_first_night.py plays a small form, and docs/first-night.md shows it.
"""

import csv
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
START = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = ("Lampe", "Stuhl", "Tisch", "Regal", "Vase", "Teppich", "Kissen", "Spiegel", "Uhr", "Bild")
WOODS = ("Eiche", "Buche", "Ahorn", "Nuss", "Kiefer", "Glas", "Stahl", "Leinen", "Wolle", "Ton")


@dataclass(frozen=True)
class Shop:
    """The size of a shop's log."""

    users: int = 800
    items: int = 500
    events: int = 30_000
    days: int = 40
    later: int = 750
    """Events of each of the two days that come later, beside three bad rows."""


@dataclass(frozen=True)
class Command:
    """A command of the newcomer, what it printed, and what it took."""

    line: str
    code: int
    output: str
    wall_s: float = 0.0
    cpu_s: float = 0.0


Run = Callable[[Path, str], Command]
"""Runs one command in a folder."""


def write_shop(folder: Path, shop: Shop) -> None:
    """The files of the first `days` days: semicolons, milliseconds, German names; a user follows a series most of the time."""
    (folder / "log").mkdir(parents=True)
    with (folder / "artikel.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, delimiter=";")
        rows.writerow(["nr", "bezeichnung", "warengruppe"])
        for number in range(shop.items):
            series, place = divmod(number, 10)
            word = f"{WORDS[series % len(WORDS)]} {WOODS[(series // len(WORDS)) % len(WOODS)]}"
            rows.writerow([f"A{number:05}", f"{word} {place + 1}", f"{WORDS[series % len(WORDS)]}|Haus"])
    _write_log(folder, "kauf-2026-01-01", shop, first=START, days=shop.days, events=shop.events, seed=0)


def write_later_day(folder: Path, shop: Shop, number: int) -> datetime:
    """The file of a later day with its bad rows; returns the day."""
    day = START + timedelta(days=shop.days + number)
    name = f"kauf-{day:%Y-%m-%d}"
    _write_log(folder, name, shop, first=day, days=1, events=shop.later, seed=number + 1)
    with (folder / "log" / f"{name}.csv").open("a", encoding="utf-8") as file:
        file.write("k00001;;1767225600000;kauf;1\nk00002;A00001;gestern;kauf;1\n;A00001;1767225600000;kauf;1\n")
    return day


def _write_log(folder: Path, name: str, shop: Shop, *, first: datetime, days: int, events: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    times = np.sort(random.integers(0, days * 86_400_000, events)) + int(first.timestamp() * 1000)
    last = _last_items(folder / "log")
    with (folder / "log" / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, delimiter=";")
        rows.writerow(["kunde", "artikelnr", "zeitpunkt_ms", "vorgang", "menge"])
        for moment in times.tolist():
            user = int(random.integers(shop.users))
            item = last.get(user, -1) + 1
            if item % 10 == 0 or item >= shop.items or random.random() < 0.3:  # the series ends, or the user leaves it
                item = min(int(shop.items * random.random() ** 2), shop.items - 1)
            last[user] = item
            kind = "kauf" if random.random() < 0.4 else "ansicht"
            rows.writerow([f"k{user:05}", f"A{item:05}", moment, kind, int(random.integers(1, 4))])


def _last_items(log: Path) -> dict[int, int]:
    """The item that each user took last in the files so far: the next file continues there. Bad rows have no user, item or time."""
    last: dict[int, int] = {}
    for path in sorted(log.glob("*.csv")):
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file, delimiter=";"):
                if row["kunde"] and row["artikelnr"] and row["zeitpunkt_ms"].isdigit():
                    last[int(row["kunde"][1:])] = int(row["artikelnr"][1:])
    return last


def play(folder: Path, shop: Shop, run: Run, *, nights: int = 3) -> list[Command]:
    """Runs the commands of README's path in a folder, one after another, with nights for the first days and later ones."""
    write_shop(folder / "rohdaten", shop)
    lines = ["init rohdaten", "doctor", "plan", f"nightly --day {START + timedelta(days=shop.days - 1):%Y-%m-%d}"]
    played = [run(folder, f"dealrec {line}") for line in lines]
    for number in range(nights - 1):
        day = write_later_day(folder / "rohdaten", shop, number)
        played.append(run(folder, f"dealrec nightly --day {day:%Y-%m-%d}"))
    return played + [run(folder, f"dealrec {line}") for line in ("plan", "status", "recommend k00003 --count 5")]


def run(folder: Path, line: str) -> Command:
    """Runs one command as a person would, with its output in a pipe."""
    words = [sys.executable, "-m", "flows.cli", *shlex.split(line)[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "PREFECT_HOME": str(folder / "prefect")}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    ended = subprocess.run(
        words, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Command(line, ended.returncode, ended.stdout, round(time.monotonic() - started, 1), round(cpu, 1))


def transcript(played: list[Command], folder: Path) -> str:
    """Returns the text that the command printed, without the folder of the run."""
    blocks = [f"$ {command.line}\n{command.output.rstrip()}" for command in played]
    return re.sub(rf"(file://)?{re.escape(str(folder))}/", "", "\n\n".join(blocks))


def main() -> None:
    """Plays the large form, prints the transcript and writes the times."""
    from benchmarks.machine import machine

    with tempfile.TemporaryDirectory() as name:
        played = play(Path(name), Shop(), run)
        print(transcript(played, Path(name)))
    times = [asdict(command) for command in played]
    result = {"machine": machine(), "shop": asdict(Shop()), "commands": times}
    (ROOT / "benchmarks" / "results" / "newcomer.json").write_text(
        json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
