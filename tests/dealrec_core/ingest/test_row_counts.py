import gzip

import polars as pl
import pytest
import zstandard

from dealrec_core.ingest import row_counts
from dealrec_core.ingest.sources import RawFile

LINES = b"".join(b"u%05d,i%03d,%d\n" % (row, row % 500, 1_700_000_000 + row) for row in range(100_000))


def files(folder) -> list[RawFile]:
    return [RawFile(str(path), "", path.stat().st_size) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("pack", [lambda text: text, gzip.compress, zstandard.compress], ids=["csv", "gz", "zst"])
def test_rows_are_estimated_from_the_largest_file_of_an_ending(tmp_path, monkeypatch, pack):
    monkeypatch.setattr(row_counts, "SAMPLED_BYTES", 2**20)
    ending = {b"\x1f\x8b": ".gz", b"\x28\xb5": ".zst"}.get(pack(LINES)[:2], "")
    (tmp_path / f"a.csv{ending}").write_bytes(pack(LINES))
    (tmp_path / f"b.csv{ending}").write_bytes(pack(LINES[: len(LINES) // 2]))
    assert row_counts.estimate(files(tmp_path)) == pytest.approx(150_000, rel=0.25)


def test_a_parquet_file_says_how_many_rows_it_has(tmp_path):
    pl.DataFrame({"user_id": range(12_345)}).write_parquet(tmp_path / "a.parquet")
    assert row_counts.estimate(files(tmp_path)) == 12_345
    assert row_counts.estimate([]) == 0


def test_a_broken_file_stops_no_estimate(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(LINES)[:9])
    assert row_counts.estimate(files(tmp_path)) == 0
    (tmp_path / "whole.csv.gz").write_bytes(gzip.compress(b"u,i,t\n"))
    assert row_counts.estimate(files(tmp_path)) == pytest.approx(1, abs=1)
    pl.DataFrame({"user_id": range(500)}).write_parquet(tmp_path / "b.parquet")
    assert row_counts.estimate(files(tmp_path)) >= 500
