import polars as pl
import pytest

from dealrec_core.errors import NotFinite
from tasks.naming import naming

SAMPLES = pl.DataFrame({"sample_id": [f"s{number}" for number in range(20)]})


def raised(rows=()) -> NotFinite:
    error = NotFinite("a gradient is nan")
    error.rows = rows
    return error


def test_a_number_that_is_not_finite_is_told_with_the_ids_of_its_samples():
    with pytest.raises(NotFinite, match="^a gradient is nan; samples s3, s5$"), naming(SAMPLES):
        raise raised([3, 5])
    with (
        pytest.raises(NotFinite, match="^a gradient is nan; samples s0, s1, s2, s3, s4, s5, s6, s7, …$"),
        naming(SAMPLES),
    ):
        raise raised(range(20))
    with pytest.raises(NotFinite, match="^a gradient is nan; samples s7$"), naming(SAMPLES, lambda: [7]):
        raise raised()
    with pytest.raises(NotFinite, match="^a gradient is nan$"), naming(SAMPLES):
        raise raised()
