import hashlib
import json

import polars as pl

from dealrec_core.samples import contents

ONE = pl.DataFrame({"sample_id": ["s"], "history": [["a", "b"]], "item_id": ["c"]})


def test_the_content_is_the_hash_of_history_and_target():
    expected = hashlib.sha256(json.dumps(["a\x1fb\x1ec"]).encode()).hexdigest()[:16]
    assert contents.with_content(ONE)["content"].to_list() == [expected]


def test_an_item_that_moves_from_history_to_target_is_another_content():
    other = pl.DataFrame({"sample_id": ["s"], "history": [["a"]], "item_id": ["b"]})
    assert contents.with_content(other)["content"][0] != contents.with_content(ONE)["content"][0]
    assert [len(part) for part in contents.differences(ONE, other)] == [1, 1]


def test_equal_samples_have_no_differences():
    added, removed = contents.differences(ONE, ONE)
    assert added.is_empty()
    assert removed.is_empty()
    assert added.columns == ONE.columns
