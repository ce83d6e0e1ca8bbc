"""Do influence scores predict retraining? `python benchmarks/fidelity.py [--only games]`.

`dealrec study fidelity` on MovieLens-small and on Games, each fitted near the optimum of its objective, and
as a night trains its surrogate. Finished starts are kept below var/study. Writes benchmarks/results/fidelity.json and
docs/images/fidelity.png: LDS against damping.
"""

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks.machine import machine
from dealrec_core import settings
from dealrec_core.study import fidelity
from dealrec_core.study.fidelity import FidelityConfig

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "fidelity.json"
PLOT = ROOT / "docs" / "images" / "fidelity.png"
NIGHTLY = ["training=nightly", "trainings=8"]
CASES = {
    f"{data}{', as a night trains' if changes else ''}": (data, changes)
    for data in ("movielens", "games")
    for changes in ([], NIGHTLY)
}


def main() -> None:
    """Runs what has not finished, prints the tables and writes the results; other cases in the file are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(CASES), action="append")
    torch.set_num_threads(1)
    for name in parser.parse_args().only or CASES:
        data, changes = CASES[name]
        file = ROOT / "deployments" / "studies" / f"fidelity-{data}.toml"
        config = settings.read(FidelityConfig, file, [*_data(data), *changes])
        found = fidelity.study(config)
        print(f"{name}\n{fidelity.table(found)}\n", flush=True)
        known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        known[name] = {"machine": machine(), **found}
        RESULTS.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        draw(known)


def draw(cases: dict[str, Any]) -> None:
    """LDS of conjugate gradients against the damping, the default marked, and level lines of estimators that have none."""
    figure = Figure(figsize=(9, 6.5))
    for place, name in enumerate(name for name in CASES if name in cases):
        axes = figure.add_subplot(2, 2, place + 1, title=name)
        found = {key: summary for key, summary in cases[name]["estimators"].items() if "lds" in summary}
        points = sorted(
            (_damping(found[key]), *found[key]["lds"])
            for key in found
            if key.startswith("cg, damping ") and "," not in key[4:]
        )
        dampings, middle, low, high = (list(column) for column in zip(*points, strict=True))
        axes.plot(dampings, middle, marker="o", markersize=3, label="conjugate gradients")
        axes.fill_between(dampings, low, high, alpha=0.2)
        axes.axvline(_damping(found["cg, default settings"]), color="black", linewidth=0.8, label="default damping")
        for level, style in (("identity", "--"), ("released", ":")):
            axes.axhline(found[level]["lds"][0], color="grey", linestyle=style, label=level)
        axes.set(xscale="log", xlabel="damping", ylabel="LDS, 95% interval", ylim=(-0.3, 1))
        if place == 1:
            axes.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(PLOT, dpi=110, metadata={"Software": None})


def _damping(summary: dict[str, Any]) -> float:
    """Mean over the starts."""
    return statistics.mean(evidence["damping"] for evidence in summary["evidence"])


def _data(name: str) -> list[str]:
    root = os.environ.get("DEALREC_DATA")
    return [f"data={Path(root) / {'movielens': 'movielens-small'}.get(name, name)}"] if root else []


if __name__ == "__main__":
    main()
