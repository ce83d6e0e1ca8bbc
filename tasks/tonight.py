"""Tonight gives a stage its inputs. Every table, model and record is read when it is first needed, and only once."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import torch

from dealrec_core import schema
from dealrec_core.errors import DataError, OtherFormat
from dealrec_core.lake import Lake
from dealrec_core.lake.nights import Night, Snapshot, reopen
from dealrec_core.language import bases
from dealrec_core.language.device import device
from dealrec_core.recommenders import bundle
from dealrec_core.recommenders.backend import BASE, Backend, OpenedBase, build, usable_champion
from dealrec_core.samples import calibration, items, split
from dealrec_core.samples.calibration import Priors
from dealrec_core.samples.items import Catalogue
from dealrec_core.samples.split import Boundaries, Split
from dealrec_core.settings import Config
from dealrec_core.surrogate import checkpoint
from dealrec_core.surrogate.recommender import SurrogateRecommender
from tasks import storage

LOG_COLUMNS = [schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.EVENT_ID]
FEWEST = 100
"""Users whom no model has learnt about, below which a calibration is fitted on all users of the validation slice."""


@dataclass(frozen=True)
class Tonight:
    """The inputs of one night's stages, as its manifest and its records fix them."""

    night: Night

    @property
    def config(self) -> Config:
        """The night's settings."""
        return self.night.config

    @property
    def lake(self) -> Lake:
        """The night's lake."""
        return self.night.lake

    @cached_property
    def device(self) -> torch.device:
        """The device that the settings ask for; auto takes a GPU when there is one."""
        return device(self.config.run.device)

    def folder(self, stage: str) -> Path:
        """A checked local copy of the folder that a finished stage has published."""
        return self.local_copy(self.night.need(stage))

    def local_copy(self, record: Snapshot) -> Path:
        """A checked local copy of the folder that a stage of some night has recorded."""
        return storage.local_copy(self.lake, str(record.path), home=self.config.run.home, sha256=record.sha256)

    def checkpoints(self, stage: str) -> Path:
        """Where a stage keeps its checkpoints on this machine."""
        return Path(self.config.run.home) / "checkpoints" / self.night.name / stage

    def drop_checkpoints(self, stage: str) -> None:
        """Removes the checkpoints of a stage once its result is published."""
        shutil.rmtree(self.checkpoints(stage), ignore_errors=True)

    @cached_property
    def boundaries(self) -> Boundaries:
        """The moments that split this night's log and samples."""
        facts = self.night.need("samples").facts
        return Boundaries(**{name: datetime.fromisoformat(str(facts[name])) for name in Boundaries.model_fields})

    @cached_property
    def served(self) -> "Tonight":
        """Tonight once the gate has decided: nothing is held out any more, and what was is the newest slice."""
        now, after = self.boundaries, Tonight(self.night)
        after.__dict__["boundaries"] = Boundaries(validation_start=now.test_start, test_start=now.end, end=now.end)
        after.__dict__["log"] = self.log
        return after

    @cached_property
    def log(self) -> pl.DataFrame:
        """User, item, time and event id of every interaction, the held-out slice too."""
        return self._scan("ingest").select(LOG_COLUMNS).collect()

    @cached_property
    def items_seen(self) -> pl.DataFrame:
        """Item and time of every interaction before the held-out slice."""
        log = self.log.lazy() if "log" in self.__dict__ else self._scan("ingest")
        before = log.filter(pl.col(schema.TIMESTAMP) < self.boundaries.test_start)
        return before.select(schema.ITEM_ID, schema.TIMESTAMP).collect()

    @cached_property
    def item_counts(self) -> dict[str, float]:
        """Interactions of each item before the held-out slice, most first, ties by item id."""
        return items.interaction_counts(self.items_seen.lazy())

    @cached_property
    def train_counts(self) -> dict[str, float]:
        """Interactions of each item before the validation slice, most first, ties by item id."""
        before = pl.col(schema.TIMESTAMP) < self.boundaries.validation_start
        return items.interaction_counts(self.items_seen.lazy().filter(before))

    @cached_property
    def titles(self) -> pl.DataFrame:
        """The table of items (ITEMS), sorted by item id; empty where the sources name no items."""
        version = int(self.night.need("ingest").facts["items version"] or 0)
        if version < 0:
            return pl.DataFrame(schema=schema.ITEMS)
        return self.night.scan("items", version).collect().sort(schema.ITEM_ID)

    @cached_property
    def known_catalogue(self) -> Catalogue:
        """Items with an interaction before the held-out slice, ordered by their first one."""
        return items.catalogue(self.titles.join(self.items_seen, on=schema.ITEM_ID, how="semi"), self.items_seen)

    @cached_property
    def full_catalogue(self) -> Catalogue:
        """Every item of the table of items and of the log before the held-out slice: what may be recommended."""
        return items.catalogue(self.titles, self.items_seen)

    @cached_property
    def train(self) -> pl.DataFrame:
        """Tonight's train samples (SAMPLES), sorted by sample_id: the lake promises no order."""
        return self._samples("train")

    @cached_property
    def validation(self) -> pl.DataFrame:
        """Tonight's validation samples (SAMPLES), sorted by sample_id."""
        return self._samples("validation")

    @cached_property
    def aimed_at(self) -> pl.DataFrame:
        """The validation samples that a choice of samples may aim at: all but those kept back, by which the choice is judged."""
        others = self.validation.filter(~split.kept_back())
        return self.validation if others.is_empty() else others

    @cached_property
    def cases(self) -> pl.DataFrame:
        """The held-out users: history before the held-out slice, and everything they took in it."""
        length, users, seed = self.config.samples.history_length, self.config.evaluation.users, self.config.run.seed
        return split.cases(self.log.lazy(), self.boundaries, history_length=length, users=users, seed=seed)

    def cases_since(self, moment: datetime) -> pl.DataFrame:
        """Those of the held-out users who took something from a moment on, with only these targets."""
        taken = self.log.lazy().filter(
            pl.col(schema.TIMESTAMP) >= moment, pl.col(schema.TIMESTAMP) < self.boundaries.end
        )
        targets = (
            taken.sort(schema.USER_ID, schema.TIMESTAMP, schema.ITEM_ID)
            .group_by(schema.USER_ID)
            .agg(pl.col(schema.ITEM_ID).unique(maintain_order=True).alias("targets"))
        )
        cases = self.cases.drop("targets").lazy().join(targets, on=schema.USER_ID)
        return cases.sort(schema.USER_ID).collect()

    @cached_property
    def validation_cases(self) -> pl.DataFrame:
        """Users of the validation slice, as `cases` shows those of the held-out slice; at most `evaluation.calibration_users`.

        Without what tonight's model may learn of the slice, since a calibration fitted on it would trust the model too much, unless that
        leaves fewer than `FEWEST` users: then no calibration would be sure of itself.
        """
        bounds, count = self.boundaries, self.config.evaluation.calibration_users
        shifted = bounds.model_copy(update={"test_start": bounds.validation_start, "end": bounds.test_start})
        length, seed = self.config.samples.history_length, self.config.run.seed
        learnable = self.validation.lazy().filter(~split.kept_back())
        log = self.log.lazy().join(learnable, on=[schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP], how="anti")
        with suppress(DataError):
            cases = split.cases(log, shifted, history_length=length, users=count, seed=seed)
            if len(cases) >= min(FEWEST, count):
                return cases
        return split.cases(self.log.lazy(), shifted, history_length=length, users=count, seed=seed)

    def priors(self, now: datetime) -> Priors:
        """The priors of all items at a moment, by half-lives in lengths of the validation slice."""
        facts, learnt = self.night.need("samples").facts, self.boundaries.validation_start
        start, end = (datetime.fromisoformat(str(facts[name])) for name in ("validation_start", "test_start"))
        length = end - start
        items = self.full_catalogue.item_ids
        return calibration.priors(self.items_seen, items, trained_until=learnt, now=now, length=length)

    @cached_property
    def surrogate(self) -> tuple[Any, list[str]]:
        """Tonight's surrogate on the device of the settings, and the item id of each row of its table."""
        return self.load_surrogate(self.night.need("surrogate"))

    def surrogate_recommender(self, popular: Sequence[str] = ()) -> SurrogateRecommender:
        """Tonight's surrogate as a recommender, with its calibration; popular: its answer to an empty history."""
        calibrated = checkpoint.load_calibration(self.folder("surrogate"))
        return SurrogateRecommender(*self.surrogate, popular=popular, calibration=calibrated)

    def load_surrogate(self, record: Snapshot) -> tuple[Any, list[str]]:
        """The surrogate that a night's record names, with the item ids of its table."""
        model, item_ids, _ = checkpoint.load(self.local_copy(record), device=str(self.device))
        return model, item_ids

    @cached_property
    def champion_folder(self) -> Path | None:
        """The champion's bundle; None without a champion, or where its bundle has a format that no longer counts."""
        with suppress(OtherFormat):
            if champion := self.night.manifest.champion:
                night = reopen(champion.night, self.lake)
                records = [record for stage in ("fine_tune", "refit") if (record := night.find(stage)) is not None]
                sha256 = next((record.sha256 for record in records if record.path == champion.bundle), None)
                folder = storage.local_copy(self.lake, champion.bundle, home=self.config.run.home, sha256=sha256)
                _require_base(folder, night)
                return folder
        return None

    @cached_property
    def candidate_folder(self) -> Path:
        """The bundle of tonight's model."""
        folder = self.folder("fine_tune")
        _require_base(folder, self.night)
        return folder

    @cached_property
    def served_folder(self) -> Path:
        """The bundle that is served where tonight's model is promoted: refitted, where the gate promotes it."""
        folder = self.folder("refit" if self.night.find("refit") else "fine_tune")
        _require_base(folder, self.night)
        return folder

    @cached_property
    def usable_champion(self) -> Path | None:
        """The champion's bundle where tonight's backend tuned it from tonight's base model, else None."""
        sha256 = str(self.night.need("base_model").sha256)
        return usable_champion(self.champion_folder, name=self.backend.name, base_sha256=sha256)

    @cached_property
    def backend(self) -> Backend:
        """The kind of recommender that is tuned, by tonight's settings."""
        name, settings = self.config.recommender.backend, self.config.algorithms
        return build(name, settings, device=self.device, seed=self.config.run.seed)

    @cached_property
    def base(self) -> OpenedBase:
        """Tonight's base model; it is loaded when the first question needs it."""
        record = self.night.need("base_model")
        location = self._outside(record) if record.path is None else self.folder("base_model")
        return self.backend.open(location, self.full_catalogue, champion=self.usable_champion)

    def _outside(self, record: Snapshot) -> str:
        """The name of a base model from outside, once it is the one that the night recorded."""
        base = bases.locate(str(record.facts["base model"]))
        if base.sha256 != record.sha256:
            had = f"base model '{base.name}' has sha256 {base.sha256[:12]}, night {self.night.name} has recorded"
            raise DataError(f"{had} {str(record.sha256)[:12]}; put that model back, or start another night")
        return base.name

    @cached_property
    def coreset(self) -> pl.DataFrame:
        """Tonight's chosen samples (SAMPLES), sorted by sample_id."""
        chosen = self.rows("coreset").select(schema.SAMPLE_ID)
        return self.train.join(chosen, on=schema.SAMPLE_ID, how="semi").sort(schema.SAMPLE_ID)

    @cached_property
    def per_user(self) -> pl.DataFrame:
        """Recall, NDCG and MRR of every recommender (EVALUATIONS); users in one order for every recommender."""
        return self.rows("evaluation").sort("recommender", schema.USER_ID)

    def rows(self, stage: str) -> pl.DataFrame:
        """The rows that a stage has written about tonight: those of its table with the night's name."""
        return self._scan(stage).filter(pl.col(schema.NIGHT) == self.night.name).collect()

    def replace_rows(self, table: str, frame: pl.DataFrame, expected: pl.Schema) -> int:
        """Puts a frame in the place of tonight's rows of a table; returns the table's version. A killed stage does it once."""
        name = self.night.name
        named = frame.with_columns(pl.lit(name).alias(schema.NIGHT)).select(expected.names())
        where = f"{schema.NIGHT} = '{name}'"
        return self.lake.replace(table, named, schema=expected, where=where, transaction=(name, 1))

    def _scan(self, stage: str) -> pl.LazyFrame:
        record = self.night.need(stage)
        return self.night.scan(str(record.table), record.version)

    def _samples(self, which: Split) -> pl.DataFrame:
        table = self._scan("samples").select(schema.SAMPLES.names())
        part = split.split(table, self.boundaries, which, self.config.samples.mode)
        return part.sort(schema.SAMPLE_ID).collect()


def _require_base(folder: Path, night: Night) -> None:
    """Lets a bundle through whose base model is the one that its night has recorded.

    Raises:
        OtherFormat: it was written by an earlier or later version of this program.
        DataError: it names another base.
    """
    record, named = night.find("base_model"), bundle.description(folder)["lineage"].get(BASE)
    if record is not None and named != record.sha256:
        message = f"{folder} was tuned from base model {str(named)[:12]}, its night has recorded"
        raise DataError(f"{message} {str(record.sha256)[:12]}; fine-tune again")
