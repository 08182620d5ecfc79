"""Random crops and flips of a batch of images, inside the compiled step."""

import jax
import jax.numpy as jnp
from jax import lax

from dnc_jax.networks.dropout import fold_in, mix
from dnc_jax.training.data import View, normalise
from dnc_jax.typing import Array, Scalar

PADDING = 4  # pixels around the image that a crop may reach into


def crop_and_flip(images: Array, seed: Scalar) -> jax.Array:
    """Each image moved by up to 4 pixels, zeros coming in, and every other one turned.

    Args:
      images: [B, H, W, C] of any dtype.
      seed: [] uint32, another one for every batch.

    Returns:
      [B, H, W, C] of the same dtype.
    """
    images = jnp.asarray(images)
    count, height, width, _ = images.shape
    bits = mix(fold_in(seed, 0) + lax.iota(jnp.uint32, 3 * count))
    draws = bits.reshape(3, count).astype(jnp.int32) & 0x7FFFFFFF
    moves = 2 * PADDING + 1
    rows = jnp.expand_dims(draws[0] % moves, 1) + jnp.expand_dims(jnp.arange(height), 0)
    columns = jnp.expand_dims(jnp.arange(width), 0)
    flipped = jnp.expand_dims(draws[2] % 2 == 1, 1)
    columns = jnp.where(flipped, width - 1 - columns, columns)
    columns = columns + jnp.expand_dims(draws[1] % moves, 1)
    edges = ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0))
    batch = jnp.arange(count).reshape(count, 1, 1)
    return jnp.pad(images, edges)[
        batch, jnp.expand_dims(rows, 2), jnp.expand_dims(columns, 1)
    ]


def prepare(x: Array, view: View, step: Scalar) -> jax.Array:
    """A batch as a network in training sees it: [B, ...] to [B, D] float32.

    Args:
      x: examples as stored.
      view: of the training rows.
      step: [] int32, steps taken; chooses the crops of this batch.
    """
    if view.augment is not None:
        x = crop_and_flip(x, fold_in(view.augment, step))
    return normalise(x, view.mean, view.scale)
