from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dealrec_core.coreset.methods import METHODS, NEEDS
from dealrec_core.errors import SettingsError, SourceError
from dealrec_core.study import data, report, results
from dealrec_core.study.config import Cell, StudyConfig, cells, fingerprint
from dealrec_core.study.workshop import Shelf, Workshop
from tests.dealrec_core.study.conftest import settings


def workshop(config: StudyConfig) -> Workshop:
    return Workshop(data.released("tiny", config.datasets["tiny"], seed=0), config)


def test_the_released_format_gives_one_sample_a_user_and_three_periods(tiny):
    found = data.released("tiny", tiny.datasets["tiny"], seed=0)
    first = found.pool.filter(user_id="0").row(0, named=True)
    walk = (Path(tiny.datasets["tiny"].folder) / "sequential_train.txt").read_text().splitlines()[0].split()[1:]
    assert (first["history"], first["item_id"]) == (walk[:-1], walk[-1])
    latest = found.past.filter(user_id="0").sort("timestamp").row(-1, named=True)
    assert (latest["history"], latest["item_id"]) == (walk[:2], walk[2])  # the older half and one more, of five
    assert (len(found.pool), len(found.recent), len(found.cases)) == (120, 30, 30)


def test_lines_that_do_not_match_are_an_error(tiny):
    path = Path(tiny.datasets["tiny"].folder) / "sequential_test.txt"
    path.write_text(path.read_text() + "121 4\n")
    with pytest.raises(SourceError, match="120, 120 and 121 users"):
        data.released("tiny", tiny.datasets["tiny"], seed=0)


def test_methods_that_ask_nothing_of_a_surrogate_have_one_cell_for_all_of_them(tmp_path):
    grid = {
        "datasets": ["tiny"], "backends": ["tiger"], "surrogates": ["sasrec", "gru4rec"],
        "methods": ["random", "greedy"], "seeds": [0, 1],
    }  # fmt: skip
    found = cells(StudyConfig.model_validate(settings(tmp_path, grids={"all": grid})))
    assert [(cell.seed, cell.method, cell.surrogate) for cell in found] == [
        (seed, *rest) for seed in (0, 1) for rest in (("random", "none"), ("greedy", "sasrec"), ("greedy", "gru4rec"))
    ]


def test_unknown_names_are_told_with_those_there_are(tmp_path):
    bad = {"all": {"datasets": ["tiny"], "methods": ["magic"]}}
    with pytest.raises(SettingsError, match="no selection method or variant 'magic'; there are dealrec, "):
        cells(StudyConfig.model_validate(settings(tmp_path, grids=bad)))
    bad = {"all": {"datasets": ["games"], "methods": ["random"]}}
    with pytest.raises(SettingsError, match="names the data set 'games'; there are tiny"):
        cells(StudyConfig.model_validate(settings(tmp_path, grids=bad)))


def test_only_settings_that_a_cell_depends_on_make_it_another(tmp_path):
    cell = Cell("tiny", "tiger", "none", "random", 0.02, 0)
    plain = StudyConfig.model_validate(settings(tmp_path))
    same = StudyConfig.model_validate(settings(tmp_path, surrogate={"width": 16, "heads": 1}, resamples=300))
    other = StudyConfig.model_validate(settings(tmp_path, coreset={"groups": 7}))
    assert fingerprint(plain, cell) == fingerprint(same, cell) != fingerprint(other, cell)


@pytest.mark.parametrize("backend", ["tiger", "bigrec", "proxy"])
def test_every_method_runs_with_every_backend_and_spends_its_budget(tiny, backend):
    shop = workshop(tiny)
    for method in METHODS:
        surrogate = "sasrec" if {"influence", "user"} & set(NEEDS[method]) else "none"
        per_user, facts = shop.run(Cell("tiny", backend, surrogate, method, 0.1, 0))
        assert facts["chosen"] == 12  # a tenth of 120
        assert per_user.columns == ["user_id", "recall", "ndcg", "mrr", "log_likelihood"]
        assert (per_user["log_likelihood"] < 0).all()


def test_the_same_cell_again_gives_the_same_values(tiny):
    cell = Cell("tiny", "tiger", "sasrec", "greedy", 0.1, 1)
    assert workshop(tiny).run(cell)[0].equals(workshop(tiny).run(cell)[0])


def test_what_is_on_the_shelf_is_not_made_again_and_a_broken_make_leaves_nothing(tmp_path):
    shelf = Shelf(tmp_path)
    assert shelf.arrays("a", lambda: {"x": np.arange(3)})[0]["x"].tolist() == [0, 1, 2]
    assert shelf.arrays("a", lambda: pytest.fail("made again"))[0]["x"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="broken"):
        shelf.folder_of("b", _broken)
    assert not (tmp_path / "b").exists()


def _broken(folder: Path) -> None:
    (folder / "half").write_text("half")
    raise ValueError("broken")


def fake(config: StudyConfig, method: str, seed: int, values: list[float]) -> None:
    frame = pl.DataFrame({"user_id": ["a", "b"], **dict.fromkeys(("recall", "ndcg", "mrr", "log_likelihood"), values)})
    facts = {"chosen": 2, "selection_s": 1.0, "tuning_s": 2.0, "tokens": 10, "flops": 1e12}
    facts |= {name: float(np.mean(values)) for name in ("recall", "ndcg", "log_likelihood")}
    surrogate = "sasrec" if method == "greedy" else "none"
    results.write(config, Cell("tiny", "tiger", surrogate, method, 0.02, seed), per_user=frame, facts=facts)


def with_seeds(tmp_path: Path, *seeds: int) -> StudyConfig:
    grid = {"datasets": ["tiny"], "backends": ["tiger"], "methods": ["random", "greedy", "el2n"], "seeds": [*seeds]}
    return StudyConfig.model_validate(settings(tmp_path, grids={"all": grid}))


def test_the_table_pairs_seeds_and_decides_by_the_interval(tmp_path):
    config = with_seeds(tmp_path, 0, 1)
    for seed in (0, 1):
        fake(config, "random", seed, [0.1, 0.2])
        fake(config, "greedy", seed, [0.3, 0.4])
    fake(config, "el2n", 1, [0.4, 0.5])
    rows = {row["method"]: row for row in report.table(config).iter_rows(named=True)}
    assert rows["greedy"]["ndcg gain"] == pytest.approx(0.2)
    assert (rows["greedy"]["comparison"], rows["random"]["comparison"]) == ("better", "reference")
    assert rows["greedy"]["total_s"] == 3.0
    text = report.markdown(config, report.table(config))
    assert "| greedy | sasrec | 2 | 0.3500 | 0.3500 | +0.2000 [+0.2000, +0.2000] |" in text
    # one seed has an interval over users, has no decision, and leaves the other p alone: 1 / 200 resamples, once
    assert (rows["el2n"]["comparison"], rows["el2n"]["p holm"]) == ("one seed, no decision", None)
    assert rows["greedy"]["p holm"] == pytest.approx(1 / 200)
    assert "| el2n | none | 1 | 0.4500 | 0.4500 | +0.3000 [+0.3000, +0.3000] |" in text


def test_without_the_reference_nothing_is_compared(tmp_path):
    config = with_seeds(tmp_path, 0)
    fake(config, "greedy", 0, [0.3, 0.4])
    assert report.table(config)["comparison"].to_list() == ["not compared"]
    assert "| greedy | sasrec | 1 | 0.3500 | 0.3500 | — | — | — | not compared |" in report.markdown(
        config, report.table(config)
    )


def test_a_study_without_finished_cells_says_so(tiny):
    assert "No cell has finished." in report.markdown(tiny, report.table(tiny))


def test_a_finished_cell_is_never_written_again(tiny):
    fake(tiny, "random", 0, [0.1, 0.2])
    fake(tiny, "random", 0, [0.9, 0.9])
    found = results.find(tiny, Cell("tiny", "tiger", "none", "random", 0.02, 0))
    assert found is not None
    assert found.values("ndcg").to_list() == [0.1, 0.2]
