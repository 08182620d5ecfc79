"""3x3 convolutions, SAME padding, in the form that suits the device.

On a CPU "canonical": XLA rewrites a convolution into the one form that it runs fast
there (images [B, H, W, C], kernels [H, W, I, O]) only outside of loops (jax issue
12868); the two gradients that JAX writes have another form, and take 30 times as long
inside `scan`. Here both are written in that form.

On an accelerator one of two. "grouped" is XLA's convolution: that of several networks
side by side is one convolution with a group for each, whose gradients XLA may expand
(jax issues 13800, 26266). "im2col" is a matrix product of all pixels' surroundings,
batched over networks, which moves nine times the image. A plan chooses between them.
"""

import functools
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from dnc_jax.typing import Array

Form: TypeAlias = Literal["canonical", "grouped", "im2col"]

TAPS = (3, 3)
_AXES = ("NHWC", "HWIO", "NHWC")
# The gradient of a weight sums over all pixels of a batch. In parts of about so many it
# takes two thirds of the time that it takes at once: what a part reads fits the cache.
_PIXELS, _LEAST_IMAGES, _MOST_PARTS = 4096, 8, 16
_LEAST_CHANNELS = 16  # with fewer, at once is faster


def convolution(
    x: Array, weight: Array, stride: int = 1, form: Form | None = None
) -> jax.Array:
    """Cross-correlation with zeros around the image.

    "canonical" computes in float32. In the other forms factors and product are rounded
    to bfloat16, and so are those of the gradients.

    Args:
      x: [B, H, W, I] float32.
      weight: [3, 3, I, O] float32.
      stride: 1 or 2, of both image axes.
      form: static; None is "canonical" on a CPU, "grouped" elsewhere.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), O] float32.
    """
    x, weight = jnp.asarray(x), jnp.asarray(weight)
    if form is None:
        form = "canonical" if jax.default_backend() == "cpu" else "grouped"
    if form == "canonical":
        return _canonical(x, weight, stride)
    weight = weight.astype(jnp.bfloat16)
    if form == "im2col":
        return im2col(x, weight, stride).astype(jnp.float32)
    half = x.astype(jnp.bfloat16)
    return _correlate(half, weight, (stride, stride), "SAME").astype(jnp.float32)


def im2col(x: jax.Array, weight: jax.Array, stride: int) -> jax.Array:
    """A convolution as one matrix product, in the type of the weight.

    The gradient of an image, summed over the nine places of its pixels, is of the
    image's type.

    Reference: K. Chellapilla et al., "High Performance Convolutional Neural Networks
    for Document Processing" (2006), section 3.
    """
    pads = lax.padtype_to_pads(x.shape[1:3], TAPS, (stride, stride), "SAME")
    image = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    # From the first output pixel to the last, in input pixels.
    height, width = ((-(-n // stride) - 1) * stride + 1 for n in x.shape[1:3])
    patches = jnp.concatenate(
        [
            image[:, row : row + height : stride, column : column + width : stride]
            for row in range(TAPS[0])
            for column in range(TAPS[1])
        ],
        axis=-1,
    )
    return patches.astype(weight.dtype) @ weight.reshape(-1, weight.shape[-1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _canonical(x: jax.Array, weight: jax.Array, stride: int) -> jax.Array:
    return _correlate(x, weight, (stride, stride), "SAME")


def _forward(x: jax.Array, weight: jax.Array, stride: int) -> Any:
    # Not `_canonical`, of which JAX could not derive the gradient forwards.
    return _correlate(x, weight, (stride, stride), "SAME"), (x, weight)


def _backward(stride: int, kept: Any, gradient: jax.Array) -> Any:
    x, weight = kept
    strides = (stride, stride)
    before = [
        low for low, _ in lax.padtype_to_pads(x.shape[1:3], TAPS, strides, "SAME")
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
        x, weight, strides, padding, dimension_numbers=_AXES, **dilation
    )
