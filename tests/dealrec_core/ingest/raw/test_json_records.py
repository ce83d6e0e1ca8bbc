import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from dealrec_core.ingest.raw import json_records
from dealrec_core.ingest.raw.batch import FAULT
from dealrec_core.ingest.raw.blocks import Block


def read(content: bytes | str, columns=("u", "t")):
    text = content.encode() if isinstance(content, str) else content
    batches = json_records.batches([Block(text)], columns=list(columns))
    rows = [row for batch in batches for row in batch.frame.iter_rows(named=True)]
    return [row[FAULT] or tuple(row[name] for name in columns) for row in rows]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("7", "7"),
        ("7.0", "7"),
        ("1.5", "1.5"),
        ('"7"', "7"),
        ("null", None),
        ("12345678901234567890123", "12345678901234567890123"),
        ("-9223372036854775809", "-9223372036854775809"),
        ('["a",1]', '["a",1]'),
    ],
)
def test_values_become_text_without_loss(value, text):
    assert read(f'{{"u": {value}, "t": 1}}\n') == [(text, "1")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"u": "a"', "truncated"),
        (b"[]", "Expected `object`"),
        (b'{"u": "\xff"}', "UTF-8"),
        (b'{"u": "a\\u0000"}', "a NUL character"),
        (b'{"u": ' + b"[" * 100_000, "nested too deeply|Expected"),
        (b'{"u": 1e400}', "out of range"),
    ],
)
def test_one_bad_line_costs_only_itself_and_says_why(line, reason):
    first, second, third = read(b'{"u": "a", "t": 1}\n' + line + b'\n{"u": "b", "t": 2}\n')
    assert (first, third) == (("a", "1"), ("b", "2"))
    assert any(part in second for part in reason.split("|")), second


def test_a_record_over_two_lines_is_two_faults_and_two_in_one_line_are_two_records():
    first, second, *others = read('{"u":\n"a"}\n{"u":"b"}{"u":"c"} {"u":"}{"}\n')
    assert (type(first), type(second)) == (str, str)
    assert others == [("b", None), ("c", None), ("}{", None)]


def test_keys_that_are_not_there_are_null_and_others_are_left_out():
    assert read('{"x": {"deep": true}, "t": 3}\n') == [(None, "3")]


def test_blank_lines_do_not_count_and_a_byte_order_mark_does_no_harm():
    assert read(b'\xef\xbb\xbf\n{"u": "a", "t": 1}\n\n  \n') == [("a", "1")]


@given(
    records=some.lists(
        some.fixed_dictionaries(
            {"u": some.text(some.characters(exclude_characters="\0", exclude_categories=["Cs"])), "t": some.integers()}
        )
    )
)
def test_what_json_writes_is_read_again(records):
    text = "".join(json.dumps(record) + "\n" for record in records)
    assert read(text) == [(record["u"], str(record["t"])) for record in records]
