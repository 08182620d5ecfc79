"""Sums over the pixels of a batch, channel by channel, and what needs them.

XLA's CPU backend sums the leading axes of an array in four times the time that its
matrix product takes for the same (jax 0.10.2), and a convolutional network does so in
every layer, for biases and for batch norms. Here such sums are products with ones, on a
CPU; elsewhere they are sums.
"""

import jax
import jax.numpy as jnp

from dnc_jax.typing import Array


def total(x: jax.Array) -> jax.Array:
    """Sums over images and pixels: [B, H, W, C] to [C]."""
    if jax.default_backend() != "cpu":
        return x.sum((0, 1, 2))
    rows = x.reshape(-1, x.shape[-1])
    return (jnp.ones((1, len(rows)), x.dtype) @ rows)[0]


def mean(x: jax.Array) -> jax.Array:
    """Means over images and pixels: [B, H, W, C] to [C]."""
    return total(x) / (x.size // x.shape[-1])


@jax.custom_vjp
def add(x: jax.Array, shift: Array) -> jax.Array:
    """`x + shift`, of every channel its own: [B, H, W, C] and [C]."""
    return x + _spread(shift)


def _spread(values: Array) -> jax.Array:
    """[C] for all images and pixels."""
    return jnp.expand_dims(values, (0, 1, 2))


# None calls what it is the rule of: JAX could not derive that forwards.
add.defvjp(lambda x, shift: (x + _spread(shift), None), lambda _, g: (g, total(g)))


@jax.custom_vjp
def scale(x: jax.Array, factor: Array) -> jax.Array:
    """`x * factor`, of every channel its own: [B, H, W, C] and [C]."""
    return x * _spread(factor)


def _scale_backward(
    kept: tuple[jax.Array, Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, factor = kept
    return g * _spread(factor), total(g * x)


scale.defvjp(lambda x, factor: (x * _spread(factor), (x, factor)), _scale_backward)
