from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dealrec_core.coreset.methods import METHODS, NEEDS
from dealrec_core.errors import SettingsError, SourceError
from dealrec_core.study import backends, data, report, results
from dealrec_core.study.config import Cell, StudyConfig, cells
from dealrec_core.study.markdown import markdown
from dealrec_core.study.workshop import Shelf, Workshop
from tests.dealrec_core.study.conftest import settings

AT_BOTH = ("recall@10", "ndcg@10", "mrr@10", "recall@5", "ndcg@5", "mrr@5")


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


def test_the_primary_question_must_be_one_that_can_be_asked(tmp_path):
    asked = {"tiger": {"dataset": "games", "method": "greedy"}}
    with pytest.raises(SettingsError, match="primary.tiger names the data set 'games'; there are tiny"):
        cells(StudyConfig.model_validate(settings(tmp_path, primary=asked)))
    with pytest.raises(SettingsError, match="this study has no grid"):
        cells(StudyConfig.model_validate(settings(tmp_path, grids={})))


def test_users_choose_or_judge_and_more_users_change_no_ones_half(tiny):
    """Both halves together are everyone, and nobody is in both."""
    section = tiny.datasets["tiny"].model_copy(update={"users": None})
    halves = {
        half: data.released("tiny", section, seed=0, judges=half).cases for half in ("all", "choosing", "judging")
    }
    names = {half: set(cases["user_id"]) for half, cases in halves.items()}
    assert names["choosing"] | names["judging"] == names["all"]
    assert not names["choosing"] & names["judging"]
    assert 40 < len(names["judging"]) < 80  # of 120: five standard deviations of a fair coin are 27
    fewer = data.judging(halves["all"].head(50), "judging", seed=0)
    assert set(fewer["user_id"]) == names["judging"] & set(halves["all"].head(50)["user_id"])
    assert set(data.judging(halves["all"], "judging", seed=1)["user_id"]) != names["judging"]


@pytest.mark.parametrize("backend", ["tiger", "bigrec", "proxy"])
def test_every_method_runs_with_every_backend_and_spends_its_budget(tiny, backend):
    shop = workshop(tiny)
    for method in METHODS:
        surrogate = "sasrec" if {"influence", "user"} & set(NEEDS[method]) else "none"
        per_user, facts = shop.run(Cell("tiny", backend, surrogate, method, 0.1, 0))
        assert facts["chosen"] == 12  # a tenth of 120
        assert per_user.columns == ["user_id", *AT_BOTH, "log_likelihood"]
        assert (per_user["recall@10"] >= per_user["recall@5"]).all()
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


class Counting:
    """Ranks every catalogue in one way, and counts how often it is asked."""

    name = "counting"

    def __init__(self, items: list[str]) -> None:
        self.items, self.asked = items, 0

    def recommend(self, histories, k):
        self.asked += len(histories)
        return [self.items[:k] for _ in histories]


def test_one_ranking_of_each_user_gives_both_cutoffs(tiny):
    """The target stands at place 7: not among 5, and among 10 with 1 / log2(8)."""
    found = data.released("tiny", tiny.datasets["tiny"], seed=0)
    target = found.cases["targets"][0][0]
    others = [item for item in found.catalogue.item_ids if item not in found.cases["targets"][0].to_list()]
    ranker = Counting([*others[:6], target, *others[6:]])
    model = backends.CellModel(ranker, np.full(len(found.cases), -1.0), 0, 0.0)
    first = backends.measured(model, found, tiny).row(0, named=True)
    assert ranker.asked == len(found.cases)
    assert (first["ndcg@5"], first["recall@5"], first["recall@10"]) == (0, 0, 0.5)
    assert first["ndcg@10"] == pytest.approx(1 / np.log2(8) / (1 + 1 / np.log2(3)))


def fake(config: StudyConfig, method: str, seed: int, values: list[float]) -> None:
    frame = pl.DataFrame({"user_id": ["a", "b"], **dict.fromkeys((*AT_BOTH, "log_likelihood"), values)})
    seconds = {"wall_s": 3.0, "cpu_s": 2.0}
    costs = {f"{part}_{clock}": value for part in ("selection", "tuning") for clock, value in seconds.items()}
    facts = {"chosen": 2, **costs, "tokens": 10, "flops": 1e12, "device": "cuda" if method == "el2n" else "cpu"}
    facts |= {name: float(np.mean(values)) for name in frame.columns[1:]}
    surrogate = "sasrec" if method == "greedy" else "none"
    results.write(config, Cell("tiny", "tiger", surrogate, method, 0.02, seed), per_user=frame, facts=facts)


def with_seeds(tmp_path: Path, *seeds: int, **changes) -> StudyConfig:
    grid = {"datasets": ["tiny"], "backends": ["tiger"], "methods": ["random", "greedy", "el2n"], "seeds": [*seeds]}
    return StudyConfig.model_validate(settings(tmp_path, grids={"all": grid}, **changes))


def rows_of(config: StudyConfig) -> dict[str, dict]:
    return {row["method"]: row for row in report.table(config).iter_rows(named=True)}


def test_the_reference_is_pooled_over_all_its_seeds(tmp_path):
    """Greedy with seeds 0 and 1 is compared with the mean of three random ones, 0.2, not with the two of its own numbers."""
    config = with_seeds(tmp_path, 0, 1, 2)
    for seed, value in enumerate((0.1, 0.2, 0.3)):
        fake(config, "random", seed, [value, value])
    for seed in (0, 1):
        fake(config, "greedy", seed, [0.3, 0.4])
    row = rows_of(config)["greedy"]
    assert row["ndcg@10 gain"] == pytest.approx(0.35 - 0.2)
    assert (row["seeds"], row["reference seeds"]) == (2, 3)
    # random's seeds vary by 0.1 ** 2, and Student's t of two degrees is 4.3: far wider than the users' 0.05
    assert row["ndcg@10 low"] < 0 < row["ndcg@10 high"]
    assert row["comparison"] == "no difference shown"


def test_the_table_decides_by_interval_and_corrected_p(tmp_path):
    config = with_seeds(tmp_path, 0, 1)
    for seed in (0, 1):
        fake(config, "random", seed, [0.1, 0.2])
        fake(config, "greedy", seed, [0.3, 0.4])
    fake(config, "el2n", 1, [0.4, 0.5])
    rows = rows_of(config)
    assert (rows["greedy"]["comparison"], rows["random"]["comparison"]) == ("better", "reference")
    assert (rows["greedy"]["total_s"], rows["el2n"]["total_s"]) == (
        4.0,
        6.0,
    )  # CPU seconds; of a GPU those of the clock
    text = markdown(config, report.table(config), report.power(config))
    assert "| greedy | sasrec | 2 | 0.3500 | +0.2000 [+0.2000, +0.2000] | 0.000 | better |" in text
    assert (rows["el2n"]["comparison"], rows["el2n"]["p holm"]) == ("one seed, no decision", None)
    assert "| el2n | none | 1 | 0.4500 | +0.3000 [+0.3000, +0.3000] | — | one seed, no decision |" in text


def test_the_primary_question_stands_first_and_its_p_is_not_corrected(tmp_path):
    asked = {"tiger": {"dataset": "tiny", "method": "el2n"}}
    config = with_seeds(tmp_path, 0, 1, 2, primary=asked)
    for seed, shift in enumerate((0.0, 0.01, 0.02)):
        fake(config, "random", seed, [0.1 + shift, 0.2 + shift])
        fake(config, "greedy", seed, [0.3 - shift, 0.4 + 3 * shift])
        fake(config, "el2n", seed, [0.13 + shift, 0.25 - shift])
    table, rows = report.table(config), rows_of(config)
    assert table["method"].to_list() == ["el2n", "greedy", "random"]  # before greedy, which has the higher metric
    assert rows["el2n"]["p holm"] == rows["el2n"]["ndcg@10 p"]
    assert rows["greedy"]["p holm"] == rows["greedy"]["ndcg@10 p"]  # alone among the others: 1 · p
    assert "(primary question)" in markdown(config, table, report.power(config))


def test_the_power_table_says_what_could_have_been_seen(tmp_path):
    config = with_seeds(tmp_path, 0, 1, 2)
    for seed, shift in enumerate((0.0, 0.01, 0.02)):
        fake(config, "random", seed, [0.1 + shift, 0.2 - shift])
        fake(config, "greedy", seed, [0.3 - shift, 0.4 + 3 * shift])
    row = report.power(config).row(0, named=True)
    assert (row["method"], row["users"], row["seeds"], row["reference seeds"]) == ("greedy", 2, 3, 3)
    assert row["smallest share"] == pytest.approx(row["smallest"] / 0.15)
    assert row["seeds for 20%"] is None or row["seeds for 20%"] <= (row["seeds for 10%"] or np.inf)
    text = markdown(config, report.table(config), report.power(config))
    assert "| method | seeds | users | standard error | smallest gain found | seeds for 5% |" in text


def test_without_the_reference_nothing_is_compared(tmp_path):
    config = with_seeds(tmp_path, 0)
    fake(config, "greedy", 0, [0.3, 0.4])
    assert report.table(config)["comparison"].to_list() == ["not compared"]
    text = markdown(config, report.table(config), report.power(config))
    assert "| greedy | sasrec | 1 | 0.3500 | — | — | not compared |" in text


def test_a_study_without_finished_cells_says_so(tiny):
    assert "No cell has finished." in markdown(tiny, report.table(tiny), report.power(tiny))


def test_a_finished_cell_is_never_written_again(tiny):
    fake(tiny, "random", 0, [0.1, 0.2])
    fake(tiny, "random", 0, [0.9, 0.9])
    found = results.find(tiny, Cell("tiny", "tiger", "none", "random", 0.02, 0))
    assert found is not None
    assert found.values("ndcg@10").to_list() == [0.1, 0.2]
