"""Semantic ids: unique, alike for alike items, and never changed by new items."""

import numpy as np
import pytest

from dealrec_core.errors import DataError
from dealrec_core.recommenders import semantic_ids
from dealrec_core.recommenders.semantic_ids import Content
from dealrec_core.samples import clusters
from dealrec_core.samples.items import Catalogue
from dealrec_core.settings.recommenders import SemanticIdsConfig
from tests.dealrec_core.conftest import SeriesWorld

SMALL = SemanticIdsConfig(levels=2, codes=8, width=8)


def _catalogue(titles: list[str]) -> Catalogue:
    return Catalogue([f"i{place}" for place in range(len(titles))], titles, [[] for _ in titles])


def test_every_item_has_its_own_codes(series_world: SeriesWorld) -> None:
    found = semantic_ids.fit(series_world.catalogue, config=SMALL, seed=0)
    assert found.codes.shape == (120, 3)
    assert len(np.unique(found.codes, axis=0)) == 120
    assert found.codes.min() == 0
    assert found.codes.max() < 120


def test_equal_content_differs_in_the_last_code_only() -> None:
    found = semantic_ids.fit(_catalogue(["Chess", "Racing", "Chess", "Chess"]), config=SMALL, seed=0)
    assert (found.codes[0, :-1] == found.codes[2][:-1]).all()
    assert found.codes[[0, 2, 3], -1].tolist() == [0, 1, 2]
    assert found.codes[1, :-1].tolist() != found.codes[0, :-1].tolist()


def test_new_items_get_codes_and_old_ones_keep_theirs() -> None:
    old = _catalogue(["Chess", "Racing", "Golf"])
    fitted = semantic_ids.fit(old, config=SMALL, seed=0)
    grown = Catalogue(["new", *old.item_ids, "odd"], ["Chess", *old.titles, "Unheard of"], [[] for _ in range(5)])
    found = fitted.extended(grown)
    assert found.item_ids == [*old.item_ids, "new", "odd"]
    np.testing.assert_array_equal(found.codes[:3], fitted.codes)
    assert found.codes[3].tolist() == [*fitted.codes[0, :-1], 1]  # equal to Chess, the second of its kind
    assert len(np.unique(found.codes, axis=0)) == 5
    assert found.extended(grown) is found


def test_the_same_seed_gives_the_same_codes(series_world: SeriesWorld) -> None:
    first, again = (semantic_ids.fit(series_world.catalogue, config=SMALL, seed=2) for _ in range(2))
    np.testing.assert_array_equal(first.codes, again.codes)


def test_two_clear_heaps_have_their_means_as_centres() -> None:
    points = np.array([[0.0, 0.0], [0.0, 2.0], [10.0, 0.0], [10.0, 2.0]])
    found = clusters.k_means(points, count=2, iterations=20, seed=0)
    heaps = sorted(map(tuple, found.tolist()))
    assert heaps in ([(0.0, 1.0), (10.0, 1.0)], [(5.0, 0.0), (5.0, 2.0)])  # the two fixed points of Lloyd's iterations


def test_no_code_is_dead() -> None:
    points = np.random.default_rng(0).standard_normal((300, 4))
    centres = clusters.k_means(points, count=64, iterations=50, seed=1)
    assert len(np.unique(clusters.nearest(points, centres))) == 64


def test_fewer_distinct_points_than_codes_are_their_own_centres() -> None:
    found = clusters.k_means(np.array([[1.0], [2.0], [1.0]]), count=5, iterations=3, seed=0)
    assert found.tolist() == [[1.0], [2.0]]


def test_residuals_shrink_with_every_level(series_world: SeriesWorld) -> None:
    config = SemanticIdsConfig(levels=3, codes=8, width=16)
    found = semantic_ids.fit(series_world.catalogue, config=config, seed=0)
    left, sizes = found.content.vectors(series_world.catalogue), []
    for level, centres in enumerate(found.centres):
        left = left - centres[found.codes[:, level]]
        sizes.append(float(np.square(left).sum()))
    assert sizes[0] > sizes[1] > sizes[2]


def test_content_vectors_keep_the_cosines_of_tf_idf_when_no_direction_is_dropped() -> None:
    catalogue = _catalogue(["red chess", "red golf", "blue chess"])
    found = semantic_ids.fit(catalogue, config=SMALL, seed=0)
    vectors = found.content.vectors(catalogue)
    # Words in one title of three weigh log(4/2) + 1, in two log(4/3) + 1; each pair shares one word of two.
    rare, common = np.log(2) + 1, np.log(4 / 3) + 1
    expected = common**2 / (np.sqrt(2) * common * np.hypot(rare, common))
    assert vectors[0] @ vectors[1] == pytest.approx(expected)
    assert vectors[1] @ vectors[2] == pytest.approx(0, abs=1e-12)


def test_stored_content_gives_its_vectors_and_an_item_without_its_words_the_origin() -> None:
    """Rarities 3 and 4 of "red" and "chess": "red chess" is (3, 4) / 5; the directions swap the two."""
    stored = Content({"chess": 0, "red": 1}, np.array([4.0, 3.0]), np.array([[0.0, 1.0], [1.0, 0.0]]))
    vectors = stored.vectors(_catalogue(["Red Chess", "Chess, new!", "Golf"]))
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0.0, 1.0], [0.0, 0.0]])


def test_one_word_for_all_is_one_direction() -> None:
    found = semantic_ids.fit(_catalogue(["Chess", "Chess"]), config=SMALL, seed=0)
    assert found.codes.tolist() == [[0, 0, 0], [0, 0, 1]]


def test_more_equals_than_codes_of_a_level_go_to_a_code_beside_it() -> None:
    config = SemanticIdsConfig(levels=2, codes=3, width=8)
    found = semantic_ids.fit(_catalogue(["Chess"] * 7 + ["Golf"]), config=config, seed=0)
    assert len(np.unique(found.codes, axis=0)) == 8
    assert (found.codes[:7, 0] == found.codes[0, 0]).all()  # they share the first level
    groups = [tuple(codes) for codes in found.codes[:7, :2]]
    assert [groups.count(groups[row]) for row in (0, 3, 6)] == [3, 3, 1]
    grown = found.extended(_catalogue(["Chess"] * 7 + ["Golf"] + ["Chess"] * 4))
    assert len(np.unique(grown.codes, axis=0)) == 12
    np.testing.assert_array_equal(grown.codes[:8], found.codes)


def test_titles_without_blanks_are_alike_where_they_share_letters() -> None:
    heads, tails = ("王者荣耀", "魔法学院", "勇者の冒険"), ("攻略合集", "周年庆典", "第二季预告", "最終回スペシャル")
    titles = [head + tail for tail in tails for head in heads]
    codes = semantic_ids.fit(_catalogue(titles), config=SemanticIdsConfig(levels=1, codes=4), seed=0).codes[:, 0]
    assert semantic_ids._words(_catalogue(["Go 王者!"])) == [["go", "王", "者", "王者"]]
    groups = {tail: {int(codes[row]) for row, title in enumerate(titles) if title.endswith(tail)} for tail in tails}
    assert all(len(group) == 1 for group in groups.values())


def test_more_items_than_codes_and_no_items_are_refused() -> None:
    with pytest.raises(DataError, match="2 codes on 2 levels are too few"):
        semantic_ids.fit(_catalogue(["Chess"] * 5), config=SemanticIdsConfig(levels=1, codes=2), seed=0)
    with pytest.raises(DataError, match="no items"):
        semantic_ids.fit(_catalogue([]), config=SMALL, seed=0)
