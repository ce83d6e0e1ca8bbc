"""Makes what cells share (bases, surrogates, scores, features), each once, and runs one cell."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dealrec_core import influence, schema
from dealrec_core.coreset import selection
from dealrec_core.coreset.methods import NEEDS
from dealrec_core.language import whole
from dealrec_core.recommenders import backend, features
from dealrec_core.recommenders.backend import Backend, OpenedBase
from dealrec_core.recommenders.features import Arrays, FeatureInputs
from dealrec_core.samples.sequences import encode
from dealrec_core.study import backends
from dealrec_core.study.config import FORMAT, Cell, StudyConfig
from dealrec_core.study.data import StudyData
from dealrec_core.surrogate import checkpoint
from dealrec_core.surrogate.training import train as train_surrogate

ARRAYS, SECONDS = "arrays.npz", "seconds.json"
METRICS = ("recall", "ndcg", "mrr", "log_likelihood")


SHELVED: dict[tuple[str, ...], tuple[str, ...]] = {
    ("el2n", "grand"): ("surrogate", "early"),
    ("effort", "gradient_norm"): (),
    ("hidden", "vector", "text"): ("aims",),
    ("gradient", "layer_gradients"): ("aims", "gradient_width"),
    ("adam_gradient",): ("gradient_width",),
}
"""Features that are made once for all cells, with the settings that they depend on; all but the first also on the base."""


@dataclass(frozen=True)
class Shelf:
    """A folder of finished things. A kill while one is made leaves nothing of it behind under its name."""

    folder: Path

    def arrays(self, name: str, make: Callable[[], Mapping[str, np.ndarray]]) -> tuple[dict[str, np.ndarray], float]:
        """The arrays of that name and the CPU seconds that making them took."""
        place = self.folder_of(name, lambda folder: np.savez(folder / ARRAYS, **make()))  # type: ignore[arg-type]
        with np.load(place / ARRAYS) as file:
            return {key: file[key] for key in file.files}, self.seconds(name)

    def folder_of(self, name: str, make: Callable[[Path], Any]) -> Path:
        """The folder of that name, filled by `make` when it is not there yet."""
        place = self.folder / name
        if not place.exists():
            with whole.folder(place) as part:
                started = time.process_time()
                make(part)
                (part / SECONDS).write_text(json.dumps(round(time.process_time() - started, 2)), encoding="utf-8")
        return place

    def seconds(self, name: str) -> float:
        """CPU seconds that making the thing of that name took."""
        return float(json.loads((self.folder / name / SECONDS).read_text(encoding="utf-8")))


@dataclass
class Workshop:
    """The shared things of one data set, and its cells."""

    data: StudyData
    config: StudyConfig
    _opened: dict[str, OpenedBase] = field(default_factory=dict)

    def run(self, cell: Cell) -> tuple[pl.DataFrame, dict[str, Any]]:
        """Selects, tunes and evaluates; returns the values of each user, and the facts of the cell."""
        pool, aims, feature_seconds = self.features(cell)
        zeros = np.zeros(len(self.data.pool))  # of influence and effort where the method does not ask for them
        started = time.process_time()
        chosen = selection.select(
            selection.with_features(
                self.data.pool.select(schema.SAMPLE_ID), {"influence": zeros, "effort": zeros, **pool}
            ),
            self.config.selection(cell),
            seed=cell.seed,
            by=self.config.variant(cell.method).method,
            reference=aims,
        )
        select_seconds = time.process_time() - started
        rows = self.data.pool.join(chosen.frame, on=schema.SAMPLE_ID, how="semi").sort(schema.SAMPLE_ID)
        model, tuning_seconds = self._tuned(cell, rows)
        started = time.process_time()
        per_user = backends.measured(model, self.data, self.config)
        facts = {
            **chosen.report,
            "selection_s": round(feature_seconds + select_seconds, 2),
            "tuning_s": round(tuning_seconds, 2),
            "evaluation_s": round(time.process_time() - started, 2),
            "tokens": int(model.tokens),
            "flops": float(model.flops),
            "coreset": sha256("".join(rows[schema.SAMPLE_ID]).encode()).hexdigest()[:16],
            **{metric: float(per_user[metric].to_numpy().mean()) for metric in METRICS},
        }
        return per_user, facts

    def _tuned(self, cell: Cell, chosen: pl.DataFrame) -> tuple[backends.CellModel, float]:
        """The cell's model and the CPU seconds of its tuning; the shared base costs the cell nothing."""
        tune: Callable[..., backends.CellModel] = backends.tuned_proxy
        if cell.backend != backends.PROXY:
            tune = partial(backends.tuned, cell.backend, self._base(backends.build(cell.backend, self.config)))
        started = time.process_time()
        return tune(chosen, data=self.data, config=self.config, seed=cell.seed), time.process_time() - started

    def features(self, cell: Cell) -> tuple[Arrays, Arrays, float]:
        """What the cell's method asks of the pool and of the aims, by name, and the CPU seconds that it costs."""
        spent: list[float] = []
        names = [("influence",), ("effort", "gradient_norm"), *features.SOURCES]
        sources = {features_of: partial(self._source, cell, features_of, spent) for features_of in names}
        needs = set(NEEDS[self.config.variant(cell.method).method])
        pool, aims = features.features(needs, self._inputs(cell), sources)
        return pool, aims, sum(spent)

    def _source(
        self, cell: Cell, names: tuple[str, ...], spent: list[float], inputs: FeatureInputs
    ) -> tuple[Arrays, Arrays]:
        """The features that are computed together, from shared files where another cell has asked before; adds their cost."""
        if names == ("influence",):
            scores, seconds = self._influence(cell)
            spent.append(seconds)
            return scores, {}
        if names in SHELVED:
            sections = SHELVED[names]
            shelf = self._shelf(*sections) if "early" in sections else self._shelf_of(cell, *sections)
            arrays, seconds = shelf.arrays(f"of-{names[0]}", lambda: _made(names, inputs))
            spent.append(seconds)
            return _side(arrays, "pool."), _side(arrays, "aims.")
        trained_s = self.surrogate(cell.surrogate)[1] if names == ("user",) else 0.0
        started = time.process_time()
        made = features.SOURCES[names](inputs)
        spent.append(trained_s + time.process_time() - started)
        return made

    def surrogate(self, network: str) -> tuple[Any, float]:
        """The surrogate of that network, and the CPU seconds of its training."""
        shelf = self._shelf("surrogate")
        settings = self.config.surrogate.model_copy(update={"network": network})

        def make(folder: Path) -> None:
            ids = self.data.catalogue.item_ids
            pool, recent = encode(self.data.pool, ids), encode(self.data.recent, ids)
            trained = train_surrogate(pool, recent, item_count=len(ids), config=settings, seed=self.config.seed)
            checkpoint.save(folder, trained.model, item_ids=ids, config=settings, lineage={"ndcg": trained.best.ndcg})

        folder = shelf.folder_of(f"surrogate-{network}", make)
        return checkpoint.load(folder)[0], shelf.seconds(f"surrogate-{network}")

    def _influence(self, cell: Cell) -> tuple[Arrays, float]:
        settings = self.config.influence_of(cell)
        name = f"influence-{cell.surrogate}-{_short(settings.model_dump_json())}"
        model, trained_s = self.surrogate(cell.surrogate)

        def make() -> Arrays:
            train, recent = (encode(part, self.data.catalogue.item_ids) for part in (self.data.pool, self.data.recent))
            risk = train if settings.risk == "train" else recent
            return {"influence": influence.score(model, train, risk, config=settings, seed=self.config.seed).scores}

        scores, seconds = self._shelf("surrogate").arrays(name, make)
        return scores, trained_s + seconds

    def _inputs(self, cell: Cell) -> FeatureInputs:
        data, config = self.data, self.config
        return FeatureInputs(
            train=data.pool,
            recent=data.recent,
            aims=data.recent.tail(config.aims),
            catalogue=lambda: data.catalogue,
            counts=lambda: data.counts,
            base=lambda: self.base(cell),
            surrogate=lambda: (
                None if cell.surrogate == "none" else self.surrogate(cell.surrogate)[0],  # some ask for its items only
                data.catalogue.item_ids,
            ),
            surrogate_config=config.surrogate,
            seed=config.seed,
            device=backends.CPU,
            early_seed=config.seed + 1,
            width=config.gradient_width,
            early=config.early,
        )

    def base(self, cell: Cell) -> OpenedBase:
        """The base that the cell's features come from, opened once."""
        name = backends.asked(cell.backend)
        if name not in self._opened:
            ours = backends.build(name, self.config)
            self._opened[name] = ours.open(self._base(ours), self.data.catalogue)
        return self._opened[name]

    def _base(self, ours: Backend) -> Path | str:
        """Where the backend's base is; it is built by the first cell that needs it."""
        key = ours.base_key()
        if key is None:
            return ours.base_name
        shelf = self._shelf(keys=key)
        return shelf.folder_of("base", lambda folder: ours.prepare(folder, self.data.catalogue, self.data.past))

    def _shelf_of(self, cell: Cell, *sections: str) -> Shelf:
        """The folder of things that the cell's base says of samples."""
        ours = backends.build(backends.asked(cell.backend), self.config)
        base = ours.base_key() or ours.outside_key()
        return self._shelf(*sections, keys=[ours.name, *base, *ours.effort_key()])

    def _shelf(self, *sections: str, keys: Sequence[str] = ()) -> Shelf:
        """The folder of things that depend on these settings, the data set and the seed, not on which users are measured."""
        settings = self.config.model_dump_json(include={"seed", *sections})
        dataset = self.config.datasets[self.data.name].model_dump_json(exclude={"users"})
        described = "\n".join([str(FORMAT), settings, dataset, *keys])
        return Shelf(Path(self.config.folder) / "shared" / _short(described))


def _made(names: tuple[str, ...], inputs: FeatureInputs) -> Arrays:
    """The features of both sides as arrays of one file."""
    if "effort" in names:
        return {"pool.effort": backend.efforts(inputs.base(), inputs.train)}
    sides = zip(("pool", "aims"), features.SOURCES[names](inputs), strict=True)
    return {f"{side}.{name}": values for side, arrays in sides for name, values in arrays.items()}


def _side(arrays: Arrays, side: str) -> Arrays:
    return {name.removeprefix(side): values for name, values in arrays.items() if name.startswith(side)}


def _short(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12]
