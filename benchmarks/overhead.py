"""Time that orchestration adds to a night, in seconds: `python benchmarks/overhead.py [--repeats 3]`.

One night on fresh lakes: its stages called one after the other without Prefect, and the flow `nightly` against a
running server that asks for a login, in turns. Between them lies everything Prefect does: runs, states, logs, artifacts, results. Also:
what `dealrec nightly` takes on top when no server runs. Writes benchmarks/results/overhead.json.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import town as towns
from benchmarks.town import in_child

RESULTS = towns.ROOT / "benchmarks" / "results" / "overhead.json"
LOGIN = {
    "PREFECT_SERVER_API_AUTH_STRING": "dealrec:benchmark",
    "PREFECT_API_AUTH_STRING": "dealrec:benchmark",
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
}
"""Settings of the servers as `make up` sets them."""


def main() -> None:
    """Measures, prints and writes the results."""
    options = _options()
    seconds: dict[str, list[float]] = {"stages called directly": [], "flow on a running server": []}
    runs = {"stages called directly": _directly, "flow on a running server": _as_flow}
    os.environ |= LOGIN
    with towns.folder(None) as folder, towns.prefect_server(folder):
        in_child(towns.write_day, folder, 0)
        for repeat in range(options.repeats):
            for name, run in runs.items():
                seconds[name].append(_timed(folder, f"{run.__name__}{repeat}", run))
                print(f"{name}: {seconds[name][-1]:.2f} s", flush=True)
        for name in ("PREFECT_API_URL", *LOGIN):
            os.environ.pop(name)
        seconds["flow without a server"] = [_timed(folder, "no-server", _as_flow)]
    median = {name: round(statistics.median(values), 2) for name, values in seconds.items()}
    direct = median["stages called directly"]
    found = {
        "seconds": {name: [round(value, 2) for value in values] for name, values in seconds.items()},
        "median": median,
        "overhead on a running server": round(median["flow on a running server"] - direct, 2),
        "overhead without a server": round(median["flow without a server"] - direct, 2),
        "bound": 10.0,
        "machine": towns.machine(),
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


def _timed(folder: Path, town: str, run: Any) -> float:
    """Wall seconds of a night in a forked process; imports are done, lake and registry are new."""
    in_child(run, folder, town)
    return float((folder / town / "seconds").read_text())


def _directly(folder: Path, town: str) -> None:
    from prefect.logging import disable_run_logger

    from tasks import nights
    from tasks.tonight import Tonight

    order = _stages()
    started = time.monotonic()
    with disable_run_logger(), nights.one_night(_request(folder, town)) as night:
        for stage in order:
            night.record(stage.fn.__wrapped__(Tonight(night)))
    _note(folder, town, time.monotonic() - started)


def _stages() -> list[Any]:
    from tasks.stages.base_model import provide_base_model
    from tasks.stages.coreset import select_coreset
    from tasks.stages.effort import score_effort
    from tasks.stages.evaluation import evaluate_candidate
    from tasks.stages.fine_tune import fine_tune
    from tasks.stages.influence import score_influence
    from tasks.stages.ingest import ingest
    from tasks.stages.promotion import promote
    from tasks.stages.samples import build_samples
    from tasks.stages.surrogate import retrain_surrogate

    scoring = [score_influence, provide_base_model, score_effort]
    judging = [evaluate_candidate, promote]
    return [ingest, build_samples, retrain_surrogate, *scoring, select_coreset, fine_tune, *judging]


def _as_flow(folder: Path, town: str) -> None:
    from flows.nightly import nightly

    started = time.monotonic()
    nightly(_request(folder, town))
    _note(folder, town, time.monotonic() - started)


def _request(folder: Path, town: str) -> Any:
    from tasks.nights import NightRequest

    return NightRequest(day=towns.day(0), config=towns.DEMO, overrides=towns.overrides(folder, town))


def _note(folder: Path, town: str, seconds: float) -> None:
    (folder / town / "seconds").write_text(str(seconds))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
