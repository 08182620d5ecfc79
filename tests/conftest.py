"""What all tests share: strict JAX settings, and small problems that are quick."""

import jax
import numpy as np
import pytest

from dnc_jax.training import data

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    return data.load("digits")


@pytest.fixture(scope="session")
def small() -> data.Dataset:
    """Two noisy clouds of four classes: 160 training rows of 6 features."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 6)) * 2

    def split(rows: int) -> data.Split:
        y = rng.integers(0, 4, rows)
        return data.Split(
            (centres[y] + rng.normal(size=(rows, 6))).astype(np.float32), y
        )

    return data.from_arrays(split(200), split(60), name="clouds")
