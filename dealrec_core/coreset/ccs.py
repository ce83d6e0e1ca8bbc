"""CCS (Zheng et al., ICLR 2023): drop the hardest, then stratify over the error norm with the smallest stratum first."""

from dealrec_core.coreset.base import Choice, Options, Pool
from dealrec_core.coreset.dealrec import stratified


def choose(pool: Pool, options: Options) -> Choice:
    """Importance is `el2n` (N,); the share β of hardest samples dropped is `hard_prune`."""
    return stratified(pool.feature("el2n"), options)
