"""Small language models for the tests of everything that needs one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dealrec_core.language import language_model
from dealrec_core.language.prompts import Example
from dealrec_core.samples.items import Catalogue
from dealrec_core.settings.language import LanguageModelConfig, PromptConfig

CPU = torch.device("cpu")
PARTS = 5
SERIES = [
    f"{first} {second}"
    for first in ("Crimson", "Silent", "Golden", "Frozen", "Hidden", "Broken")
    for second in ("Harbor", "Kingdom", "Circuit", "Garden")
]


@dataclass(frozen=True)
class SeriesWorld:
    """Users who mostly take the next part of the series they took last."""

    catalogue: Catalogue
    past: list[list[str]]
    """Item ids of each training user, oldest first."""
    cases: list[tuple[list[str], str]]
    """History and next item of other users."""
    base: Path
    """Folder of a model pretrained for a moment on the past."""
    prompt: PromptConfig

    def load(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """A fresh copy of the model."""
        return language_model.load(str(self.base), device=CPU)

    def examples(self, users: int) -> list[Example]:
        """The last step of the first `users` training users."""
        title_of = self.catalogue.title_of
        return [
            Example([title_of[item] for item in items[:-1]], title_of[items[-1]], sample_id=f"s{user}")
            for user, items in enumerate(self.past[:users])
        ]


@pytest.fixture(scope="session")
def series_world(tmp_path_factory: pytest.TempPathFactory) -> SeriesWorld:
    """24 series of 5 parts ("Crimson Harbor 1" to "Crimson Harbor 5"), 300 training users, 60 cases."""
    random = np.random.default_rng(7)
    ids = [f"{series}-{part}" for series in range(len(SERIES)) for part in range(PARTS)]
    titles = [f"{name} {part + 1}" for name in SERIES for part in range(PARTS)]
    catalogue = Catalogue(ids, titles, [[] for _ in ids])
    past = [_walk(random) for _ in range(300)]
    cases = [(walk[:-1], walk[-1]) for walk in (_walk(random) for _ in range(60))]
    prompt = PromptConfig(items="games", item="game")
    base = tmp_path_factory.mktemp("base")
    language_model.build(
        base,
        titles,
        [[catalogue.title_of[item] for item in walk] for walk in past],
        config=LanguageModelConfig(vocabulary=512, width=64, layers=2, heads=2, steps=200),
        prompt=prompt,
        seed=1,
    )
    return SeriesWorld(catalogue, past, cases, base, prompt)


def _walk(random: np.random.Generator) -> list[str]:
    """Seven items: nine times in ten the next part, else the first parts of another series."""
    series, part, found = int(random.integers(len(SERIES))), 0, []
    for _ in range(7):
        found.append(f"{series}-{part}")
        if part + 1 < PARTS and random.random() < 0.9:
            part += 1
        else:
            series, part = int(random.integers(len(SERIES))), 0
    return found
