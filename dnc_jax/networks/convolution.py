"""3x3 convolutions, SAME padding, whose gradients are quick inside a loop on a CPU.

XLA's CPU backend rewrites a convolution into the one form that it runs fast (images
[B, H, W, C], kernels [H, W, I, O]) only outside of loops (jax issue 12868); the two
gradients that JAX writes have another form, and take 30 times as long inside `scan`.
Here both are written in that form.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from dnc_jax.typing import Array

_FORM = ("NHWC", "HWIO", "NHWC")
# The gradient of a weight sums over all pixels of a batch. In parts of about so many it
# takes two thirds of the time that it takes at once: what a part reads fits the cache.
_PIXELS, _LEAST_IMAGES, _MOST_PARTS = 4096, 8, 16
_LEAST_CHANNELS = 16  # with fewer, at once is faster


def convolution(x: Array, weight: Array, stride: int = 1) -> jax.Array:
    """Cross-correlation with zeros around the image.

    On a CPU in float32. On an accelerator factors and product are rounded to bfloat16,
    and the gradients, of the same type, left to JAX.

    Args:
      x: [B, H, W, I] float32.
      weight: [3, 3, I, O] float32.
      stride: 1 or 2, of both image axes.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), O] float32.
    """
    x, weight = jnp.asarray(x), jnp.asarray(weight)
    if jax.default_backend() == "cpu":
        return _canonical(x, weight, stride)
    half = (x.astype(jnp.bfloat16), weight.astype(jnp.bfloat16))
    return _correlate(*half, (stride, stride), "SAME").astype(jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _canonical(x: jax.Array, weight: jax.Array, stride: int) -> jax.Array:
    return _correlate(x, weight, (stride, stride), "SAME")


def _forward(x: jax.Array, weight: jax.Array, stride: int) -> Any:
    return _canonical(x, weight, stride), (x, weight)


def _backward(stride: int, kept: Any, gradient: jax.Array) -> Any:
    x, weight = kept
    taps, strides = weight.shape[:2], (stride, stride)
    before = [
        low for low, _ in lax.padtype_to_pads(x.shape[1:3], taps, strides, "SAME")
    ]
    sizes = list(zip(x.shape[1:3], gradient.shape[1:3], before, strict=True))
    # The gradient at an input pixel: of the outputs around it, by the turned kernel.
    around = [(2 - low, n - 1 - (m - 1) * stride + low) for n, m, low in sizes]
    turned = weight[::-1, ::-1].transpose(0, 1, 3, 2)
    to_x = _correlate(gradient, turned, (1, 1), around, lhs_dilation=strides)
    # Of a weight: the whole gradient is the kernel, the batch what is summed over.
    edge = [(low, 2 + (m - 1) * stride + 1 - n - low) for n, m, low in sizes]
    images = x.transpose(3, 1, 2, 0)  # [I, H, W, B]
    kernel = gradient.transpose(1, 2, 0, 3)  # [H', W', B, O]
    batch, pixels = x.shape[0], gradient.shape[1] * gradient.shape[2]
    part = max(_LEAST_IMAGES, _PIXELS // pixels, -(-batch // _MOST_PARTS))
    if x.shape[-1] < _LEAST_CHANNELS:
        part = batch
    parts = [
        _correlate(
            images[..., start : start + part],
            kernel[:, :, start : start + part],
            (1, 1),
            edge,
            rhs_dilation=strides,
        )
        for start in range(0, batch, part)
    ]
    return to_x, functools.reduce(jnp.add, parts).transpose(1, 2, 0, 3)


_canonical.defvjp(_forward, _backward)


def _correlate(
    x: jax.Array, weight: jax.Array, strides: Any, padding: Any, **dilation: Any
) -> jax.Array:
    return lax.conv_general_dilated(
        x, weight, strides, padding, dimension_numbers=_FORM, **dilation
    )
