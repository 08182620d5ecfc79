"""Data and a network for benchmarks in which only time is measured."""

import numpy as np

from dnc_jax.networks import CNN
from dnc_jax.training.data import Dataset, Split

LARGE = CNN((32, 32, 3), (32,) * 6, 10, downsampling=("", "pool", "", "pool", "", ""))


def pictures(rows: int, shape: tuple[int, ...]) -> Dataset:
    """Random pictures of 10 classes, a quarter as many of them for validation."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        x = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        return Split(x, (np.arange(count) % 10).astype(np.int32))

    held_out = split(max(10, rows // 4))
    ones = np.ones(1, np.float32)
    return Dataset("random", 10, split(rows), held_out, held_out, 128 * ones, ones / 64)
