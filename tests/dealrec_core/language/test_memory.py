import pytest
import torch

from dealrec_core.language.memory import Parts, with_fewer_tokens

FULL = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
]


@pytest.mark.parametrize("error", FULL, ids=repr)
def test_work_begins_anew_with_half_of_the_tokens_until_it_fits(error):
    tried = []

    def work(tokens: int) -> str:
        tried.append(tokens)
        if tokens > 30:
            raise error
        return "done"

    assert with_fewer_tokens(100, work) == "done"
    assert tried == [100, 50, 25]


def test_what_never_fits_and_what_is_no_lack_of_memory_is_raised():
    def work(tokens: int) -> None:
        raise MemoryError(tokens)

    with pytest.raises(MemoryError, match="12"):
        with_fewer_tokens(100, work)

    def broken(parts: int) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        Parts().compute(8, broken)
