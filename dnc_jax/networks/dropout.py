"""Dropout whose mask depends on an element's place, not on the array's shape.

`jax.random.bernoulli` gives the same unit another fate when the array around it is
padded. A population pads, so here the bits are a hash of (seed, row, column): a
padded network drops exactly the nodes that the unpadded one drops.
"""

import jax
import jax.numpy as jnp
from jax import lax

from dnc_jax.typing import Scalar

_ROW, _COLUMN = 0x9E3779B1, 0x85EBCA77  # odd constants that spread the counters


def mix(bits: jax.Array) -> jax.Array:
    """MurmurHash3's 32-bit finaliser: every input bit moves every output bit.

    Args:
      bits: uint32 of any shape.

    Returns:
      uint32 of the same shape.

    Reference: A. Appleby, MurmurHash3 (2011), `fmix32`.
    """
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)


def fold_in(seed: Scalar, data: Scalar) -> jax.Array:
    """A new seed from a seed and a counter, both uint32 of broadcastable shapes."""
    counter = jnp.asarray(data).astype(jnp.uint32) * jnp.uint32(_ROW)
    return mix(jnp.asarray(seed) ^ mix(counter + jnp.uint32(1)))


def dropout(x: jax.Array, rate: Scalar, seed: Scalar) -> jax.Array:
    """Zeroes each element with probability `rate`, scales the rest by 1 / (1 - rate).

    Args:
      x: [..., B, H] float.
      rate: [...] float in [0, 1), one for each leading index of `x`.
      seed: [...] uint32, likewise.

    Returns:
      [..., B, H], equal to `x` where rate is 0.

    Reference: N. Srivastava et al., "Dropout", JMLR 15 (2014), in its inverted form.
    """
    row = lax.broadcasted_iota(jnp.uint32, x.shape, x.ndim - 2)
    column = lax.broadcasted_iota(jnp.uint32, x.shape, x.ndim - 1)
    seed = jnp.expand_dims(jnp.asarray(seed), (-2, -1))
    bits = mix((row * jnp.uint32(_ROW)) ^ (column * jnp.uint32(_COLUMN) + seed))
    rate = jnp.expand_dims(jnp.asarray(rate, jnp.float32), (-2, -1))
    dropped = bits < (rate * 2.0**32).astype(jnp.uint32)
    return jnp.where(dropped, 0.0, x / (1 - rate)).astype(x.dtype)
