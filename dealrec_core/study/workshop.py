"""Makes what cells share (bases, surrogates, scores, features), each once, and runs one cell."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dealrec_core import influence, schema
from dealrec_core.coreset import selection
from dealrec_core.coreset.methods import NEEDS
from dealrec_core.recommenders import backend, features
from dealrec_core.recommenders.backend import Backend, OpenedBase
from dealrec_core.recommenders.features import Arrays, FeatureInputs, Source, is_asked
from dealrec_core.samples.sequences import Sequences, encode
from dealrec_core.study import backends
from dealrec_core.study.config import FORMAT, Cell, StudyConfig
from dealrec_core.study.data import StudyData
from dealrec_core.study.shelf import Shelf
from dealrec_core.surrogate import checkpoint
from dealrec_core.surrogate.training import train as train_surrogate

METRICS = ("recall", "ndcg", "mrr", "log_likelihood")


@dataclass(frozen=True)
class Finished:
    """A finished cell: values per user, and its facts."""

    per_user: pl.DataFrame
    facts: dict[str, Any]


@dataclass(frozen=True)
class Features:
    """What a method asks of the pool and of the aims, by name, and the CPU seconds that it costs."""

    pool: Arrays
    aims: Arrays
    seconds: float


@dataclass
class Workshop:
    """The shared things of one data set, and its cells."""

    data: StudyData
    config: StudyConfig
    _opened: dict[str, OpenedBase] = field(default_factory=dict)

    def run(self, cell: Cell) -> Finished:
        """Selects, tunes and evaluates."""
        asked = self.features(cell)
        started = time.process_time()
        chosen = selection.select(
            self._scored(asked.pool),
            self.config.selection(cell),
            seed=cell.seed,
            by=self.config.variant(cell.method).method,
            reference=asked.aims,
        )
        select_seconds = time.process_time() - started
        rows = self.data.pool.join(chosen.frame, on=schema.SAMPLE_ID, how="semi").sort(schema.SAMPLE_ID)
        model, tuning_seconds = self._tuned(cell, rows)
        started = time.process_time()
        per_user = backends.measured(model, self.data, self.config)
        facts = {
            **chosen.report,
            "selection_s": round(asked.seconds + select_seconds, 2),
            "tuning_s": round(tuning_seconds, 2),
            "evaluation_s": round(time.process_time() - started, 2),
            "tokens": int(model.tokens),
            "flops": float(model.flops),
            "coreset": sha256("".join(rows[schema.SAMPLE_ID]).encode()).hexdigest()[:16],
            **{metric: float(per_user[metric].to_numpy().mean()) for metric in METRICS},
        }
        return Finished(per_user, facts)

    def _tuned(self, cell: Cell, chosen: pl.DataFrame) -> tuple[backends.CellModel, float]:
        """The cell's model and the CPU seconds of its tuning; the shared base costs the cell nothing."""
        shared: dict[str, Any] = {"data": self.data, "config": self.config, "seed": cell.seed}
        if cell.backend == backends.PROXY:
            started = time.process_time()
            return backends.tuned_proxy(chosen, **shared), time.process_time() - started
        base = self._base(backends.build(cell.backend, self.config))
        started = time.process_time()
        return backends.tuned(cell.backend, base, chosen, **shared), time.process_time() - started

    def features(self, cell: Cell) -> Features:
        """The features that the cell's method asks for, from shared files where another cell has asked before."""
        needs = set(NEEDS[self.config.variant(cell.method).method])
        pool: Arrays = {}
        aims: Arrays = {}
        seconds = 0.0
        for names, source in self._sources.items():
            if needs & set(names):
                of_pool, of_aims, spent = source(cell)
                pool |= {name: values for name, values in of_pool.items() if is_asked(name, needs)}
                aims |= {name: values for name, values in of_aims.items() if is_asked(name, needs)}
                seconds += spent
        return Features(pool, aims, seconds)

    @property
    def _sources(self) -> Mapping[tuple[str, ...], Callable[[Cell], tuple[Arrays, Arrays, float]]]:
        own = {
            ("influence",): self._influence,
            ("effort", "gradient_norm"): self._effort,
            ("el2n", "grand"): self._early,
            ("user",): self._user,
            ("hidden", "vector", "text"): self._hidden,
            ("gradient", "layer_gradients"): self._gradient,
            ("adam_gradient",): self._adam_gradient,
        }
        cheap = {names: self._cheap(source) for names, source in features.SOURCES.items() if names not in own}
        return {**own, **cheap}

    def surrogate(self, network: str) -> tuple[Any, float]:
        """The surrogate of that network, and the CPU seconds of its training."""
        shelf = self._shelf("surrogate")
        settings = self.config.surrogate.model_copy(update={"network": network})

        def make(folder: Path) -> None:
            trained = train_surrogate(
                self._sequences(self.data.pool),
                self._sequences(self.data.recent),
                item_count=len(self.data.catalogue),
                config=settings,
                seed=self.config.seed,
            )
            ids = self.data.catalogue.item_ids
            checkpoint.save(folder, trained.model, item_ids=ids, config=settings, lineage={"ndcg": trained.best_ndcg})

        folder = shelf.folder_of(f"surrogate-{network}", make)
        return checkpoint.load(folder)[0], shelf.seconds(f"surrogate-{network}")

    def _influence(self, cell: Cell) -> tuple[Arrays, Arrays, float]:
        settings = self.config.influence_of(cell)
        name = f"influence-{cell.surrogate}-{_short(settings.model_dump_json())}"
        model, trained_s = self.surrogate(cell.surrogate)

        def make() -> Arrays:
            train = self._sequences(self.data.pool)
            risk = train if settings.risk == "train" else self._sequences(self.data.recent)
            return {"influence": influence.score(model, train, risk, config=settings, seed=self.config.seed).scores}

        scores, seconds = self._shelf("surrogate").arrays(name, make)
        return scores, {}, trained_s + seconds

    def _effort(self, cell: Cell) -> tuple[Arrays, Arrays, float]:
        base = self.base(cell)
        efforts, seconds = self._shelf_of(cell).arrays(
            "effort", lambda: {"effort": backend.efforts(base, self.data.pool)}
        )
        return {**efforts, "gradient_norm": efforts["effort"]}, {}, seconds

    def _early(self, cell: Cell) -> tuple[Arrays, Arrays, float]:
        shelf = self._shelf("surrogate", "early")
        norms, seconds = shelf.arrays("early", lambda: features.of_early_training(self._inputs(cell))[0])
        return norms, {}, seconds

    def _user(self, cell: Cell) -> tuple[Arrays, Arrays, float]:
        _, trained_s = self.surrogate(cell.surrogate)
        started = time.process_time()
        states, _ = features.of_users(self._inputs(cell))
        return states, {}, trained_s + time.process_time() - started

    def _hidden(self, cell: Cell) -> tuple[Arrays, Arrays, float]:
        def make() -> Arrays:
            pool, aims = features.of_hidden_states(self._inputs(cell))
            return {"pool": pool["hidden"], "aims": aims["hidden"]}

        states, seconds = self._shelf_of(cell, "aims").arrays("hidden", make)
        names = ("hidden", "vector", "text")
        return dict.fromkeys(names, states["pool"]), dict.fromkeys(names, states["aims"]), seconds

    def _gradient(self, cell: Cell) -> tuple[Arrays, Arrays, float]:
        def make() -> Arrays:
            both = zip(("pool", "aims"), features.of_gradients(self._inputs(cell)), strict=True)
            return {f"{side}.{name}": part for side, parts in both for name, part in parts.items() if "." in name}

        parts, seconds = self._shelf_of(cell, "aims", "gradient_width").arrays("gradient", make)
        return _joined(parts, "pool."), _joined(parts, "aims."), seconds

    def _adam_gradient(self, cell: Cell) -> tuple[Arrays, Arrays, float]:
        shelf = self._shelf_of(cell, "gradient_width")
        parts, seconds = shelf.arrays("adam-gradient", lambda: features.of_adam_gradients(self._inputs(cell))[0])
        return parts, {}, seconds

    def _cheap(self, source: Source) -> Callable[[Cell], tuple[Arrays, Arrays, float]]:
        """A source whose features are made for every cell, at no cost worth counting."""
        return lambda cell: (*source(self._inputs(cell)), 0.0)

    def _inputs(self, cell: Cell) -> FeatureInputs:
        data, config = self.data, self.config
        return FeatureInputs(
            train=data.pool,
            recent=data.recent,
            aims=data.recent.tail(config.aims),
            catalogue=lambda: data.catalogue,
            counts=lambda: data.counts,
            base=lambda: self.base(cell),
            surrogate=lambda: (self._network(cell), data.catalogue.item_ids),
            surrogate_config=config.surrogate,
            seed=config.seed,
            device=backends.CPU,
            early_seed=config.seed + 1,
            width=config.gradient_width,
            early=config.early,
        )

    def _network(self, cell: Cell) -> Any:
        """The cell's surrogate; None where its method asks only for the items that a surrogate would know."""
        return None if cell.surrogate == "none" else self.surrogate(cell.surrogate)[0]

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

    def _scored(self, pool: Arrays) -> pl.DataFrame:
        """The pool's features; influence and effort are zero where the method does not ask for them."""
        zeros = np.zeros(len(self.data.pool))
        return selection.with_features(
            self.data.pool.select(schema.SAMPLE_ID), {"influence": zeros, "effort": zeros, **pool}
        )

    def _sequences(self, samples: pl.DataFrame) -> Sequences:
        return encode(samples, self.data.catalogue.item_ids)

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


def _joined(parts: Arrays, side: str) -> Arrays:
    """'gradient.<n>' of each matrix on one side, and 'gradient' of all matrices together."""
    layers = {name.removeprefix(side): parts[name] for name in sorted(parts) if name.startswith(side)}
    return {"gradient": np.concatenate(list(layers.values()), axis=1), **layers}


def _short(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12]
