"""The backends by name, what a night and a study ask of each, and the rules about bases and champions that all follow.

A backend is a kind of recommender with its settings. It has `name`, `base_name` (the name, folder or hub name of its
base), `base_key` (texts over all settings that a built base depends on; None where the base comes from outside),
`outside_key` (texts that change with the weights of such a base), `effort_key` (texts over all settings, beside the
base, that effort depends on), `prepare` and `open`. `Tuned.recommender` is saved by `bundle.save`.

An opened base is on a catalogue. Its model is loaded when it is first needed, and once; it pickles without the model.
Questions share the model: an iterator of `gradients` must end before the next one. `tune` changes the model, which is
loaded anew for the next question; a killed tuning continues from its `checkpoint_folder` to equal bits.
"""

from pathlib import Path

import numpy as np
import polars as pl
import torch

from dealrec_core import schema
from dealrec_core.coreset.projection import Gradients
from dealrec_core.errors import OtherFormat, SettingsError
from dealrec_core.language import batch_tokens, effort
from dealrec_core.language.answer_loss import Losses
from dealrec_core.language.memory import with_fewer_tokens
from dealrec_core.recommenders import bundle
from dealrec_core.recommenders.bigrec import BIGRec
from dealrec_core.recommenders.bigrec_backend import BIGRecBackend, OpenedLanguageModel
from dealrec_core.recommenders.tiger import Tiger
from dealrec_core.recommenders.tiger_backend import OpenedTiger, TigerBackend
from dealrec_core.recommenders.tuned import ItemStatistics, Tuned
from dealrec_core.settings.tree import Algorithms

__all__ = ["BASE", "Backend", "ItemStatistics", "OpenedBase", "Tuned", "build", "older_half", "usable_champion"]

Backend = BIGRecBackend | TigerBackend
OpenedBase = OpenedLanguageModel | OpenedTiger
BACKENDS: dict[str, type[Backend]] = {"bigrec": BIGRecBackend, "tiger": TigerBackend}
BASE = bundle.TUNED_FROM
LIKELIHOOD_TOKENS = 8192
"""Most tokens of a batch where likelihoods are computed, without gradients."""


def build(name: str, settings: Algorithms, *, device: torch.device, seed: int) -> Backend:
    """The backend of that name.

    Raises:
        SettingsError: there is none of that name.
    """
    if name not in BACKENDS:
        raise SettingsError(f"no backend '{name}'; there are {', '.join(BACKENDS)}")
    return BACKENDS[name](settings, device, seed)


def efforts(opened: OpenedBase, samples: pl.DataFrame) -> np.ndarray:
    """The gradient norm of each sample's loss, float64 (N,), by the base or by the champion (`effort.model`).

    Raises:
        NotFinite: a norm is NaN or infinite; the message names the sample.
    """
    config = opened.settings.effort
    with opened.adapted(opened.champion if config.model == "champion" else None) as model:
        sample_ids = samples[schema.SAMPLE_ID].to_list()

        def norms(most: int) -> np.ndarray:
            losses = _losses(opened, model, samples, most)
            return effort.norms(model, losses, sample_ids, parameters=config.parameters)

        return with_fewer_tokens(_most_tokens(opened, model), norms)


def gradients(opened: OpenedBase, samples: pl.DataFrame) -> Gradients:
    """Yields the per-sample gradients of the base with a fresh adapter."""
    with opened.adapted(None) as model:
        losses = _losses(opened, model, samples, _most_tokens(opened, model))
        yield from effort.gradients(model, losses, parameters=opened.settings.effort.parameters)


def _losses(opened: OpenedBase, model: torch.nn.Module, samples: pl.DataFrame, most: int) -> Losses:
    return opened.losses(model, samples, batch_tokens=most, prompts_too=opened.settings.effort.tokens == "all")


def _most_tokens(opened: OpenedBase, model: torch.nn.Module) -> int:
    return batch_tokens.resolve(opened.settings.effort.batch_tokens, model, most=effort.MOST_TOKENS)


@torch.no_grad()
def log_likelihoods(opened: OpenedBase, recommender: BIGRec | Tiger, samples: pl.DataFrame) -> np.ndarray:
    """The mean log-probability of a token of each sample's target by a tuned recommender, float64 (N,)."""
    likelihoods = np.empty(len(samples))
    for rows, batch in opened.losses(recommender.model.eval(), samples, batch_tokens=LIKELIHOOD_TOKENS):
        likelihoods[rows] = -batch.cpu().numpy()
    return likelihoods


def older_half(train: pl.DataFrame) -> pl.DataFrame:
    """The samples up to the median time: the base may know the past, recent samples are left to fine-tuning."""
    return train.filter(pl.col(schema.TIMESTAMP) <= pl.col(schema.TIMESTAMP).median())


def usable_champion(folder: Path | None, *, name: str, base_sha256: str) -> Path | None:
    """The bundle of the model in charge, where it was tuned by the backend of that name from this base; else None.

    A bundle of another format counts as none.

    Raises:
        DataError: the bundle is torn.
    """
    if folder is None:
        return None
    try:
        described = bundle.description(folder)
    except OtherFormat:
        return None
    fits = described["kind"] == name and described["lineage"].get(BASE) == base_sha256
    return folder if fits else None
