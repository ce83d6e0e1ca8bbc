import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as some

from dealrec_core.ingest.raw import csv_records
from dealrec_core.ingest.raw.batch import FAULT, ROW, ColumnMissing
from dealrec_core.ingest.raw.blocks import Block, blocks


def read(content: bytes | str, *, columns=None, delimiter=None, header=None):
    """The records, each as its fields or its fault."""
    text = content.encode() if isinstance(content, str) else content
    records = csv_records.batches(
        blocks(io.BytesIO(text), "log.csv"), path="log.csv", columns=columns, delimiter=delimiter, header=header
    )
    return [
        row.get(FAULT) or tuple(value for name, value in row.items() if name not in (ROW, FAULT))
        for batch in records
        for row in batch.frame.iter_rows(named=True)
    ]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_the_delimiter_is_told_from_the_header(mark):
    assert read(mark.join("ut") + "\n" + mark.join("a1") + "\n") == [("a", "1")]


@pytest.mark.parametrize("mark", ["::", "§", " ", "||"])
def test_any_other_delimiter_is_a_setting(mark):
    assert read(mark.join("uit") + "\n" + mark.join("ax1") + "\n", delimiter=mark) == [("a", "x", "1")]


def test_a_file_without_header_takes_its_names_from_the_settings():
    assert read("1::2::3\n", delimiter="::", header=["u", "i", "t"], columns=["t", "u"]) == [("3", "1")]


def test_a_letter_that_stands_for_a_long_delimiter_is_a_fault():
    assert read("u::i\na\x1fb\nc::d\n", delimiter="::") == ["a NUL byte", ("c", "d")]


@pytest.mark.parametrize("style", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@given(
    rows=some.lists(
        some.lists(
            some.text(some.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=20),
            min_size=2,
            max_size=2,
        ).filter(lambda fields: "".join(fields).strip()),
        max_size=8,
    )
)
def test_what_a_csv_writer_writes_is_read_again(style, rows):
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n", quoting=style)
    writer.writerows([["u", "i"], *rows])
    assert [tuple(field or "" for field in fields) for fields in read(out.getvalue())] == [tuple(row) for row in rows]


def test_one_bad_line_costs_only_itself():
    records = read(b'u,i\na,x\nb\nc,"y\nd,\xff\ne,y,z\nf,\0\ng,y\n')
    assert records == [
        ("a", "x"),
        "1 fields where the header has 2",
        "a quote is never closed",
        "not UTF-8 at byte 3; set encoding in [sources] if it is another one",
        "3 fields where the header has 2",
        "a NUL byte",
        ("g", "y"),
    ]


def test_stray_empty_columns_at_the_end_do_not_count():
    assert read("u,i,,\na,x,,\nb,y\n") == [("a", "x"), ("b", "y")]


def test_of_two_columns_with_one_name_the_first_counts():
    assert read("u,u\na,b\n") == [("a",)]


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfu,i\na,x\n", b"u,i\r\na,x\r\n", b"u,i\ra,x\r", b"\n\nu,i\n\na,x"])
def test_byte_order_marks_line_ends_and_blank_lines_do_no_harm(content):
    assert read(content, columns=["u", "i"]) == [("a", "x")]


def test_a_quoted_field_goes_on_over_the_border_of_a_block():
    parts = [Block(b'u,i\na,"x\n'), Block(b'y"\nb,z\n')]
    records = [
        row
        for batch in csv_records.batches(parts, path="log.csv", columns=None, delimiter=None, header=None)
        for row in batch.frame.rows()
    ]
    assert records == [(1, None, "a", "x\ny"), (2, None, "b", "z")]


def test_a_header_without_a_wanted_column_is_named():
    with pytest.raises(ColumnMissing, match="no column 'time' in 'log.csv', which has u, i"):
        read("u,i\na,x\n", columns=["u", "time"])


@pytest.mark.parametrize("header", [b"u\ri,t", b'"u,i', b"\0", b"u" * 200_000])
def test_a_damaged_header_is_a_missing_column(header):
    with pytest.raises(ColumnMissing):
        read(header + b"\na,x\n", columns=["i"])


def test_the_raw_text_of_a_record_is_its_lines():
    (batch,) = csv_records.batches(
        [Block(b'u::i\na::"x\ny"\nb\n')], path="log.dat", columns=None, delimiter="::", header=None
    )
    assert [batch.raw(place) for place in range(2)] == ['a::"x\ny"', "b"]
