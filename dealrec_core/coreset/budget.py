"""The size of a coreset: a number of samples, a share of them, tokens of an epoch, or minutes of tuning."""

from collections.abc import Callable

from dealrec_core.settings.coreset import CoresetConfig


def samples(config: CoresetConfig, pool_size: int) -> int:
    """Number of samples by the settings' count, or by ratio and least: at least 1, at most all.

    >>> samples(CoresetConfig(ratio=0.02), 5000), samples(CoresetConfig(count=1024), 5000), samples(CoresetConfig(), 3)
    (100, 1024, 1)
    >>> [samples(CoresetConfig(ratio=0.02, least=1024), size) for size in (100_000, 5000, 900)]
    [2000, 1024, 900]
    """
    return min(config.count or max(config.least, round(config.ratio * pool_size)), pool_size)


def counts_tokens(config: CoresetConfig) -> bool:
    """Whether the budget is one of tokens or minutes, so that the samples need a column `tokens`."""
    return bool(config.tokens or config.gpu_minutes)


def tokens(config: CoresetConfig, *, passes: float, measured: Callable[[], float]) -> int | None:
    """Tokens of one epoch that the settings allow; None where they name a number or a share of samples.

    passes: epochs over the coreset, with those over what is learnt again beside it. measured: returns a measured speed in tokens
    per second; it is called only for a budget in minutes without `tokens_per_second`.

    >>> tokens(CoresetConfig(gpu_minutes=2, tokens_per_second=100), passes=3, measured=lambda: 0.0)  # 2 · 60 · 100 / 3
    4000
    """
    if config.gpu_minutes is None:
        return config.tokens
    speed = config.tokens_per_second or measured()
    return int(config.gpu_minutes * 60 * speed / passes)
