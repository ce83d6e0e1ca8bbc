"""Titles that the champion, the surrogate and recent popularity recommend to one user, side by side."""

from itertools import zip_longest

import polars as pl
from pydantic import BaseModel

from dealrec_core import schema, settings
from dealrec_core.errors import DataError, SettingsError
from dealrec_core.evaluation import ranking
from dealrec_core.lake import Lake, promotions
from dealrec_core.lake.nights import Champion, nights, served_sha256
from dealrec_core.recommenders import baselines, bundle
from dealrec_core.samples.recommender import Recommender
from tasks import storage
from tasks.tonight import Tonight

CHAMPION, RECENT = "champion", "recent popularity"


class Recommended(BaseModel):
    """A history and what each recommender answers to it, as titles."""

    night: str
    """The night whose log, titles and surrogate are used."""
    history: list[str]
    lists: dict[str, list[str]]
    champion: str | None
    """Version of the model in charge, None while there is none."""

    def rows(self) -> list[dict[str, str | int]]:
        """One row a place, one column a recommender."""
        places = zip_longest(*self.lists.values(), fillvalue="")
        return [{"": place, **dict(zip(self.lists, titles, strict=True))} for place, titles in enumerate(places, 1)]


def recommend(config: str, overrides: list[str], names: list[str], *, is_history: bool, count: int) -> Recommended:
    """Returns the recommendations for a user of the log, or for a history of items, oldest first.

    Raises:
        DataError: no night has finished, or the user has no interaction.
        SettingsError: an item is not in the catalogue, or several users are named.
    """
    loaded = settings.load(config, overrides)
    lake = Lake(loaded.lake.root)
    finished = [night for night in nights(lake) if night.find("promotion") is not None]
    if not finished:
        raise DataError(f"no night in {lake.root} has finished yet; run `dealrec nightly`")
    tonight = Tonight(finished[-1]).served
    title_of = tonight.full_catalogue.title_of
    history = _known(names, title_of) if is_history else _history(tonight, names)
    champion = promotions.champion(lake)
    recent = tonight.log.filter(pl.col(schema.TIMESTAMP) >= tonight.boundaries.validation_start)
    plain = baselines.popularity(recent, name=RECENT)
    recommenders: list[Recommender] = [tonight.surrogate_recommender(popular=plain.item_ids), plain]
    if champion is not None:
        recommenders.insert(0, _champion(tonight, champion, home=loaded.run.home))
    evaluation = loaded.algorithms.evaluation.model_copy(update={"k": count})
    lists = {
        recommender.name: [title_of.get(item, item) for item in ranking.ranked(recommender, [history], evaluation)[0]]
        for recommender in recommenders
    }
    shown = [title_of.get(item, item) for item in history]
    version = champion.version if champion else None
    return Recommended(night=tonight.night.name, history=shown, lists=lists, champion=version)


def _champion(tonight: Tonight, champion: Champion, *, home: str) -> Recommender:
    folder = storage.local_copy(tonight.lake, champion.bundle, home=home, sha256=served_sha256(tonight.lake, champion))
    return bundle.load(folder, device=tonight.device, name=CHAMPION)


def _history(tonight: Tonight, names: list[str]) -> list[str]:
    if len(names) != 1:
        raise SettingsError(f"{len(names)} users are named; name one user, or items with --history")
    rows = tonight.log.filter(pl.col(schema.USER_ID) == names[0]).sort(schema.TIMESTAMP, schema.EVENT_ID)
    if rows.is_empty():
        example = tonight.log[schema.USER_ID][0]
        raise DataError(f"user '{names[0]}' has no interaction; write the id as in the log, for example '{example}'")
    items: list[str] = rows[schema.ITEM_ID].tail(tonight.config.samples.history_length).to_list()
    return items


def _known(items: list[str], title_of: dict[str, str]) -> list[str]:
    if unknown := [item for item in items if item not in title_of]:
        raise SettingsError(
            f"the catalogue has no item '{unknown[0]}'; name an item by its id, such as '{next(iter(title_of))}'"
        )
    return items
