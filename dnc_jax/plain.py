"""Plain Python values, which have hashes and go to JSON, of what NumPy and JAX have."""

import dataclasses
from typing import Any

import jax
import numpy as np


def plain(value: Any) -> Any:
    """Arrays and lists as tuples, NumPy's and JAX's scalars as numbers.

    >>> plain([np.int64(8), (np.float64(0.5), "relu")])
    (8, (0.5, 'relu'))
    """
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        value = value.tolist()
    # No named tuples, which are things of their own.
    return tuple(map(plain, value)) if type(value) in (list, tuple) else value


def make_plain(one: Any, kind: Any) -> None:
    """Makes fields of a frozen dataclass plain, those of `kind`, in `__post_init__`."""
    for field in dataclasses.fields(kind):
        object.__setattr__(one, field.name, plain(getattr(one, field.name)))
