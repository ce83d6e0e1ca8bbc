"""The wheel in a fresh environment: `python benchmarks/wheel.py [--torch torch==2.13.0+cpu] [--extra pipeline]`.

Builds the wheel, installs torch and then the wheel in a new environment, counts the packages beside torch's own, runs
the first example of docs/library.md in an empty folder, and asks the command for help. Writes benchmarks/results/wheel.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.machine import machine
from tests import library

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "wheel.json"
OURS = {"dealrec", "pip", "setuptools"}
FORBIDDEN = {"prefect", "mlflow", "fastapi"}


def main() -> None:
    """Measures, prints and writes the results."""
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        found = _measured(Path(name), options.torch, options.extra)
    print(json.dumps(found, indent=1))
    if options.extra is None:
        RESULTS.write_text(json.dumps({**found, "machine": machine()}, indent=1) + "\n", encoding="utf-8")


def _measured(folder: Path, torch: str, extra: str | None) -> dict[str, object]:
    python, dist, shop = folder / "venv" / "bin" / "python", folder / "dist", folder / "shop"
    shop.mkdir()
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    wheel = next(dist.glob("*.whl"))
    _run(sys.executable, "-m", "venv", str(folder / "venv"))
    install = [str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
    _run(*install, torch)
    with_torch = _packages(python)
    _run(*install, f"{wheel}[{extra}]" if extra else str(wheel))
    added = sorted(_packages(python) - with_torch - OURS)
    library.prepare(shop)
    (shop / "example.py").write_text(library.blocks(ROOT / "docs" / "library.md")[0], encoding="utf-8")
    _run(str(python), "example.py", cwd=shop)
    command = subprocess.run(
        [python.parent / "dealrec", "--help"], cwd=shop, capture_output=True, text=True, check=False
    )
    return {
        "wheel bytes": wheel.stat().st_size,
        "packages beside torch's own": len(added),
        "of these forbidden": sorted(FORBIDDEN & set(added)),
        "example wrote": sorted(path.name for path in shop.glob("coreset*")),
        "dealrec --help": [command.returncode, (command.stderr or command.stdout).strip().splitlines()[0]],
        "packages": added,
    }


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
    parser.add_argument("--extra", help="an extra to install; the results are then printed only")
    return parser.parse_args()


if __name__ == "__main__":
    main()
