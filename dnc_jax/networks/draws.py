"""Random weights of many shapes from few compiled generators."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from dnc_jax.typing import Array, Key

_LEAST = 2**16


def normals(key: Key, shape: tuple[int, ...]) -> Array:
    """What `jax.random.normal(key, shape)` draws, float32. Consumes `key`.

    Their number is rounded up to a power of two, so that a search's networks, all of
    different sizes, share a handful of generators; outside of a trace the rest is cut
    off in NumPy, which compiles nothing. What is drawn first does not depend on how
    much is drawn (`jax_threefry_partitionable`, JAX's default).
    """
    count = math.prod(shape)
    rounded = max(_LEAST, 1 << (count - 1).bit_length())
    return on_host(jax.random.normal(key, (rounded,), jnp.float32))[:count].reshape(
        shape
    )


def on_host(array: jax.Array) -> Array:
    """The array in NumPy; within a trace as it is."""
    try:
        return np.asarray(array)
    except jax.errors.TracerArrayConversionError:
        return array
