"""Random weights of many shapes from few compiled generators."""

import contextlib
import math

import jax
import jax.numpy as jnp
import numpy as np

from dnc_jax.typing import Array, Key

_LEAST = 2**16


def weights(key: Key, shape: tuple[int, ...]) -> Array:
    """A fresh weight [..., I, O] as `scaled` makes it of `normals`. Consumes `key`."""
    return scaled(normals(key, shape))


def scaled(normals: Array) -> Array:
    """Of standard normals [..., I, O] a weight, of standard deviation sqrt(2 / fan_in).

    All axes but the last count as inputs. In NumPy for a NumPy array, which compiles
    nothing.

    Reference: K. He et al., "Delving Deep into Rectifiers" (2015), equation 10.
    """
    return normals * np.float32(np.sqrt(2 / math.prod(normals.shape[:-1])))


def normals(key: Key, shape: tuple[int, ...]) -> Array:
    """What `jax.random.normal(key, shape)` draws, float32. Consumes `key`.

    Their number is rounded up to a power of two, so that a search's networks, all of
    different sizes, share a handful of generators; outside of a trace the rest is cut
    off in NumPy, which compiles nothing. What is drawn first does not depend on how
    much is drawn (`jax_threefry_partitionable`, JAX's default).
    """
    count = math.prod(shape)
    rounded = max(_LEAST, 1 << (count - 1).bit_length())
    drawn: Array = jax.random.normal(key, (rounded,), jnp.float32)
    # Within a trace it stays as it is.
    with contextlib.suppress(jax.errors.TracerArrayConversionError):
        drawn = np.asarray(drawn)
    return drawn[:count].reshape(shape)
