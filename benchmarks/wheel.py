"""The wheel in a fresh environment: `python benchmarks/wheel.py [--torch torch==2.13.0+cpu] [--extra pipeline]`.

Builds the wheel, installs torch and then the wheel in a new environment, counts the packages beside torch's own, runs
the first example of docs/library.md in an empty folder, and runs the command. Without an extra the command names what is missing.
With `--extra pipeline` it plays README's path in an empty folder, up to a night and its report. Writes benchmarks/results/wheel.json.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import newcomer
from benchmarks.machine import machine
from docs.first_night import SHOP, SMALL
from tests import library

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "wheel.json"
OURS = {"dealrec", "pip", "setuptools"}
FORBIDDEN = {"prefect", "mlflow", "fastapi"}


def main() -> None:
    """Measures, prints and writes the results."""
    options = _options()
    found = json.loads(RESULTS.read_text("utf-8"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python, measured = _installed(folder, options.torch, options.extra)
        if options.extra == "pipeline":
            found["with pipeline"] = {**measured, "commands": _commands(folder, python.parent), "machine": machine()}
        elif options.extra is None:
            found.update({**measured, **_library(folder / "shop", python), "machine": machine()})
    print(json.dumps(found, indent=1))
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _installed(folder: Path, torch: str, extra: str | None) -> tuple[Path, dict[str, object]]:
    """The interpreter of a new environment with the wheel, and what was installed."""
    python, dist = folder / "venv" / "bin" / "python", folder / "dist"
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    wheel = next(dist.glob("*.whl"))
    _run(sys.executable, "-m", "venv", str(folder / "venv"))
    install = [str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
    _run(*install, torch)
    with_torch = _packages(python)
    _run(*install, f"{wheel}[{extra}]" if extra else str(wheel))
    added = sorted(_packages(python) - with_torch - OURS)
    measured = {"wheel bytes": wheel.stat().st_size, "packages beside torch's own": len(added), "packages": added}
    return python, measured


def _library(shop: Path, python: Path) -> dict[str, object]:
    """The first example of docs/library.md, and the command without its extra."""
    shop.mkdir()
    library.prepare(shop)
    (shop / "example.py").write_text(library.blocks(ROOT / "docs" / "library.md")[0], encoding="utf-8")
    _run(str(python), "example.py", cwd=shop)
    command = subprocess.run(
        [python.parent / "dealrec", "--help"], cwd=shop, capture_output=True, text=True, check=False
    )
    return {
        "of these forbidden": sorted(FORBIDDEN & _packages(python)),
        "example wrote": sorted(path.name for path in shop.glob("coreset*")),
        "dealrec --help": [command.returncode, (command.stderr or command.stdout).strip().splitlines()[0]],
    }


def _commands(folder: Path, programs: Path) -> dict[str, list[object]]:
    """README's path with a small log, in a folder outside of the checkout: exit code and last line of every command."""
    names = {f"DEALREC_{name}": value for name, value in SMALL.items()}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | names
    environment["PREFECT_HOME"] = str(folder / "prefect")

    def run(place: Path, line: str) -> newcomer.Command:
        words = [str(programs / "dealrec"), *shlex.split(line)[1:]]
        done = subprocess.run(
            words, cwd=place, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        return newcomer.Command(line, done.returncode, done.stdout)

    town = folder / "town"
    played = [*newcomer.play(town, SHOP, run, nights=1), run(town, "dealrec report"), run(town, "dealrec --version")]
    print(newcomer.transcript(played, town))
    return {command.line: [command.code, (command.output.strip() or "-").splitlines()[-1]] for command in played}


def _packages(python: Path) -> set[str]:
    listed = _run(str(python), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check")
    return {package["name"].lower() for package in json.loads(listed)}


def _run(*command: str, cwd: Path | None = None) -> str:
    """Standard output of a command that must succeed; nothing of the checkout is on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", default="torch==2.13.0+cpu", help="what installs torch, before the wheel")
    parser.add_argument("--extra", help="an extra to install, such as pipeline")
    return parser.parse_args()


if __name__ == "__main__":
    main()
