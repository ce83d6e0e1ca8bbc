"""Makes what cells share (bases, surrogates, scores, features), each once, and runs one cell."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial, reduce
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch

from dealrec_core import influence, schema
from dealrec_core.coreset import selection
from dealrec_core.coreset.methods import NEEDS
from dealrec_core.language import whole
from dealrec_core.language.device import device
from dealrec_core.recommenders import backend, features
from dealrec_core.recommenders.backend import Backend, OpenedBase
from dealrec_core.recommenders.features import Arrays, FeatureInputs
from dealrec_core.samples.sequences import encode
from dealrec_core.study import backends
from dealrec_core.study.config import Cell, StudyConfig
from dealrec_core.study.data import StudyData
from dealrec_core.study.fingerprints import BASE, FORMAT, asked, sections_of
from dealrec_core.surrogate import checkpoint
from dealrec_core.surrogate.training import train as train_surrogate

ARRAYS, SECONDS = "arrays.npz", "seconds.json"


SHELVED = (
    ("el2n", "grand"),
    ("effort", "gradient_norm"),
    ("hidden", "vector", "text"),
    ("gradient", "layer_gradients"),
    ("adam_gradient",),
)
"""Features that are made once for all cells; the others are cheap, or are kept in a way of their own (influence)."""


class Spent(NamedTuple):
    """Seconds by the clock and of the CPU that a computation took; work of a GPU is not in the second."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def plus(self, other: "Spent") -> "Spent":
        """Both together."""
        return Spent(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s)


@contextmanager
def timed(spent: list[Spent]) -> Iterator[None]:
    """Adds what the block takes to the list."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    spent.append(Spent(time.perf_counter() - wall, time.process_time() - cpu))


def total(spent: Iterable[Spent]) -> Spent:
    """The sum."""
    return reduce(Spent.plus, spent, Spent())


@dataclass(frozen=True)
class Shelf:
    """A folder of finished things. A kill while one is made leaves nothing of it behind under its name."""

    folder: Path

    def arrays(self, name: str, make: Callable[[], Mapping[str, np.ndarray]]) -> tuple[dict[str, np.ndarray], Spent]:
        """The arrays of that name and what making them took."""
        place = self.folder_of(name, lambda folder: np.savez(folder / ARRAYS, **make()))  # type: ignore[arg-type]
        with np.load(place / ARRAYS) as file:
            return {key: file[key] for key in file.files}, self.spent(name)

    def folder_of(self, name: str, make: Callable[[Path], Any]) -> Path:
        """The folder of that name, filled by `make` when it is not there yet."""
        place = self.folder / name
        if not place.exists():
            with whole.folder(place) as part:
                spent: list[Spent] = []
                with timed(spent):
                    make(part)
                (part / SECONDS).write_text(json.dumps([round(seconds, 2) for seconds in spent[0]]), encoding="utf-8")
        return place

    def spent(self, name: str) -> Spent:
        """Time that the computation of this name took."""
        return Spent(*json.loads((self.folder / name / SECONDS).read_text(encoding="utf-8")))


@dataclass
class Workshop:
    """The shared things of one data set, and its cells."""

    data: StudyData
    config: StudyConfig
    _opened: dict[str, OpenedBase] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """The device that computes."""
        return device(self.config.device)

    def run(self, cell: Cell) -> tuple[pl.DataFrame, dict[str, Any]]:
        """Selects, tunes and evaluates; returns the values of each user, and the facts of the cell."""
        selecting, tuning, evaluating = list[Spent](), list[Spent](), list[Spent]()
        pool, aims = self.features(cell, selecting)
        zeros = np.zeros(len(self.data.pool))  # of influence and effort where the method does not ask for them
        with timed(selecting):
            samples = self.data.pool.select(schema.SAMPLE_ID)
            chosen = selection.select(
                selection.with_features(samples, {"influence": zeros, "effort": zeros, **pool}),
                self.config.selection(cell),
                seed=cell.seed,
                by=self.config.variant(cell.method).method,
                reference=aims,
            )
        rows = self.data.pool.join(chosen.frame, on=schema.SAMPLE_ID, how="semi").sort(schema.SAMPLE_ID)
        tune = self._tuning(cell)
        with timed(tuning):
            model = tune(rows, data=self.data, config=self.config, seed=cell.seed)
        with timed(evaluating):
            per_user = backends.measured(model, self.data, self.config)
        parts = {"selection": selecting, "tuning": tuning, "evaluation": evaluating}
        seconds = {
            f"{name}_{key}": value for name, spent in parts.items() for key, value in total(spent)._asdict().items()
        }
        facts = {
            **chosen.report,
            **{name: round(value, 2) for name, value in seconds.items()},
            "device": self.device.type,
            "tokens": int(model.tokens),
            "flops": float(model.flops),
            "coreset": sha256("".join(rows[schema.SAMPLE_ID]).encode()).hexdigest()[:16],
            **{metric: float(per_user[metric].to_numpy().mean()) for metric in per_user.columns[1:]},
        }
        return per_user, facts

    def _tuning(self, cell: Cell) -> Callable[..., backends.CellModel]:
        """The function that tunes the cell's model; the shared base is made here and costs the cell nothing."""
        if cell.backend == backends.PROXY:
            return backends.tuned_proxy
        return partial(backends.tuned, cell.backend, self._base(backends.build(cell.backend, self.config)))

    def features(self, cell: Cell, spent: list[Spent]) -> tuple[Arrays, Arrays]:
        """Features of the pool and of the aims that the cell's method needs, by name; their cost is added to `spent`."""
        names = [("influence",), ("effort", "gradient_norm"), *features.SOURCES]
        sources = {features_of: partial(self._source, cell, features_of, spent) for features_of in names}
        needs = set(NEEDS[self.config.variant(cell.method).method])
        return features.features(needs, self._inputs(cell), sources)

    def _source(
        self, cell: Cell, names: tuple[str, ...], spent: list[Spent], inputs: FeatureInputs
    ) -> tuple[Arrays, Arrays]:
        """The features that are computed together, from shared files where another cell has asked before; adds their cost."""
        if names == ("influence",):
            scores, took = self._influence(cell)
            spent.append(took)
            return scores, {}
        if names in SHELVED:
            arrays, took = self._shelf_of(cell, names).arrays(f"of-{names[0]}", lambda: _made(names, inputs))
            spent.append(took)
            return _side(arrays, "pool."), _side(arrays, "aims.")
        if names == ("user",):
            spent.append(self.surrogate(cell.surrogate)[1])
        with timed(spent):
            return features.SOURCES[names](inputs)

    def surrogate(self, network: str) -> tuple[Any, Spent]:
        """The surrogate of that network, and what its training took."""
        shelf = self._shelf("surrogate")
        settings = self.config.surrogate.model_copy(update={"network": network})

        def make(folder: Path) -> None:
            ids = self.data.catalogue.item_ids
            pool, recent = encode(self.data.pool, ids), encode(self.data.recent, ids)
            alike: dict[str, Any] = {"item_count": len(ids), "config": settings, "device": self.device}
            trained = train_surrogate(pool, recent, seed=self.config.seed, **alike)
            checkpoint.save(folder, trained.model, item_ids=ids, config=settings, lineage={"ndcg": trained.best.ndcg})

        folder = shelf.folder_of(f"surrogate-{network}", make)
        return checkpoint.load(folder, device=self.device)[0], shelf.spent(f"surrogate-{network}")

    def _influence(self, cell: Cell) -> tuple[Arrays, Spent]:
        settings = self.config.influence_of(cell)
        name = f"influence-{cell.surrogate}-{_short(settings.model_dump_json())}"
        model, training = self.surrogate(cell.surrogate)

        def make() -> Arrays:
            train, recent = (encode(part, self.data.catalogue.item_ids) for part in (self.data.pool, self.data.recent))
            risk = train if settings.risk == "train" else recent
            alike: dict[str, Any] = {"config": settings, "seed": self.config.seed, "device": self.device}
            return {"influence": influence.score(model, train, risk, **alike).scores}

        scores, scoring = self._shelf("surrogate").arrays(name, make)
        return scores, training.plus(scoring)

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
            device=self.device,
            early_seed=config.seed + 1,
            width=config.gradient_width,
            early=config.early,
        )

    def base(self, cell: Cell) -> OpenedBase:
        """The base that the cell's features come from, opened once."""
        name = asked(cell.backend)
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

    def _shelf_of(self, cell: Cell, names: tuple[str, ...]) -> Shelf:
        """The folder of features, by what they are declared to depend on; effort's own key leaves out what only costs time."""
        sections = set(sections_of(names))
        if BASE not in sections:
            return self._shelf(*sections)
        ours = backends.build(asked(cell.backend), self.config)
        base = ours.base_key() or ours.outside_key()
        return self._shelf(*sections - {BASE, "effort"}, keys=[ours.name, *base, *ours.effort_key()])

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
