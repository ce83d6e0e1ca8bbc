"""Both backends by the same questions: they load once, answer alike whenever they are asked, and what they tune can be served."""

import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dealrec_core import schema
from dealrec_core.errors import NotFinite, SettingsError
from dealrec_core.language import language_model
from dealrec_core.language.bases import content_sha256
from dealrec_core.recommenders import backend, bundle
from dealrec_core.recommenders.backend import Backend, ItemStatistics, OpenedBase
from dealrec_core.samples.items import Catalogue
from dealrec_core.settings.language import EffortConfig, FineTuneConfig, LanguageModelConfig
from dealrec_core.settings.recommenders import BIGRecConfig, SemanticIdsConfig, TigerConfig
from dealrec_core.settings.tree import Algorithms
from tests.dealrec_core.conftest import CPU, SeriesWorld

NAMES = ["bigrec", "tiger"]
DEFAULTS = Algorithms(**{name: section.annotation() for name, section in Algorithms.model_fields.items()})
START = datetime(2026, 1, 1, tzinfo=UTC)
TINY = TigerConfig(
    width=16, layers=1, heads=1, head_width=8, inner_width=16, epochs=2, pretraining_epochs=1, history_length=5
)


def samples_of(walks: list[list[str]], *, cut: int = 5) -> pl.DataFrame:
    """The last step of each walk, one sample a user and an hour."""
    rows = {
        schema.SAMPLE_ID: [f"s{user:04d}" for user in range(len(walks))],
        schema.USER_ID: [f"u{user:04d}" for user in range(len(walks))],
        schema.ITEM_ID: [walk[-1] for walk in walks],
        schema.TIMESTAMP: [START + timedelta(hours=user) for user in range(len(walks))],
        schema.HISTORY: [walk[max(0, len(walk) - 1 - cut) : -1] for walk in walks],
    }
    return pl.DataFrame(rows, schema=schema.SAMPLES)


def build(world: SeriesWorld, name: str, **sections: object) -> Backend:
    chosen = {
        "language_model": LanguageModelConfig(vocabulary=512, width=32, layers=1, heads=1, steps=5),
        "bigrec": BIGRecConfig(prompt=world.prompt, history_length=3, beams=5),
        "fine_tune": FineTuneConfig(epochs=1, learning_rate=1e-2),
        "effort": EffortConfig(),
        "tiger": TINY,
        "semantic_ids": SemanticIdsConfig(levels=2, codes=32, width=24),
        **sections,
    }
    return backend.build(name, DEFAULTS.model_copy(update=chosen), device=CPU, seed=0)


@pytest.fixture(scope="module")
def bases(series_world: SeriesWorld, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The base of each backend."""
    folders = {name: tmp_path_factory.mktemp(name) for name in NAMES}
    for name, folder in folders.items():
        past = samples_of(series_world.past[:60])
        build(series_world, name).prepare(folder, series_world.catalogue, past)
    return folders


def opened(world: SeriesWorld, bases: dict[str, Path], name: str, **sections: object) -> OpenedBase:
    return build(world, name, **sections).open(bases[name], world.catalogue)


POPULARITY = ItemStatistics({"0-0": 9.0, "1-0": 4.0, "2-0": 1.0})


def norms_of(base: OpenedBase, samples: pl.DataFrame) -> np.ndarray:
    squares = np.zeros(len(samples))
    for rows, matrices in backend.gradients(base, samples):
        squares[rows] = sum(matrix.double().square().sum((1, 2)).numpy() for matrix in matrices.values())
    return np.sqrt(squares)


@pytest.mark.parametrize("name", NAMES)
def test_questions_leave_the_base_as_it_was(series_world: SeriesWorld, bases: dict[str, Path], name: str) -> None:
    base, samples = opened(series_world, bases, name), samples_of(series_world.past[:9])
    efforts, states = backend.efforts(base, samples), base.hidden(samples)
    np.testing.assert_allclose(norms_of(base, samples), efforts, rtol=1e-5)
    assert (efforts > 0).all()
    assert states.shape[0] == 9
    base.tune(samples, samples, POPULARITY)
    np.testing.assert_array_equal(backend.efforts(base, samples), efforts)
    np.testing.assert_array_equal(base.hidden(samples), states)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_loaded_once_and_only_for_what_needs_it(
    series_world: SeriesWorld, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    loads = []
    for module in (language_model, bundle):
        real = module.load
        monkeypatch.setattr(module, "load", lambda *given, real=real, **more: loads.append(1) or real(*given, **more))
    base, samples = opened(series_world, bases, name), samples_of(series_world.past[:5])
    assert (base.tokens(samples) > 0).all()
    assert loads == []
    for _ in range(2):
        backend.efforts(base, samples)
        base.hidden(samples)
        norms_of(base, samples)
    assert loads == [1]
    copy = pickle.loads(pickle.dumps(base))
    assert loads == [1]
    np.testing.assert_array_equal(backend.efforts(copy, samples), backend.efforts(base, samples))
    assert loads == [1, 1]


def test_tokens_are_those_of_prompt_and_answer_and_those_of_all_codes(
    series_world: SeriesWorld, bases: dict[str, Path]
) -> None:
    samples = samples_of([["0-0", "0-1"], ["0-0", "0-1", "0-2", "0-3", "0-4", "1-0", "1-1"]])
    assert opened(series_world, bases, "tiger").tokens(samples).tolist() == [2 * 3, 6 * 3]  # at most 5 items are read
    short, long = opened(series_world, bases, "bigrec").tokens(samples)
    assert short < long


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_recommender_answers_as_it_did_and_is_a_champion_of_its_base_alone(
    series_world: SeriesWorld, bases: dict[str, Path], tmp_path: Path, name: str
) -> None:
    ours, samples = build(series_world, name), samples_of(series_world.past[:9])
    tuned = ours.open(bases[name], series_world.catalogue).tune(samples, samples, POPULARITY)
    sha256 = content_sha256(bases[name])
    bundle.save(tmp_path, tuned.recommender, base=tuned.base, lineage={backend.BASE: sha256})
    histories = [["3-0"], ["?"]]
    loaded = bundle.load(tmp_path, device=CPU)
    assert loaded.recommend(histories, 3) == tuned.recommender.recommend(histories, 3)
    assert loaded.recommend(histories, 3)[1] == ["0-0", "1-0", "2-0"]
    assert tuned.facts["started from"] == "base"
    assert tuned.facts["tokens"] == tuned.tokens > 0
    assert backend.usable_champion(tmp_path, name=name, base_sha256=sha256) == tmp_path
    other = NAMES[1 - NAMES.index(name)]
    assert backend.usable_champion(tmp_path, name=name, base_sha256="other") is None
    assert backend.usable_champion(tmp_path, name=other, base_sha256=sha256) is None
    assert backend.usable_champion(None, name=name, base_sha256=sha256) is None


@pytest.mark.parametrize("name", NAMES)
def test_the_champion_scores_and_is_tuned_on_only_where_the_settings_say_so(
    series_world: SeriesWorld, bases: dict[str, Path], tmp_path: Path, name: str
) -> None:
    ours, samples = build(series_world, name), samples_of(series_world.past[:9])
    base = ours.open(bases[name], series_world.catalogue)
    tuned = base.tune(samples, samples, POPULARITY)
    bundle.save(tmp_path, tuned.recommender, base=tuned.base, lineage={})
    grown = Catalogue([*series_world.catalogue.item_ids, "new"], [*series_world.catalogue.titles, "New 1"], [[]] * 121)
    efforts = backend.efforts(base, samples)
    np.testing.assert_array_equal(backend.efforts(ours.open(bases[name], grown, tmp_path), samples), efforts)
    changed = build(
        series_world,
        name,
        effort=EffortConfig(model="champion"),
        fine_tune=FineTuneConfig(epochs=1, start="champion", best_epoch_by="loss"),
    ).open(bases[name], grown, tmp_path)
    by_champion = backend.efforts(changed, samples)
    assert not np.allclose(by_champion, efforts)
    states = changed.hidden(samples)
    np.testing.assert_array_equal(states, base.hidden(samples))  # asked of the base, whoever scores
    np.testing.assert_array_equal(backend.efforts(changed, samples), by_champion)
    tuned = changed.tune(samples, samples, POPULARITY)
    assert tuned.facts["started from"] == "champion"
    assert tuned.facts.get("items coded tonight", 1) == 1
    assert backend.log_likelihoods(changed, tuned.recommender, samples).shape == (9,)


@pytest.mark.parametrize("name", NAMES)
def test_likelihoods_are_the_negative_validation_loss(
    series_world: SeriesWorld, bases: dict[str, Path], name: str
) -> None:
    fine_tune = FineTuneConfig(epochs=1, best_epoch_by="loss")
    base, samples = opened(series_world, bases, name, fine_tune=fine_tune), samples_of(series_world.past[:9])
    tuned = base.tune(samples, samples, POPULARITY)
    likelihoods = backend.log_likelihoods(base, tuned.recommender, samples)
    assert -likelihoods.mean() == pytest.approx(float(tuned.facts["validation loss"]), abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_only_settings_that_a_base_depends_on_make_it_another(series_world: SeriesWorld, name: str) -> None:
    ours = build(series_world, name)
    settings = ours.settings
    scored = settings.model_copy(update={"effort": EffortConfig(parameters="last")})
    other = {
        "bigrec": settings.model_copy(update={"language_model": LanguageModelConfig(steps=6)}),
        "tiger": settings.model_copy(update={"tiger": TINY.model_copy(update={"width": 24})}),
    }[name]
    keys = [backend.build(name, each, device=CPU, seed=0).base_key() for each in (settings, scored, other)]
    assert keys[0] == keys[1] != keys[2]
    assert backend.build(name, settings, device=CPU, seed=1).base_key() != keys[0]
    assert backend.build(name, scored, device=CPU, seed=0).effort_key() != ours.effort_key()


def test_other_weights_in_a_models_folder_are_another_model(series_world: SeriesWorld, tmp_path: Path) -> None:
    ours = build(series_world, "bigrec", language_model=LanguageModelConfig(base_model=str(tmp_path)))
    assert ours.base_key() is None
    (tmp_path / "model.safetensors").write_bytes(b"old")
    before = ours.outside_key()
    assert ours.outside_key() == before
    (tmp_path / "model.safetensors").write_bytes(b"new")
    assert ours.outside_key() != before


def test_the_older_half_ends_at_the_median_time(series_world: SeriesWorld) -> None:
    assert backend.older_half(samples_of(series_world.past[:5]))[schema.SAMPLE_ID].to_list() == [
        "s0000",
        "s0001",
        "s0002",
    ]


def test_an_unknown_backend_is_told_with_those_there_are(series_world: SeriesWorld) -> None:
    with pytest.raises(SettingsError, match="no backend 'magic'; there are bigrec, tiger"):
        build(series_world, "magic")


def test_an_effort_that_is_not_finite_names_the_sample(series_world: SeriesWorld, bases: dict[str, Path]) -> None:
    base = opened(series_world, bases, "tiger")
    base._tiger(bases["tiger"]).model.lm_head.weight.data[0] = float("nan")  # type: ignore[attr-defined]
    with pytest.raises(NotFinite, match="effort of sample 's0000' is nan"):
        backend.efforts(base, samples_of(series_world.past[:3]))
