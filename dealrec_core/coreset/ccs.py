"""CCS (Zheng et al., ICLR 2023): drop the hardest, then stratify over the error norm with the smallest stratum first."""

from dealrec_core.coreset.base import Choice, Options, Pool
from dealrec_core.coreset.dealrec import stratified, with_own_prune

HARDEST = 0.3
"""β, the share of hardest samples that is dropped: the authors' value where 90% is pruned, the most that their examples prune."""


def choose(pool: Pool, options: Options) -> Choice:
    """Importance is `el2n` (N,); `hard_prune` is β, HARDEST where the options name none."""
    return stratified(pool.feature("el2n"), with_own_prune(options, HARDEST))
