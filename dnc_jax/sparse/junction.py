"""One sparse junction, of nodes or of channels, as pure `init` and `apply` functions.

Parameters hold one weight for each edge and nothing else: `weight` is
[E, b_in, b_out] (for convolutions [height, width, E, b_in, b_out]), `bias` [n_out].
The pattern is an argument of its own, so that it is never a compiled-in constant.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dnc_jax.errors import InputError, check_known
from dnc_jax.plain import plain
from dnc_jax.sparse import gather, kernels
from dnc_jax.sparse.pattern import Pattern
from dnc_jax.typing import Array, Key


def init(
    key: Key,
    pattern: Pattern,
    *,
    bias: float | None = 0.0,
    dtype: Any = jnp.float32,
) -> dict[str, jax.Array]:
    """Fresh parameters of a junction. Consumes `key`.

    Weights are normal with a standard deviation of sqrt(2 / fan_in), where fan_in is
    the number of edges that the output really has.

    Args:
      key: consumed.
      pattern: which edges there are.
      bias: initial value of every bias; None for none.
      dtype: of the parameters.

    Returns:
      `weight` [E, b_in, b_out] and `bias` [n_out].

    Raises:
      InputError: bias is True or False.

    Reference: K. He et al., "Delving Deep into Rectifiers" (2015), equation 10.
    """
    return _init(key, pattern, (), bias, dtype)


def apply(
    params: Any,
    pattern: Pattern,
    x: Array,
    *,
    axis: int = -1,
    impl: str = "auto",
    forward_mode: bool = False,
) -> jax.Array:
    """The junction's output: x times its weights, plus its biases.

    Args:
      params: as `init` returns them; without `bias` none is added.
      pattern: of the same junction.
      x: [..., n_in]; or [n_in, ...] with `axis=0`, the layout that the kernels
        compute in. A network that keeps it from end to end saves transposes. Whole
        numbers (an image as stored) are taken as the weight's type.
      axis: of the features, -1 or 0.
      impl, forward_mode: which kernel, and how it is derived; see `kernels.matmul`.

    Returns:
      [..., n_out] (or [n_out, ...]) of x's dtype.

    Raises:
      InputError: x or the parameters do not fit the pattern.
    """
    params = _arrays(params)
    x = gather.floating(x, params["weight"])
    if axis not in (0, -1):
        raise InputError(f"axis must be 0 or -1, got {axis}")
    if not x.ndim or x.shape[axis] != pattern.n_in:
        raise InputError(
            f"x of shape {x.shape} has not the {pattern.n_in} features (axis {axis}) "
            "that the pattern reads"
        )
    _check(params, pattern, ())

    def junction(params: Any, pattern: Pattern, x: jax.Array) -> jax.Array:
        columns = x if axis == 0 else jnp.moveaxis(x, -1, 0)
        rest = columns.shape[1:]
        y = kernels.matmul(
            params["weight"],
            pattern,
            columns.reshape(pattern.n_in, -1),
            impl=impl,
            dtype=gather.wide_type(x),
            forward_mode=forward_mode,
        )
        if "bias" in params:
            y = y + jnp.expand_dims(params["bias"], 1)
        y = y.astype(x.dtype).reshape(pattern.n_out, *rest)
        return y if axis == 0 else jnp.moveaxis(y, 0, -1)

    rows = [number for number in range(x.ndim) if number != axis % x.ndim]
    return _on_any_mesh(junction, params, pattern, x, rows)


def conv_init(
    key: Key,
    pattern: Pattern,
    *,
    kernel_size: int | tuple[int, int] = (3, 3),
    bias: float | None = 0.0,
    dtype: Any = jnp.float32,
) -> dict[str, jax.Array]:
    """Fresh parameters of a convolution from channels to channels. Consumes `key`.

    An edge of the pattern is a whole kernel of `kernel_size`; fan_in counts its taps.

    Returns:
      `weight` [height, width, E, b_in, b_out] and `bias` [n_out].

    Raises:
      InputError: a side of the kernel below 1, or bias is True or False.
    """
    return _init(key, pattern, _pair("kernel_size", kernel_size), bias, dtype)


def conv_apply(
    params: Any,
    pattern: Pattern,
    x: Array,
    *,
    strides: int | tuple[int, int] = (1, 1),
    padding: str = "SAME",
    impl: str = "auto",
    forward_mode: bool = False,
) -> jax.Array:
    """Cross-correlation with a sparse set of channel-to-channel kernels.

    One sparse product for each tap of the kernel, so that no array of patches is
    ever made, in the forward pass or for the gradient.

    Args:
      params: as `conv_init` returns them; without `bias` none is added.
      pattern: from input channels to output channels.
      x: [B, height, width, n_in]; whole numbers as in `apply`.
      strides: of the two image axes, or of both.
      padding: "SAME" or "VALID", as in `jax.lax.conv_general_dilated`.
      impl, forward_mode: which kernel, and how it is derived; see `kernels.matmul`.

    Returns:
      [B, height', width', n_out] of x's dtype.

    Raises:
      InputError: x or the parameters do not fit the pattern, unknown padding, a stride
        below 1, or an image that is smaller than the kernel and not padded.
    """
    strides = _pair("strides", strides)
    params = _arrays(params)
    x = gather.floating(x, params["weight"])
    if x.ndim != 4 or x.shape[-1] != pattern.n_in:
        raise InputError(
            f"x of shape {x.shape} is not [B, height, width, {pattern.n_in}], "
            "the channels that the pattern reads"
        )
    taps = params["weight"].shape[:2]
    _check(params, pattern, taps)
    check_known(("SAME", "VALID"), padding=padding)
    pads = jax.lax.padtype_to_pads(x.shape[1:3], taps, strides, padding)
    padded = [size + sum(pad) for size, pad in zip(x.shape[1:3], pads, strict=True)]
    if padded[0] < taps[0] or padded[1] < taps[1]:
        raise InputError(
            f"an image of {padded[0]} x {padded[1]} pixels is smaller than "
            f"the kernel of {taps[0]} x {taps[1]}; pad it, or use padding='SAME'"
        )

    def convolution(params: Any, pattern: Pattern, x: jax.Array) -> jax.Array:
        image = jnp.pad(x, ((0, 0), *pads, (0, 0)))
        product = partial(kernels.matmul, impl=impl, forward_mode=forward_mode)
        return _correlated(params, pattern, image, strides, product)

    return _on_any_mesh(convolution, params, pattern, x, rows=[0])


def _correlated(
    params: Any,
    pattern: Pattern,
    x: jax.Array,
    strides: tuple[int, int],
    product: Callable[..., jax.Array],
) -> jax.Array:
    """The convolution of padded images [B, height, width, n_in]."""
    weight, image = params["weight"], jnp.moveaxis(x, -1, 0)
    taps = weight.shape[:2]
    sizes = [
        (size - tap) // stride + 1
        for size, tap, stride in zip(image.shape[2:], taps, strides, strict=True)
    ]
    spans = [(size - 1) * s + 1 for size, s in zip(sizes, strides, strict=True)]

    # Without the checkpoint every tap would keep its shifted copy for the gradient.
    @jax.checkpoint
    def tap(weight: jax.Array, image: jax.Array, top: Array, left: Array) -> jax.Array:
        shifted = jax.lax.dynamic_slice(
            image, (0, 0, top, left), (*image.shape[:2], *spans)
        )[:, :, :: strides[0], :: strides[1]]
        columns = shifted.reshape(pattern.n_in, -1)
        return product(weight, pattern, columns, dtype=gather.wide_type(x))

    tops, lefts = np.divmod(np.arange(taps[0] * taps[1]), taps[1])
    flat = weight.reshape(-1, *weight.shape[2:])
    # In float32 or better: rounded to half precision once, not after each tap.
    total = tap(flat[0], image, tops[0], lefts[0])
    if len(flat) > 1:
        total, _ = jax.lax.scan(
            lambda total, step: (total + tap(step[0], image, *step[1:]), None),
            total,
            (flat[1:], jnp.asarray(tops[1:]), jnp.asarray(lefts[1:])),
        )
    if "bias" in params:
        total = total + jnp.expand_dims(params["bias"], 1)
    total = total.astype(x.dtype)
    return jnp.moveaxis(total.reshape(pattern.n_out, x.shape[0], *sizes), 0, -1)


def _on_any_mesh(
    function: Callable[..., jax.Array],
    params: Any,
    pattern: Pattern,
    x: jax.Array,
    rows: Sequence[int],
) -> jax.Array:
    """function(params, pattern, x), also of arrays on a mesh of explicit axes.

    There JAX asks for the sharding of each reshape; within, the compiler decides.

    Args:
      function: keeps the axes `rows` of x, the others of its result are features.
      params, pattern, x: its arguments.
      rows: those axes, which stay sharded as they are.
    """
    shardings = [jax.typeof(array).sharding for array in (x, params["weight"])]
    mesh = next((s.mesh for s in shardings if s.mesh.explicit_axes), None)
    if mesh is None:
        return function(params, pattern, x)
    kept = [s if axis in rows else None for axis, s in enumerate(shardings[0].spec)]
    automatic: Any = jax.sharding.auto_axes(
        function,
        axes=mesh.explicit_axes,
        out_sharding=jax.NamedSharding(mesh, jax.P(*kept)),
    )
    return automatic(params, pattern, x)


def _init(
    key: Key, pattern: Pattern, taps: tuple[int, ...], bias: float | None, dtype: Any
) -> dict[str, jax.Array]:
    if isinstance(bias, bool | np.bool_):
        raise InputError(
            f"bias is the initial value of every bias, or None for none; got {bias}"
        )
    shape = (*taps, pattern.block_edges, *pattern.block)
    fan_in: Any = pattern.sources.shape[1]
    if pattern.edges_in is not None:
        degrees = jnp.sum(pattern.edges_in < pattern.block_edges, axis=1)
        fan_in = jnp.expand_dims(degrees[gather.ends(pattern)[1]], (1, 2))
    scale = jnp.sqrt(2 / (fan_in * pattern.block[0] * math.prod(taps)))
    normals = jax.random.normal(key, shape, jnp.float32)
    if taps:
        scale = jnp.broadcast_to(scale, shape)
    params = {"weight": (normals * scale).astype(dtype)}
    if bias is not None:
        params["bias"] = jnp.full(pattern.n_out, bias, dtype)
    return params


def _pair(name: str, sides: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width, which one number gives both."""
    pair: Any = plain(sides)
    pair = pair if isinstance(pair, tuple) else (pair, pair)
    if len(pair) != 2 or not all(isinstance(side, int) for side in pair):
        raise InputError(f"{name} must be a whole number or two, got {sides!r}")
    if min(pair) < 1:
        raise InputError(f"{name} must be >= 1, got {sides}")
    return pair


def _arrays(params: Any) -> dict[str, jax.Array]:
    """The parameters themselves of what holds them, such as Flax's `nnx.Param`."""
    return {name: jnp.asarray(value) for name, value in params.items()}


def _check(params: Any, pattern: Pattern, taps: tuple[int, ...]) -> None:
    """The parameters must be those of a junction with this pattern."""
    wanted = {
        "weight": (*taps, pattern.block_edges, *pattern.block),
        "bias": (pattern.n_out,),
    }
    for name, value in params.items():
        if name not in wanted or value.shape != wanted[name]:
            raise InputError(
                f"parameter {name!r} of shape {value.shape} does not fit the pattern, "
                f"whose parameters are {wanted}; was it made for another one?"
            )
