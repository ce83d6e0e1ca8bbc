"""Forms of raw files: containers, encodings, dialects, JSON, types. The table in docs/lake.md lists those that are read here."""

import bz2
import gzip
import io
import lzma
import uuid
import zipfile
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from pydantic import ValidationError

from dealrec_core.errors import DataError
from dealrec_core.ingest import interactions, item_files, preview
from dealrec_core.lake import Lake
from dealrec_core.settings.sources import InteractionSource, ItemSource, SourcesConfig

CSV = "user_id,item_id,timestamp\nu1,Amélie,1704067200\nu2,Œuvre,1704067260\n"
ROWS = [("u1", "Amélie"), ("u2", "Œuvre")]
JSON = '{"user_id":"u1","item_id":"Amélie","timestamp":1704067200}\n{"user_id":"u2","item_id":"Œuvre","timestamp":1704067260}\n'


def zipped(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("__MACOSX/._log.csv", b"x")
        archive.writestr("log.csv", content)
    return out.getvalue()


def parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


TABLE = pa.table({"user_id": ["u1", "u2"], "item_id": ["Amélie", "Œuvre"], "timestamp": [1704067200, 1704067260]})
PLAIN = CSV.encode()
READ = {
    "gzip": gzip.compress(PLAIN),
    "zstd": zstandard.compress(PLAIN),
    "bzip2": bz2.compress(PLAIN),
    "xz": lzma.compress(PLAIN),
    "zip of one file": zipped(PLAIN),
    "UTF-8 with a byte order mark": b"\xef\xbb\xbf" + PLAIN,
    "UTF-16 with a mark": CSV.encode("utf-16"),
    "UTF-16 without a mark": CSV.encode("utf-16-be"),
    "UTF-32": CSV.encode("utf-32"),
    "Windows-1252 or Latin-1": CSV.encode("cp1252"),
    "tabs": CSV.replace(",", "\t").encode(),
    "semicolons": CSV.replace(",", ";").encode(),
    "::": CSV.replace(",", "::").encode(),
    "Hive's ^A": CSV.replace(",", "\x01").encode(),
    "a first line sep=;": b"sep=;\n" + CSV.replace(",", ";").encode(),
    "types in the header (RecBole)": CSV.replace("_id,", "_id:token,").replace("stamp\n", "stamp:float\n").encode(),
    "quotes around every field": "".join('"' + line.replace(",", '","') + '"\n' for line in CSV.splitlines()).encode(),
    "JSON lines": JSON.encode(),
    "JSON objects without line ends": JSON.replace("\n", "").encode(),
    "a JSON array": f"[{JSON.strip().replace(chr(10), ',')}]".encode(),
    "JSON over several lines": JSON.replace(",", ",\n  ").encode(),
    "JSON in UTF-16": JSON.encode("utf-16"),
    "Python dictionaries": JSON.replace('"', "'").encode(),
    "Parquet": parquet(TABLE),
    "Parquet in gzip": gzip.compress(parquet(TABLE)),
}
"""Content of a file without an ending in its name, by the name of its form."""


def config(folder: Path, content: bytes, name: str = "part-0", **options) -> SourcesConfig:
    (folder / "raw").mkdir(exist_ok=True)
    (folder / "raw" / name).write_bytes(content)
    return SourcesConfig(root=str(folder / "raw"), interactions=InteractionSource(files=["*"], **options))


def take(folder: Path, content: bytes, name: str = "part-0", **options) -> list[tuple]:
    """What lands of one file: user and item of every row, in order."""
    lake = Lake(str(folder / "lake"))
    report = interactions.ingest(
        lake, config(folder, content, name, **options), through=date(2030, 1, 1), partition="day"
    )
    assert report.rows == report.inserted + report.duplicates + report.quarantined + report.filtered + report.postponed
    return lake.scan("interactions").sort("row").select("user_id", "item_id").collect().rows()


@pytest.mark.parametrize("form", READ)
def test_a_form_is_told_from_the_content(tmp_path, form):
    assert take(tmp_path, READ[form]) == ROWS


def test_the_page_lists_every_form():
    page = Path("docs/lake.md").read_text("utf-8")
    assert [form for form in READ if form not in page] == []


@pytest.mark.parametrize("encoding", ["gb18030", "shift_jis", "cp1251", "cp1250"])
def test_another_encoding_is_a_setting_and_is_not_guessed(tmp_path, encoding):
    words = {"gb18030": "大话西游", "shift_jis": "千と千尋", "cp1251": "Солярис", "cp1250": "Żółć łąk"}[encoding]
    content = f"user_id,item_id,timestamp\nu1,{words},1704067200\n".encode(encoding)
    with pytest.raises(DataError, match="not UTF-8 at byte"):
        take(tmp_path, content)
    assert take(tmp_path, content, encoding=encoding) == [("u1", words)]


def test_lines_that_are_no_utf_8_beside_lines_that_are_stay_out(tmp_path):
    lines = "".join(f"u{n},Amélie,170406{n}\n" for n in range(7200, 7300)).encode()
    content = b"user_id,item_id,timestamp\n" + lines + "u,Amélie,1704067300\n".encode("cp1252")
    assert len(take(tmp_path, content)) == 100


@pytest.mark.parametrize(
    ("text", "options", "item"),
    [
        ('u1\t"A\t1704067200\nu2\tB\t1704067260\nu3\tC"\t1704067320\n', {}, ['"A', "B", 'C"']),
        ('u1,"A,1704067200\nu2,B,1704067260\nu3,C",1704067320\n', {}, ['"A', "B", 'C"']),
        ('u1\t"A"\t1704067200\n', {}, ["A"]),
        ('u1\t"A"\t1704067200\n', {"quote": "none"}, ['"A"']),
        ('u1,"A, ""B""",1704067200\n', {}, ['A, "B"']),
        ('u1,"A, \\"B\\"",1704067200\n', {}, ['A, "B"']),
        ('u1,"A\\\\",1704067200\n', {"escape": "backslash"}, ["A\\"]),
        ('u1,"C:\\",1704067200\nu2,"A,B",1704067260\n', {}, ["C:\\", "A,B"]),
        ("u1,'A,B',1704067200\n", {"quote": "'"}, ["A,B"]),
        ('u1,"A\nB, C",1704067200\nu2,"D,E",1704067260\n', {}, ["A\nB, C", "D,E"]),
    ],
)
def test_quotes_are_told_from_the_lines_or_set(tmp_path, text, options, item):
    mark = "\t" if "\t" in text else ","
    content = mark.join(["user_id", "item_id", "timestamp"]) + "\n" + text
    assert [row[1] for row in take(tmp_path, content.encode(), **options)] == item


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"ORC" + b"\1" * 600, "an ORC file"),
        (b"Obj\x01" + b"\1" * 600, "an Avro file"),
        (b"SQLite format 3\0" + b"\0" * 600, "a SQLite database"),
        (b"\x04\x22\x4d\x18" + b"\1" * 600, "packed with LZ4"),
    ],
)
def test_what_is_not_read_is_refused_by_name(tmp_path, content, kind):
    with pytest.raises(DataError, match=f"is {kind}, which is not read"):
        take(tmp_path, content)


def test_a_setting_says_the_format_where_the_content_does_not(tmp_path):
    content = b'{"a",item_id,timestamp\nu1,x,1704067200\n'
    assert take(tmp_path, content, format="csv", user_id='{"a"', quote="none") == [("u1", "x")]


@pytest.mark.parametrize("word", ["\\N", "NULL", "None", "nan", "<NA>"])
def test_null_words_are_no_ids_unless_the_setting_says_so(tmp_path, word):
    content = f"user_id,item_id,timestamp\n{word},x,1704067200\nu2,y,1704067260\n".encode()
    with pytest.raises(DataError, match="is one of null_words"):
        take(tmp_path, content)
    assert len(take(tmp_path, content, null_words=[])) == 2


@pytest.mark.parametrize(
    "item",
    ["[11,12]", "['a', 'b']", "11 12 13", "a1|b2|c3", "N1-1 N2-0", '{"id": 3}', "1.23E+12"],
)
def test_a_list_an_object_and_a_rounded_number_are_no_item(tmp_path, item):
    content = f"user_id\titem_id\ttimestamp\nu1\t{item}\t1704067200\nu2\ty\t1704067260\n".encode()
    with pytest.raises(DataError, match="where (one|an) id is expected"):
        take(tmp_path, content)


@pytest.mark.parametrize(
    "item", ["[unknown]", "Blink 182", "2 Fast 2 Furious", "{3F2504E0-4F89}", "AC/DC", "1e10", "v1.0"]
)
def test_names_that_only_look_so_are_items(tmp_path, item):
    content = f"user_id\titem_id\ttimestamp\nu1\t{item}\t1704067200\n".encode()
    assert take(tmp_path, content) == [("u1", item)]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (
            '{"user":{"id":"u1"},"items":[{"id":7}],"t":{"$date":{"$numberLong":"1704067200000"}}}',
            ("user.id", "items.0.id", "t"),
        ),
        ('{"user.id":"u1","i":{"$oid":"7"},"t":{"$date":1704067200000}}', ("user.id", "i", "t")),
        ('{"u":"u1","i":7.0,"t":"2024-01-01T00:00:00Z","x":NaN}', ("u", "i", "t")),
    ],
)
def test_nested_values_are_named_with_dots(tmp_path, line, names):
    user, item, time = names
    assert take(tmp_path, line.encode(), user_id=user, item_id=item, timestamp=time) == [("u1", "7")]


@pytest.mark.parametrize("number", ["12345678-1234-5678-1234-567812345678", "fff45678-1234-5678-1234-5678123456ff"])
def test_types_of_parquet_have_their_usual_text(tmp_path, number):
    number = uuid.UUID(number)
    table = pa.table(
        {
            "user_id": pa.array([number.bytes], pa.binary(16)),
            "item": pa.array([{"id": Decimal("7.00")}], pa.struct([("id", pa.decimal128(10, 2))])),
            "timestamp": pa.array([Decimal("1704067200.250")], pa.decimal128(20, 3)),
        }
    )
    assert take(tmp_path, parquet(table), item_id="item.id") == [(str(number), "7")]
    frame = Lake(str(tmp_path / "lake")).scan("interactions").collect()
    assert frame["timestamp"].dt.timestamp("ms").to_list() == [1704067200250]


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("encoding", "utf-9", "unknown encoding"),
        ("encoding", "base64", "unknown encoding"),
        ("quote", "both", "one letter"),
        ("timestamp_format", "dd.MM.yyyy", "give a pattern such as"),
        ("time_zone", "CEST/Berlin", "unknown time zone"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(setting, value, message):
    with pytest.raises(ValidationError, match=message):
        InteractionSource(files=["*"], **{setting: value})


def test_local_times_and_their_form_are_settings(tmp_path):
    content = b"user_id,item_id,timestamp\nu1,x,01/02/2024 00:30\n"
    take(tmp_path, content, timestamp_format="%d/%m/%Y %H:%M", time_zone="Europe/Berlin")
    frame = Lake(str(tmp_path / "lake")).scan("interactions").collect()
    assert frame["timestamp"].dt.to_string().to_list() == ["2024-01-31 23:30:00.000000+00:00"]


ITEMS = {
    "format": "csv", "encoding": "cp1251", "quote": "none", "escape": "doubled", "null_words": ["-"], "delimiter": "\t",
}  # fmt: skip


def test_the_look_counts_items_without_a_title_and_reads_items_as_their_settings_say(tmp_path):
    sources = config(tmp_path, PLAIN + b"u3,x,1704067300\n", "log.csv")
    (tmp_path / "raw" / "items").mkdir()
    (tmp_path / "raw" / "items" / "a").write_bytes('item_id\ttitle\nx\t"Солярис"\ny\t-\n'.encode("cp1251"))
    items = ItemSource(files=["items/*"], **ITEMS)
    both = SourcesConfig(root=sources.root, interactions=sources.interactions, items=items, max_untitled_fraction=0.5)
    found = preview.look(both)
    assert found.items[0].landing["title"].to_list() == ['"Солярис"', ""]
    assert found.warnings == [
        "2 of 3 items of the log have no title in the item files, more than sources.max_untitled_fraction = 0.5; are their ids "
        "written in another way there?, such as 'Amélie'"
    ]
    lake = Lake(str(tmp_path / "lake"))
    interactions.ingest(lake, both, through=date(2030, 1, 1), partition="day")
    item_files.ingest_items(lake, both)
    assert item_files.untitled(lake) == (2, 3)


def test_the_look_says_what_would_stop_a_night(tmp_path):
    sources = config(tmp_path, PLAIN, event_type="item_id", event_weights={"buy": 1})
    assert "turns down all 2 rows; the types are Amélie, Œuvre" in preview.look(sources).problems[0]
    (tmp_path / "raw" / "part-1").write_text("user,item_id,timestamp\n" + "u,i,1704067200\n" * 9)
    assert "no column 'user_id'" in preview.look(config(tmp_path, PLAIN)).problems[0]


def test_a_part_of_the_weights_that_never_occurs_is_told(tmp_path):
    sources = config(tmp_path, PLAIN, event_type="item_id", event_weights={"Amélie": 1, "Buy": 5})
    assert preview.look(sources).warnings == [
        "sources.interactions.event_weights names 'Buy', which no row has; the types are Amélie, Œuvre"
    ]


def test_a_last_line_that_waited_lands_once_whatever_its_time(tmp_path):
    lake, sources = Lake(str(tmp_path / "lake")), config(tmp_path, PLAIN.rstrip())
    reports = [interactions.ingest(lake, sources, through=date(2024, 1, day), partition="day") for day in (2, 3, 4)]
    assert [(report.inserted, report.postponed, report.earlier) for report in reports[:2]] == [(1, 1, 0), (1, 0, 1)]
    assert reports[2].files == []


def test_files_that_are_no_data_by_their_names_are_left_out(tmp_path):
    sources = config(tmp_path, PLAIN)
    for name in ("_SUCCESS", ".part-0.crc", "part-1.tmp", "_metadata"):
        (tmp_path / "raw" / name).write_bytes(b"no data")
    assert [Path(shown.file.path).name for shown in preview.look(sources).interactions] == ["part-0"]
