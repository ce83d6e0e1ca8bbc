"""Forms of raw files: containers, encodings, dialects, JSON, types. docs/forms.py writes the table in docs/lake.md from FORMS."""

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
from dealrec_core.ingest.raw.batch import ColumnMissing
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
QUOTED = "".join('"' + line.replace(",", '","') + '"\n' for line in CSV.splitlines())
FORMS = {
    "packing": {
        "gzip": gzip.compress(PLAIN),
        "zstd": zstandard.compress(PLAIN),
        "bzip2": bz2.compress(PLAIN),
        "xz": lzma.compress(PLAIN),
        "zip of one file": zipped(PLAIN),
    },
    "format": {
        "CSV": PLAIN,
        "JSON lines": JSON.encode(),
        "JSON objects without line ends": JSON.replace("\n", "").encode(),
        "a JSON array": f"[{JSON.strip().replace(chr(10), ',')}]".encode(),
        "JSON arrays in lines": "".join(f"[{line}]\n" for line in JSON.splitlines()).encode(),
        "JSON over several lines": JSON.replace(",", ",\n  ").encode(),
        'objects in an envelope ({"events": [...]})': f'{{"n":2,"events":[{JSON.strip().replace(chr(10), ",")}]}}'.encode(),
        "Python dictionaries": JSON.replace('"', "'").encode(),
        "Parquet": parquet(TABLE),
        "Parquet in gzip": gzip.compress(parquet(TABLE)),
    },
    "encoding": {
        "UTF-8": PLAIN,
        "UTF-8 with a byte order mark": b"\xef\xbb\xbf" + PLAIN,
        "UTF-16 with a mark": CSV.encode("utf-16"),
        "UTF-16 without a mark": CSV.encode("utf-16-be"),
        "UTF-32": CSV.encode("utf-32"),
        "Windows-1252 or Latin-1 (single accented letters between others)": CSV.encode("cp1252"),
        "JSON in UTF-16": JSON.encode("utf-16"),
    },
    "line end": {
        "of Unix": PLAIN,
        "of Windows": CSV.replace("\n", "\r\n").encode(),
        "of old Macs": CSV.replace("\n", "\r").encode(),
        "of old Macs below a header line with another": CSV.replace("\n", "\r").replace("\r", "\n", 1).encode(),
    },
    "delimiter": {
        "commas": PLAIN,
        "tabs": CSV.replace(",", "\t").encode(),
        "semicolons": CSV.replace(",", ";").encode(),
        "bars": CSV.replace(",", "|").encode(),
        "::": CSV.replace(",", "::").encode(),
        "Hive's ^A": CSV.replace(",", "\x01").encode(),
        "a first line sep=;": b"sep=;\n" + CSV.replace(",", ";").encode(),
        "types in the header (RecBole)": CSV.replace("_id,", "_id:token,").replace("stamp\n", "stamp:float\n").encode(),
    },
    "quotes": {
        "around every field": QUOTED.encode(),
        "around some fields": CSV.replace("Amélie", '"Amélie"').encode(),
        "single quotes in every line": QUOTED.replace('"', "'").encode(),
        "after a blank": CSV.replace("Amélie", ' "Amélie"').replace("Œuvre", ' "Œuvre"').encode(),
        'Excel\'s ="text"': CSV.replace("Amélie", '="Amélie"').encode(),
    },
}
"""Content of a file without an ending in its name, by kind and name of its form: docs/forms.py writes the page's table from it."""
READ = {form: content for forms in FORMS.values() for form, content in forms.items()}


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
        ('u1, "A", 1704067200\nu2, "B, C", 1704067260\n', {}, ["A", "B, C"]),
        ("'u1','A, B',1704067200\n", {}, ["A, B"]),
        ("u1,'t Hooft,1704067200\n", {}, ["'t Hooft"]),
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
    ["[11,12]", "['a', 'b']", "11 12 13", "a1|b2|c3", "N1-1 N2-0", '{"id": 3}', "1.23E+12", "1.23457e+11", "1,2E+12"],
)
def test_a_list_an_object_and_a_rounded_number_are_no_item(tmp_path, item):
    content = f"user_id\titem_id\ttimestamp\nu1\t{item}\t1704067200\nu2\ty\t1704067260\n".encode()
    with pytest.raises(DataError, match="where (one|an) id is expected"):
        take(tmp_path, content)


def test_what_is_rounded_or_a_list_by_its_type_is_no_item(tmp_path):
    times = {"user_id": ["u"] * 2, "timestamp": [1704067200, 1704067260]}
    rounded = parquet(pa.table({**times, "item_id": pa.array([2.0**24 + 2, 2.0**25], pa.float32())}))
    listed = b"user_id:token\titem_id:token_seq\ttimestamp:float\nu\ta b\t1704067200\n"
    written = b'{"user_id":"u","item_id":12345678901234567890.0,"timestamp":1704067200}'
    for content in (rounded, listed, written):
        with pytest.raises(DataError, match="where (one|an) id is expected"):
            take(tmp_path, content)


def test_objects_in_one_line_and_arrays_in_later_lines_are_rows(tmp_path):
    row = '{"user_id":"u","item_id":"%s","timestamp":1704067200}'
    content = f"{row % 1}\n{row % 2}\t{row % 3}\n[{row % 4}, {row % 5}]\n"
    assert [item for _, item in take(tmp_path, content.encode())] == ["1", "2", "3", "4", "5"]


def test_an_envelope_that_is_larger_than_a_record_counts_by_the_objects_in_it(tmp_path):
    row = '{"user_id":"u%d","item_id":"x","timestamp":1704067200,"more":"%s"}'
    content = ",".join(row % (number, "x" * 1000) for number in range(1200))
    sources = config(tmp_path, f'{{"data":[{content}]}}'.encode())
    report = interactions.ingest(Lake(str(tmp_path / "lake")), sources, through=date(2030, 1, 1), partition="day")
    assert (report.inserted, report.quarantined) == (1200, 2)  # the beginning and the end of the envelope are no rows


@pytest.mark.parametrize("damaged", [b'"u7', b'"\xff"'])
def test_a_damaged_envelope_counts_by_the_objects_in_it(tmp_path, damaged):
    row = b'{"user_id":"u%d","item_id":"x","timestamp":1704067200}'
    content = b'{"n": 1, "data": [' + b", ".join(row % number for number in range(200)) + b"]}\n"
    sources = config(tmp_path, content.replace(b'"u7"', damaged))
    report = interactions.ingest(Lake(str(tmp_path / "lake")), sources, through=date(2030, 1, 1), partition="day")
    assert (report.inserted, report.quarantined) == (
        199,
        3,
    )  # the object, and the beginning and the end of the envelope


def test_text_of_parquet_that_is_no_utf_8_is_refused(tmp_path):
    broken = pa.array([b"\xfa", b"u"]).cast(pa.binary()).view(pa.string())
    table = TABLE.set_column(0, "user_id", broken).set_column(2, "timestamp", pa.array(["no", "time"]))
    with pytest.raises(DataError, match="cannot read .*UTF8"):
        take(tmp_path, parquet(table))


def test_a_column_that_is_there_twice_is_refused_where_it_is_mapped(tmp_path):
    with pytest.raises(ColumnMissing, match="has 2 columns 'item_id'"):
        take(tmp_path, b"user_id,item_id,item_id,timestamp\nu,a,b,1704067200\n")
    with pytest.raises(ColumnMissing, match=r"no column 'user.id' in .* which has user, item_id"):
        take(tmp_path, b"user,item_id,timestamp\nu,a,1704067200\n", user_id="user.id")


def test_a_file_that_is_packed_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"is packed twice \(gzip in zip\)"):
        take(tmp_path, zipped(gzip.compress(PLAIN)))


def test_times_of_1970_in_a_column_of_another_unit_are_refused_with_their_value(tmp_path):
    moment = pa.array([1704067200], pa.timestamp("ms"))  # seconds, kept as milliseconds
    with pytest.raises(DataError, match="timestamp outside 1971 to 2200: '1970-01-20 17:21:07"):
        take(tmp_path, parquet(pa.table({"user_id": ["u"], "item_id": ["i"], "timestamp": moment})))


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


def test_the_look_warns_of_the_future_and_of_an_event_id_that_repeats_and_stops_where_no_row_is(tmp_path):
    sources = config(tmp_path, PLAIN + b"u3,Am,1704067300\n", event_id="user_id")
    assert preview.look(sources, today=date(2024, 1, 1)).warnings == []
    (warning,) = preview.look(sources, today=date(2023, 12, 31)).warnings
    assert warning.startswith("3 of 3 rows are later than today, the last on 2024-01-01, and wait")
    (tmp_path / "raw" / "part-0").write_text(CSV.replace("u2", "u1") + "u1,x,1704067300\n")
    assert "column 'user_id' has 1 values in 3 rows" in preview.look(sources).warnings[0]
    (tmp_path / "raw" / "part-0").write_text("user_id,item_id,timestamp\n")
    assert preview.look(sources).problems == [
        "no record in any of the 1 files that were looked at; is it the right pattern?"
    ]


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
