"""Makes what cells share (bases, surrogates, scores, features), each once, and runs one cell."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dealrec_core import influence, schema
from dealrec_core.coreset import projection, selection, traits
from dealrec_core.coreset.methods import NEEDS
from dealrec_core.samples.sequences import Sequences, encode
from dealrec_core.study import backends
from dealrec_core.study.config import Cell, StudyConfig
from dealrec_core.study.data import StudyData
from dealrec_core.study.shelf import Shelf
from dealrec_core.surrogate import checkpoint, early
from dealrec_core.surrogate.training import train as train_surrogate

Arrays = dict[str, np.ndarray]
TAKEN = {"fine_tune": {"lora", "validation_examples"}, "bigrec": {"prompt", "history_length"}}
"""What bases and features take of a section that holds more."""


@dataclass(frozen=True)
class Found:
    """A finished cell: values per user, and its facts."""

    per_user: pl.DataFrame
    facts: dict[str, Any]


@dataclass(frozen=True)
class Features:
    """What a method asked for, of the pool and of the aims, and the CPU seconds that it costs."""

    pool: Arrays
    aims: Arrays
    seconds: float


@dataclass
class Workshop:
    """One data set's shared things."""

    data: StudyData
    config: StudyConfig
    _backends: dict[str, Any] = field(default_factory=dict)

    def run(self, cell: Cell) -> Found:
        """Selects, tunes and evaluates."""
        variant = self.config.variant(cell.method)
        features = self.features(cell)
        started = time.process_time()
        chosen = selection.select(
            self._scored(features.pool),
            self.config.selection(cell),
            seed=cell.seed,
            by=variant.method,
            reference=features.aims,
        )
        select_seconds = time.process_time() - started
        backend = self.backend(cell.backend)
        backend.prepare()  # the shared base is no cost of this cell
        rows = self.data.pool.join(chosen.frame, on=schema.SAMPLE_ID, how="semi").sort(schema.SAMPLE_ID)
        started = time.process_time()
        tuned = backend.tune(rows, cell.seed)
        tuning_seconds = time.process_time() - started
        started = time.process_time()
        per_user = backends.judged(tuned, self.data, self.config)
        facts = {
            **chosen.report,
            "selection_s": round(features.seconds + select_seconds, 2),
            "tuning_s": round(tuning_seconds, 2),
            "evaluation_s": round(time.process_time() - started, 2),
            "tokens": int(tuned.tokens),
            "flops": float(tuned.flops),
            "coreset": sha256("".join(rows[schema.SAMPLE_ID]).encode()).hexdigest()[:16],
            **{
                metric: float(per_user[metric].to_numpy().mean())
                for metric in ("recall", "ndcg", "mrr", "log_likelihood")
            },
        }
        return Found(per_user, facts)

    def backend(self, name: str) -> Any:
        """The backend of that name, made once."""
        if name not in self._backends:
            told = {
                "bigrec": ["language_model", "bigrec"],
                "tiger": ["semantic_ids", "tiger", "pretraining_epochs", "fine_tune"],
                "proxy": ["language_model", "bigrec"],
            }[name]
            self._backends[name] = backends.build(name, self.data, self.config, self._shelf(*told))
        return self._backends[name]

    def features(self, cell: Cell) -> Features:
        """Everything that the cell's method asks for."""
        needs = NEEDS[self.config.variant(cell.method).method]
        pool: Arrays = {}
        aims: Arrays = {}
        seconds = 0.0
        for name in dict.fromkeys(_source(need) for need in needs):
            of_pool, of_aims, spent = self._sources[name](cell)
            seconds += spent
            pool |= of_pool
            aims |= of_aims

        def wanted(found: Arrays) -> Arrays:
            return {key: values for key, values in found.items() if _asked(key, needs)}

        return Features(wanted(pool), wanted(aims), seconds)

    @property
    def _sources(self) -> Mapping[str, Callable[[Cell], tuple[Arrays, Arrays, float]]]:
        return {
            "influence": self._influence,
            "effort": self._effort,
            "early": self._early,
            "user": self._user,
            "hidden": self._hidden,
            "gradient": self._gradient,
            "adam_gradient": self._adam_gradient,
            "traits": self._traits,
            "item": self._item,
        }

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

        folder = shelf.kept(f"surrogate-{network}", make)
        return checkpoint.load(folder)[0], shelf.seconds(f"surrogate-{network}")

    def _influence(self, cell: Cell) -> tuple[Arrays, Arrays, float]:
        settings = self.config.influence_of(cell)
        name = f"influence-{cell.surrogate}-{_short(settings.model_dump_json())}"
        model, trained_s = self.surrogate(cell.surrogate)

        def make() -> Arrays:
            train = self._sequences(self.data.pool)
            risk = train if settings.risk == "train" else self._sequences(self.data.recent)
            return {"influence": influence.score(model, train, risk, config=settings, seed=self.config.seed).scores}

        found, seconds = self._shelf("surrogate").arrays(name, make)
        return found, {}, trained_s + seconds

    def _effort(self, cell: Cell) -> tuple[Arrays, Arrays, float]:
        backend = self.backend(cell.backend)
        name = f"effort-{_base_of(cell)}"
        found, seconds = self._of_base(cell, "effort").arrays(name, lambda: {"effort": backend.effort(self.data.pool)})
        return {**found, "gradient_norm": found["effort"]}, {}, seconds

    def _early(self, cell: Cell) -> tuple[Arrays, Arrays, float]:
        def make() -> Arrays:
            return early.norms(
                self._sequences(self.data.pool),
                self._sequences(self.data.recent),
                item_count=len(self.data.catalogue),
                surrogate=self.config.surrogate,
                config=self.config.early,
                seed=self.config.seed + 1,
            )

        found, seconds = self._shelf("surrogate", "early").arrays("early", make)
        return found, {}, seconds

    def _user(self, cell: Cell) -> tuple[Arrays, Arrays, float]:
        model, seconds = self.surrogate(cell.surrogate)
        started = time.process_time()
        found = early.states(model, self._sequences(self.data.pool))
        return {"user": found}, {}, seconds + time.process_time() - started

    def _hidden(self, cell: Cell) -> tuple[Arrays, Arrays, float]:
        backend = self.backend(cell.backend)

        def make() -> Arrays:
            return {"pool": backend.hidden(self.data.pool), "aims": backend.hidden(self._aims)}

        found, seconds = self._of_base(cell, "aims").arrays(f"hidden-{_base_of(cell)}", make)
        alike = ("hidden", "vector", "text")
        return dict.fromkeys(alike, found["pool"]), dict.fromkeys(alike, found["aims"]), seconds

    def _gradient(self, cell: Cell) -> tuple[Arrays, Arrays, float]:
        backend, told = self.backend(cell.backend), {"width": self.config.gradient_width, "seed": self.config.seed}

        def make() -> Arrays:
            pool = projection.projected(backend.gradients(self.data.pool), len(self.data.pool), **told)
            aims = projection.projected(backend.gradients(self._aims), len(self._aims), **told)
            numbered = [(f"pool.{place:03d}", part) for place, part in enumerate(pool)]
            return dict([*numbered, *((f"aims.{place:03d}", part) for place, part in enumerate(aims))])

        found, seconds = self._of_base(cell, "aims", "gradient_width", "effort").arrays(
            f"gradient-{_base_of(cell)}", make
        )
        return _layered(found, "pool"), _layered(found, "aims"), seconds

    def _adam_gradient(self, cell: Cell) -> tuple[Arrays, Arrays, float]:
        backend, told = self.backend(cell.backend), {"width": self.config.gradient_width, "seed": self.config.seed}
        some = self.data.pool.sample(min(512, len(self.data.pool)), seed=self.config.seed)

        def make() -> Arrays:
            parts = projection.adam_projected(
                lambda: backend.gradients(self.data.pool),
                lambda: backend.gradients(some),
                len(self.data.pool),
                **told,
            )
            return {"adam_gradient": np.concatenate(parts, axis=1)}

        found, seconds = self._of_base(cell, "gradient_width", "effort").arrays(f"adam-gradient-{_base_of(cell)}", make)
        return found, {}, seconds

    def _traits(self, cell: Cell) -> tuple[Arrays, Arrays, float]:
        return traits.of(self.data.pool, self.data.catalogue, self.data.counts), {}, 0.0

    def _item(self, cell: Cell) -> tuple[Arrays, Arrays, float]:
        number = {item: place for place, item in enumerate(self.data.catalogue.item_ids)}

        def numbered(samples: pl.DataFrame) -> Arrays:
            return {"item": np.array([number[item] for item in samples[schema.ITEM_ID]])}

        return numbered(self.data.pool), numbered(self.data.recent), 0.0

    @property
    def _aims(self) -> pl.DataFrame:
        return self.data.recent.tail(self.config.aims)

    def _scored(self, pool: Arrays) -> pl.DataFrame:
        zeros = np.zeros(len(self.data.pool))
        columns = {"influence": zeros, "effort": zeros, **pool}
        series = [
            pl.Series(name, values)
            if values.ndim == 1
            else pl.Series(name, values, dtype=pl.Array(pl.Float32, values.shape[1]))
            for name, values in columns.items()
        ]
        return pl.DataFrame([self.data.pool[schema.SAMPLE_ID], *series])

    def _sequences(self, samples: pl.DataFrame) -> Sequences:
        return encode(samples, self.data.catalogue.item_ids)

    def _of_base(self, cell: Cell, *sections: str) -> Shelf:
        own = ["semantic_ids", "tiger", "pretraining_epochs", "fine_tune"]
        return self._shelf(*(own if cell.backend == "tiger" else ["language_model", "bigrec", "fine_tune"]), *sections)

    def _shelf(self, *sections: str) -> Shelf:
        """The folder of things that depend on the data set, the seed and these settings, not on which users are judged."""
        included: dict[str, Any] = {"seed": True, **{section: TAKEN.get(section, True) for section in sections}}
        described = self.config.model_dump_json(include=included)
        described += self.config.datasets[self.data.name].model_dump_json(exclude={"users"})
        return Shelf(Path(self.config.folder) / "shared" / _short(described))


def _source(need: str) -> str:
    sources = {
        "early": ("el2n", "grand"),
        "hidden": ("hidden", "vector", "text"),
        "gradient": ("gradient", "layer_gradients"),
        "effort": ("effort", "gradient_norm"),
        "traits": ("category", "popularity", "recency", "history_length", "owner"),
    }
    return next((source for source, names in sources.items() if need in names), need)


def _asked(name: str, needs: tuple[str, ...]) -> bool:
    return name in needs or (name.startswith("gradient.") and "layer_gradients" in needs)


def _layered(found: Arrays, which: str) -> Arrays:
    """'gradient' of all matrices together, and 'gradient.<n>' of each."""
    parts = [found[name] for name in sorted(found) if name.startswith(which)]
    return {"gradient": np.concatenate(parts, axis=1), **{f"gradient.{n:03d}": part for n, part in enumerate(parts)}}


def _base_of(cell: Cell) -> str:
    """The proxy asks BIGRec's base."""
    return "tiger" if cell.backend == "tiger" else "bigrec"


def _short(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12]
