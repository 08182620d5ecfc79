"""A junction's three products by the kernels of `pallas.py`.

The output, the gradient of the input and that of the weight: each is the derivative of
the two others, so that they can be derived as often as one likes.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from dnc_jax.sparse.gather import ends, rows_of
from dnc_jax.sparse.pattern import Pattern


@jax.custom_vjp
def product(weight: jax.Array, pattern: Pattern, x: jax.Array) -> jax.Array:
    """The output [n_out, B], of the type of x [n_in, B]; weight is [E, b_in, b_out]."""
    from dnc_jax.sparse import pallas

    edges = pattern.edges_in
    if edges is None:
        edges = jnp.arange(pattern.block_edges, dtype=jnp.int32)
        edges = edges.reshape(pattern.sources.shape)
    y = pallas.gather_matmul(
        pattern.sources, edges, weight, rows_of(x, pattern.block[0]), transpose=True
    )
    return y[..., : x.shape[1]].reshape(-1, x.shape[1])


def gradients(
    weight: jax.Array, pattern: Pattern, x: jax.Array, dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Those of weight and x, by that of y, which is of x's type."""
    d_weight: Any = _weight_gradient(weight.dtype, pattern, x, dy)
    dx: Any = _input_gradient(weight, pattern, dy)
    return d_weight, dx


@jax.custom_vjp
def _input_gradient(weight: jax.Array, pattern: Pattern, dy: jax.Array) -> jax.Array:
    """That of x [n_in, B], by dy [n_out, B], of its type."""
    from dnc_jax.sparse import pallas

    dx = pallas.gather_matmul(
        pattern.targets,
        pattern.edges_out,
        weight,
        rows_of(dy, pattern.block[1]),
        transpose=False,
    )
    return dx[..., : dy.shape[1]].reshape(-1, dy.shape[1])


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _weight_gradient(
    dtype: Any, pattern: Pattern, x: jax.Array, dy: jax.Array
) -> jax.Array:
    """That of the weight [E, b_in, b_out], of this type, by x and dy [n_out, B]."""
    from dnc_jax.sparse import pallas

    b_in, b_out = pattern.block
    return pallas.edge_outer(
        *ends(pattern), rows_of(x, b_in), rows_of(dy, b_out), dtype=dtype
    )


def _product_bwd(saved: Any, dy: jax.Array) -> Any:
    weight, pattern, x = saved
    d_weight, dx = gradients(weight, pattern, x, dy)
    return d_weight, None, dx


def _input_gradient_bwd(saved: Any, d_dx: jax.Array) -> Any:
    weight, pattern, dy = saved
    d_weight = _weight_gradient(weight.dtype, pattern, d_dx, dy)
    return d_weight, None, product(weight, pattern, d_dx)


def _weight_gradient_bwd(dtype: Any, saved: Any, d_weight: jax.Array) -> Any:
    del dtype
    pattern, x, dy = saved
    return None, _input_gradient(d_weight, pattern, dy), product(d_weight, pattern, x)


# Each keeps what it was given.
product.defvjp(lambda *given: (product(*given), given), _product_bwd)
_input_gradient.defvjp(
    lambda *given: (_input_gradient(*given), given), _input_gradient_bwd
)
_weight_gradient.defvjp(
    lambda dtype, *given: (_weight_gradient(dtype, *given), given),
    _weight_gradient_bwd,
)
