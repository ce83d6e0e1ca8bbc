"""How long the embedded language model takes at the demo's size: `python benchmarks/embedded.py`.

The stages of the demo's first night up to the base model, without Prefect, by one thread. Writes benchmarks/results/embedded.json.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import town as towns
from benchmarks.machine import machine

RESULTS = towns.ROOT / "benchmarks" / "results" / "embedded.json"
BOUND_S = 60


def main() -> None:
    """Measures, prints and writes the results."""
    with towns.folder(None) as folder:
        found = {"machine": machine(), **_built(folder), "bound, seconds": BOUND_S}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


def _work(stage: Any) -> Any:
    """The function of a stage, which runs without Prefect."""
    return stage.fn.__wrapped__


def _built(folder: Path) -> dict[str, Any]:
    import torch
    from prefect.logging import disable_run_logger

    from dealrec_core.ingest import synthetic
    from dealrec_core.language import language_model
    from tasks.nights import NightRequest, one_night
    from tasks.stages.base_model import provide_base_model
    from tasks.stages.ingest import ingest
    from tasks.stages.samples import build_samples
    from tasks.tonight import Tonight

    log = synthetic.SyntheticConfig()
    synthetic.write_day(folder / "data", 0, log)
    request = NightRequest(day=log.start, config=towns.DEMO, overrides=towns.overrides(folder, "demo", size=[]))
    with disable_run_logger(), one_night(request) as night:
        for stage in (ingest, build_samples):
            night.record(_work(stage)(Tonight(night)))
        wall, cpu = time.monotonic(), time.process_time()
        night.record(_work(provide_base_model)(Tonight(night)))
        seconds = {"seconds": round(time.monotonic() - wall, 1), "CPU seconds": round(time.process_time() - cpu, 1)}
        model, _ = language_model.load(str(Tonight(night).folder("base_model")), device=torch.device("cpu"))
        settings = night.config.algorithms.language_model.model_dump()
        events = int(night.need("ingest").facts["rows in the lake"] or 0)
    return {"events": events, "parameters": model.num_parameters(), "settings": settings, **seconds}


if __name__ == "__main__":
    main()
