"""Mutated raw files: no crash, no hang, every row accounted for; writes benchmarks/results/torture_files.json.

Files of CSV (five delimiters, quotes, newlines inside quotes), JSON (lines, arrays, envelopes) and Parquet, plain, gz, zst and bz2,
are written from drawn records and then spoilt: bits flipped, bytes deleted, inserted or doubled, cut off, quotes and delimiters
swapped, headers damaged, line ends changed, BOM, NUL, invalid UTF-8; compressed ones before or after the compression. They are
ingested in loads of some hundred in a process of their own with a time limit; a load that fails is looked at file by file. Then the
books are compared with the tables, and, where it is defined, with an independent count of the records.
"""

import argparse
import bz2
import csv
import gzip
import hashlib
import io
import json
import multiprocessing
import os
import platform
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import zstandard

from dealrec_core.ingest import interactions
from dealrec_core.lake import Lake
from dealrec_core.settings.sources import InteractionSource, SourcesConfig

NAMES = {"user_id": "u", "item_id": "i", "timestamp": "t", "rating": "r", "event_type": "e"}
COLUMNS = list(NAMES.values())
DELIMITERS = {",": "csv", ";": "csv", "\t": "tsv", "|": "txt", "::": "dat"}
PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes, ".gz": lambda text: gzip.compress(text, mtime=0), ".zst": zstandard.compress, ".bz2": bz2.compress
}  # fmt: skip
UNPACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress, ".bz2": bz2.decompress, ".zst": lambda text: _unpack_zst(text)
}  # fmt: skip
LOAD_FILES, LOAD_LIMIT_S, FILE_LIMIT_S = 250, 600, 60
WORDS = ["a", "x 1", "ü", "", " ", "a,b", "a;b", "::", '"', 'say "hi"', "two\nlines", "-1", "9" * 25, "1e400", "nan", "../../x",
         "\u2028", "null", "0001-01-01", "9999-12-31", "2026-01-01T00:00:00+02:00", "=1+1", "\x1f", "z" * 600]  # fmt: skip


@dataclass(frozen=True)
class Spoilt:
    """A mutated file."""

    name: str
    content: bytes
    mutations: list[str]
    records: int | None
    """How many it has, where that is known from its making."""


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        result = torture(Path(scratch), files=options.files, seed=options.seed)
    result["command"] = f"python benchmarks/torture_files.py --files {options.files} --seed {options.seed}"
    result["machine"] = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, polars {pl.__version__}"
    )
    text = json.dumps(result, indent=1)
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text + "\n")
    sys.exit(1 if result["faults"] else 0)


def torture(folder: Path, *, files: int, seed: int) -> dict[str, Any]:
    """Ingests so many mutated files; what was found. No entry under `faults` means that all is right."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dealrec_core.ingest.interactions", "benchmarks.torture_files"])
    found: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    faults: list[str] = []
    start, peak = time.perf_counter(), 0
    for first in range(0, files, LOAD_FILES):
        numbers = range(first, min(first + LOAD_FILES, files))
        delimiter = "::" if first // LOAD_FILES % 5 == 4 else None
        spoilt = [spoil(random.Random(seed * 10**9 + number), number, delimiter) for number in numbers]
        kinds.update(mutation for each in spoilt for mutation in each.mutations)
        place = folder / f"load{first}"
        fault, memory = _apart(context, place, spoilt, delimiter, LOAD_LIMIT_S)
        peak = max(peak, memory)
        if fault:
            faults += _culprits(context, folder / f"apart{first}", spoilt, delimiter) or [fault]
        else:
            faults += check(place, spoilt, found, reasons)
        print(f"{first + len(spoilt)} files, {len(faults)} faults", file=sys.stderr, flush=True)
    return {
        "files": files,
        "seconds": round(time.perf_counter() - start, 1),
        "peak_mib": peak,
        "mutations": dict(sorted(kinds.items())),
        "found": dict(sorted(found.items())),
        "reasons": dict(reasons.most_common(25)),
        "faults": faults[:50],
    }


def _culprits(context: Any, folder: Path, spoilt: list[Spoilt], delimiter: str | None) -> list[str]:
    """The files of a load that fail alone."""
    found = []
    for number, each in enumerate(spoilt):
        fault, _ = _apart(context, folder / str(number), [each], delimiter, FILE_LIMIT_S)
        if fault:
            found.append(f"{each.name} {each.mutations}: {fault}; {each.content[:200]!r}")
    return found


def _apart(context: Any, place: Path, spoilt: list[Spoilt], delimiter: str | None, limit_s: int) -> tuple[str, int]:
    """Ingests in a process of its own: what went wrong ('' for nothing), and its peak memory in MiB."""
    raw = place / "raw"
    raw.mkdir(parents=True)
    for each in spoilt:
        (raw / each.name).write_bytes(each.content)
    mark = delimiter or ","
    (raw / "good.csv").write_text(f"{mark.join(COLUMNS)}\n{mark.join(['good', 'item', '1767225600', '1', 'view'])}\n")
    process = context.Process(target=_ingest, args=(str(place), delimiter))
    process.start()
    process.join(limit_s)
    if process.is_alive():
        process.kill()
        process.join()
        return f"hangs for more than {limit_s} s", 0
    word = place / "word"
    if process.exitcode != 0 or not word.exists():
        return f"ends with {process.exitcode}: {word.read_text() if word.exists() else ''}", 0
    return "", int(word.read_text())


def _ingest(place: str, delimiter: str | None) -> None:
    source = InteractionSource.model_validate(
        {"files": ["*"], "delimiter": delimiter, "filter": "user_id <> 'u7'", **NAMES}
    )
    config = SourcesConfig(root=f"{place}/raw", interactions=source, max_bad_fraction=1)
    word = Path(place) / "word"
    try:
        interactions.ingest(Lake(f"{place}/lake"), config, through=date(2026, 6, 1), partition="year")
    except BaseException:
        word.write_text(traceback.format_exc()[-400:])
        raise
    word.write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024))


# The comparison


def check(place: Path, spoilt: list[Spoilt], found: Counter[str], reasons: Counter[str]) -> list[str]:
    """Everything about the books of a load that does not agree with its tables or its files."""
    lake = Lake(str(place / "lake"))
    landed = Counter(lake.scan("interactions").select("file").collect()["file"].to_list())
    quarantine = lake.scan("quarantine").collect()
    reasons.update(quarantine["reason"].str.replace_all(r"'[^']*'", "…").str.slice(0, 60).to_list())
    bad: dict[str, list[int]] = {}
    for file, row in quarantine.select("file", "row").iter_rows():
        bad.setdefault(file, []).append(row)
    books = {row["file"]: row for row in lake.scan("files").collect().iter_rows(named=True)}
    faults = []
    for each in spoilt:
        sha = hashlib.sha256(each.content).hexdigest()
        row = books.get(sha)
        fault = "not in the books" if row is None else _fault(each, row, landed[sha], bad.get(sha, []))
        if fault:
            faults.append(f"{each.name} {each.mutations}: {fault}; {each.content[:200]!r}")
        if row is not None:
            is_broken = bad.get(sha) == [0]
            found.update(
                {name: row[name] for name in ("rows", "inserted", "duplicates", "quarantined", "filtered", "postponed")}
            )
            found["files broken as a whole"] += is_broken
            found["files with an independent count"] += not is_broken and count(each) is not None
    return faults


def _fault(each: Spoilt, row: dict[str, Any], landed: int, bad: list[int]) -> str:
    parts = ["earlier", "inserted", "duplicates", "quarantined", "filtered", "postponed"]
    if row["rows"] != sum(row[part] for part in parts):
        return f"books do not balance: {row}"
    refused = (
        row["rows"] if bad == [0] else len(bad)
    )  # a file that is refused counts all its rows, in one line of quarantine
    if (row["inserted"], row["quarantined"], len(set(bad))) != (landed, refused, len(bad)):
        return f"books say otherwise than the tables: {row}, {landed} landed, {sorted(bad)} in quarantine"
    if bad == [0]:
        return "" if is_breakable(each) else "broken as a whole, though it can be read"
    if bad and max(bad) > row["rows"]:
        return f"row {max(bad)} of {row['rows']} in quarantine"
    if row["rows"] < (least := least_rows(each)):
        return f"{row['rows']} rows, at least {least} are there"
    wanted = count(each)
    return "" if wanted is None or wanted == row["rows"] else f"{row['rows']} rows, counted {wanted}"


def is_breakable(each: Spoilt) -> bool:
    """Whether a file may be refused as a whole: not to be unpacked, no Parquet, a header without the columns or with one twice."""
    if not each.content:
        return True  # its books are those of whichever empty file came first
    text = _unpacked(each)
    if text is None or ".parquet" in each.name:
        return text is None or _parquet_rows(text) is None
    if ".json" in each.name:
        return False
    text = text.replace(b"\r\n", b"\n") if b"\n" in text else text.replace(b"\r", b"\n")
    header = text.removeprefix(b"\xef\xbb\xbf").lstrip(b"\n").split(b"\n")[0].decode(errors="replace")
    found = max([",", "\t", ";", "|", "::"], key=header.count)
    names = [name.strip().strip('"') for name in header.split(found)]
    return any(names.count(column) != 1 for column in COLUMNS) or '"' in header


def count(each: Spoilt) -> int | None:
    """The records of a file by other means than the product's, None where that is not defined."""
    if each.records is not None:
        return each.records
    text = _unpacked(each)
    if text is None:
        return None
    if ".parquet" in each.name:
        return _parquet_rows(text)
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return None  # UTF-16: these lines are of bytes
    if b"\n" not in text and b"\r" in text:
        text = text.replace(b"\r", b"\n")
    if b"\r" in text.replace(b"\r\n", b""):
        return None  # an old line end or part of a field: nobody can say
    lines = [line for line in text.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").split(b"\n") if line.strip()]
    if ".json" in each.name and ".jsonl" not in each.name:
        return None  # an array or an envelope that was spoilt: how many objects that makes nobody can say
    if ".jsonl" in each.name:
        return len(lines) if b"\0" not in text and all(map(_is_one_record, lines)) else None
    return None if b'"' in text else max(len(lines) - 1, 0)


def least_rows(each: Spoilt) -> int:
    """A number of rows that JSON has for certain: those of its lines in which an object begins."""
    text = _unpacked(each)
    if text is None or ".json" not in each.name or text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return 0
    if ".jsonl" not in each.name and text.count(b"[") > 1:
        return 0  # a record may hold others in a list of its own
    return sum(b"{" in line for line in text.split(b"\n"))


def _is_one_record(line: bytes) -> bool:
    """Whether a line of JSON is one record, whole or torn; text before or after an object may be a record of its own."""
    text = line.strip()
    return text.count(b"{") == 1 and text.startswith(b"{") and b"}" not in text[:-1]


def _parquet_rows(content: bytes) -> int | None:
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        return file.read(columns=COLUMNS).num_rows if {*COLUMNS} <= {*file.schema_arrow.names} else None
    except Exception:
        return None


def _unpacked(each: Spoilt) -> bytes | None:
    unpack = UNPACK.get(Path(each.name).suffix)
    try:
        return each.content if unpack is None else unpack(each.content)
    except Exception:
        return None


def _unpack_zst(content: bytes) -> bytes:
    out = b""
    while content:
        frame = zstandard.ZstdDecompressor().decompressobj()
        out += frame.decompress(content)
        if not frame.eof:
            raise EOFError
        content = frame.unused_data
    return out


# The files


def spoil(world: random.Random, number: int, delimiter: str | None) -> Spoilt:
    """A file of drawn records with up to four mutations."""
    format = world.choice(["csv", "csv", "csv", "jsonl", "jsonl", "json", "parquet"])
    rows = [_fields(world) for _ in range(world.choice([0, 1, 2, 8, 30, 120]))]
    mutations = [world.choice(list(MUTATIONS)) for _ in range(world.choice([0, 1, 1, 2, 4]))]
    if format == "parquet":
        content = _parquet(world, rows)
        for name in mutations:
            content = MUTATIONS[name](world, content)
        return Spoilt(f"{number}.parquet", content, ["parquet", *mutations], None if mutations else len(rows))
    suffix = world.choice([*PACK])
    mark = delimiter or world.choice([",", ",", ";", "\t", "|"])
    text = _csv(world, rows, mark) if format == "csv" else _json(rows)
    if format == "json":
        text = _array(world, text)
    is_after = suffix != "" and world.random() < 0.4
    for name in mutations if not is_after else []:
        text = MUTATIONS[name](world, text)
    content = PACK[suffix](text)
    for name in mutations if is_after else []:
        content = MUTATIONS[name](world, content)
    end = DELIMITERS[mark] if format == "csv" else format
    return Spoilt(f"{number}.{end}{suffix}", content, [end + suffix, *mutations], None if mutations else len(rows))


def _fields(world: random.Random) -> list[str]:
    fields = [
        f"u{world.randrange(50)}",
        f"i{world.randrange(99)}",
        str(1767225600 + world.randrange(10**7)),
        "1.5",
        "view",
    ]
    if world.random() < 0.3:
        fields[world.randrange(len(fields))] = world.choice(WORDS)
    return fields


def _csv(world: random.Random, rows: list[list[str]], mark: str) -> bytes:
    if len(mark) > 1:  # no quotes are usual there
        plain = [[field.replace("\n", " ").replace('"', "").replace(mark, "") for field in fields] for fields in rows]
        return "".join(mark.join(fields) + "\n" for fields in [COLUMNS, *plain]).encode()
    out = io.StringIO()
    style: Any = world.choice([csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
    writer = csv.writer(out, delimiter=mark, quoting=style, lineterminator=world.choice(["\n", "\r\n"]))
    out.write(mark.join(COLUMNS) + "\n")
    writer.writerows(rows)
    return out.getvalue().encode()


def _json(rows: list[list[str]]) -> bytes:
    return "".join(json.dumps(dict(zip(COLUMNS, fields, strict=True))) + "\n" for fields in rows).encode()


def _array(world: random.Random, lines: bytes) -> bytes:
    """The objects of lines in one array, or in an envelope around it."""
    array = b"[" + world.choice([b",\n", b", ", b",\n  "]).join(lines.splitlines()) + b"]"
    return world.choice([array, b'{"n": 1, "events": ' + array + b"}" if lines else array, array + b"\n"])


def _parquet(world: random.Random, rows: list[list[str]]) -> bytes:
    frame = pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String()), orient="row")
    if world.random() < 0.5:
        frame = frame.with_columns(pl.col("t").cast(pl.Int64, strict=False), pl.col("r").cast(pl.Float64, strict=False))
    out = io.BytesIO()
    frame.write_parquet(out, compression=world.choice(["zstd", "snappy", "uncompressed"]))
    return out.getvalue()


def _place(world: random.Random, content: bytes) -> int:
    return world.randrange(len(content) + 1)


def _flip(world: random.Random, content: bytes) -> bytes:
    spoilt = bytearray(content)
    for _ in range(world.choice([1, 1, 5]) if content else 0):
        spoilt[world.randrange(len(spoilt))] ^= 1 << world.randrange(8)
    return bytes(spoilt)


def _delete(world: random.Random, content: bytes) -> bytes:
    place = _place(world, content)
    return content[:place] + content[place + world.choice([1, 2, 20]) :]


def _insert(extra: Callable[[random.Random], bytes]) -> Callable[[random.Random, bytes], bytes]:
    def inserted(world: random.Random, content: bytes) -> bytes:
        place = _place(world, content)
        return content[:place] + extra(world) + content[place:]

    return inserted


def _double(world: random.Random, content: bytes) -> bytes:
    first, second = sorted((_place(world, content), _place(world, content)))
    return content[:second] + content[first:]


def _swap(world: random.Random, content: bytes) -> bytes:
    one, other = world.sample([b'"', b",", b";", b"\t", b"|", b":", b"\n", b"'", b"}", b"\\"], 2)
    place = _place(world, content)
    return content[:place] + content[place:].replace(one, other, world.choice([1, 3, -1]))


def _header(world: random.Random, content: bytes) -> bytes:
    header, newline, rest = content.partition(b"\n")
    return world.choice([header.upper(), b"", header[1:], header + b",,", b'"' + header, header * 2]) + newline + rest


MUTATIONS: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "flip": _flip,
    "delete": _delete,
    "cut": lambda world, content: content[: _place(world, content)],
    "double": _double,
    "swap": _swap,
    "header": _header,
    "bom": lambda _, content: b"\xef\xbb\xbf" + content,
    "crlf": lambda _, content: content.replace(b"\n", b"\r\n"),
    "mac": lambda _, content: content.replace(b"\n", b"\r"),
    "nul": _insert(lambda _: b"\0"),
    "utf8": _insert(lambda world: world.choice([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf0\x28"])),
    "bytes": _insert(lambda world: world.randbytes(world.choice([1, 8, 200]))),
    "quote": _insert(lambda _: b'"'),
    "newline": _insert(lambda world: world.choice([b"\n", b"\n\n", b"\r", b"\r\n"])),
    "utf16": lambda _, content: content.decode(errors="replace").encode("utf-16"),
    "nest": _insert(lambda _: b"[" * 5000),
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--scratch", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "torture_files.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
