"""The product of a sparse weight and a batch, and its gradients: gathers and GEMMs.

All kernels compute features-first, y [n_out, B] = W^T x [n_in, B], because a block of
features is then one piece of memory. None scatters, but for the layout of `dense` on a
GPU: a gradient gathers along the pattern's transposed index. What wins depends on the
block:

- `blocks`: input blocks are gathered, and each output block is one matrix product.
- `groups`: the same, but the input gradient is a product for each output block
  whose rows are then gathered and summed; for input blocks of a node or a few.
- `elements`: fused multiply-adds of gathered rows; for single nodes.
- `dense`: the weight is laid out as a full matrix; for patterns that are nearly so.
- `pallas`: blocks read in place by a kernel for TPU or GPU (`tiles.py`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from dnc_jax.errors import InputError, check_known
from dnc_jax.sparse import tiles
from dnc_jax.sparse.choice import break_even, choose
from dnc_jax.sparse.gather import (
    CHUNK_BYTES,
    by_edge,
    by_output,
    chunked,
    column,
    columns_of,
    einsum,
    ends,
    floating,
    lookup_of,
    rows_of,
    sum_terms,
    wide_type,
)
from dnc_jax.sparse.pattern import Pattern
from dnc_jax.typing import Array

_PASS = 256  # columns of the batch that one pass reads
_VECTOR = 16  # float32 in an AVX-512 register


def matmul(
    weight: Array,
    pattern: Pattern,
    x: Array,
    *,
    impl: str = "auto",
    dtype: Any = None,
    forward_mode: bool = False,
) -> jax.Array:
    """W^T x of a sparse W: differentiable in `weight` and `x`.

    Gradients can be derived in both directions, so that `jax.hessian` and
    `jax.jvp(jax.grad(f), ...)` work ("pallas" only backwards). Under `shard_map`,
    "pallas" needs `check_vma=False` where it is interpreted; the others do not. On a
    GPU `jax.export` takes "pallas", and so "auto" with a batch of fixed size, only with
    its check of custom calls disabled for "__gpu$xla.gpu.triton"; the others it takes
    as they are.

    Args:
      weight: [E, b_in, b_out].
      pattern: of the same junction.
      x: [n_in, B]; whole numbers are taken as weight's type.
      impl: which kernel; "auto" is `choose(pattern, B)`.
      dtype: of the result; None is x's.
      forward_mode: let JAX derive the product by itself, so that `jax.jvp`,
        `jax.linearize` and `jax.jacfwd` take it too; gradients then scatter, and are
        many times slower. Not of "pallas".

    Returns:
      [n_out, B]; products are summed in float32 or better ("pallas" returns x's dtype
      rounded). The gradient of each argument has its dtype.

    Raises:
      InputError: an unknown kernel, blocks that "pallas" cannot take on a GPU, or
        "pallas" in forward mode.
    """
    check_known(IMPLS, impl=impl)
    weight, x = jnp.asarray(weight), floating(x, weight)
    if not x.size:
        return jnp.zeros((pattern.n_out, 0), dtype or x.dtype)
    if impl == "auto":
        impl = _auto(weight, pattern, x)
        impl = "blocks" if forward_mode and impl == "pallas" else impl
    weight, x = _varying_as(x, weight), _varying_as(weight, x)
    if not forward_mode:
        y: Any = _matmul(impl, weight, pattern, x)
    elif impl == "pallas":
        raise InputError(
            "impl = 'pallas' has no forward mode; 'auto' and 'blocks' have one"
        )
    else:
        y = _FORWARD[impl](weight, pattern, x)
    return y.astype(dtype or x.dtype)


def _auto(weight: jax.Array, pattern: Pattern, x: jax.Array) -> str:
    """What `choose` says, where that takes these arrays.

    Triton's grids are fixed, and it sums in float32: not for a batch that `jax.export`
    leaves open, nor for double precision.
    """
    impl = choose(pattern, columns_of(x))
    double = jnp.result_type(weight, x) == jnp.float64
    if impl == "pallas" and (double or not isinstance(x.shape[1], int)):
        return "dense"
    return impl


def _varying_as(other: jax.Array, array: jax.Array) -> jax.Array:
    """`array`, which under `shard_map` varies over the mesh axes that `other` does.

    A custom gradient must vary as its primal does. JAX adjusts the operands of a
    product by itself, and transposes that to the sum over devices; here the factor is
    a one, which the compiler removes.
    """
    one = jnp.where(True, 1, jax.lax.stop_gradient(other).ravel()[0])
    return array * one.astype(array.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _matmul(impl: str, weight: jax.Array, pattern: Pattern, x: jax.Array) -> jax.Array:
    return _FORWARD[impl](weight, pattern, x)


def _matmul_fwd(
    impl: str, weight: jax.Array, pattern: Pattern, x: jax.Array
) -> tuple[jax.Array, Any]:
    # Not `_matmul`, of which JAX could not derive the gradient forwards.
    return _FORWARD[impl](weight, pattern, x), (weight, pattern, x)


def _matmul_bwd(impl: str, saved: Any, dy: jax.Array) -> Any:
    weight, pattern, x = saved
    # Of half precision it was rounded on its way here already.
    d_weight, dx = _BACKWARD[impl](weight, pattern, x, dy.astype(x.dtype))
    return d_weight.astype(weight.dtype), None, dx.astype(x.dtype)


_matmul.defvjp(_matmul_fwd, _matmul_bwd)


def _gemm_forward(weight: jax.Array, pattern: Pattern, x: jax.Array) -> jax.Array:
    b_in, b_out = pattern.block
    # Flat, here and below: XLA copies arrays that have axes of one.
    blocks = x.reshape(-1, b_in * x.shape[1])
    weights = by_output(weight, pattern).reshape(pattern.blocks_out, -1, b_out)

    def outputs(weights: jax.Array, sources: jax.Array) -> jax.Array:
        gathered = blocks[sources].reshape(len(sources), -1, x.shape[1])
        return einsum("qio,qib->qob", weights, gathered)

    row_bytes = weights.shape[1] * columns_of(x) * x.dtype.itemsize
    return chunked(outputs, row_bytes, weights, pattern.sources).reshape(-1, x.shape[1])


def _gemm_d_weight(
    pattern: Pattern, x: jax.Array, dy: jax.Array, dtype: Any
) -> jax.Array:
    b_in, b_out = pattern.block
    blocks = x.reshape(-1, b_in * x.shape[1])

    def outputs(sources: jax.Array, dy: jax.Array) -> jax.Array:
        gathered = blocks[sources].reshape(len(sources), -1, x.shape[1])
        return einsum("qib,qob->qio", gathered, dy).astype(dtype)

    row_bytes = pattern.sources.shape[1] * b_in * columns_of(x) * x.dtype.itemsize
    d_weight = chunked(outputs, row_bytes, pattern.sources, rows_of(dy, b_out))
    return by_edge(d_weight.reshape(*pattern.sources.shape, b_in, b_out), pattern)


def _blocks_backward(
    weight: jax.Array, pattern: Pattern, x: jax.Array, dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    b_in, b_out = pattern.block
    blocks = dy.reshape(-1, b_out * dy.shape[1])
    lookup = lookup_of(weight, pattern.edges_out.size)

    def inputs(targets: jax.Array, edges: jax.Array) -> jax.Array:
        gathered = blocks[targets].reshape(len(targets), -1, dy.shape[1])
        # Transposed on purpose: XLA's CPU has two matrix products, and the one that it
        # takes for this layout makes better use of several cores.
        flat = lookup(edges).swapaxes(2, 3).reshape(len(targets), -1, b_in)
        return einsum("poi,pob->pib", flat, gathered).astype(x.dtype)

    row_bytes = pattern.targets.shape[1] * b_out * columns_of(x) * x.dtype.itemsize
    dx = chunked(inputs, row_bytes, pattern.targets, pattern.edges_out)
    return _gemm_d_weight(pattern, x, dy, weight.dtype), dx.reshape(x.shape)


def _groups_backward(
    weight: jax.Array, pattern: Pattern, x: jax.Array, dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    b_in, b_out = pattern.block
    weights = by_output(weight, pattern)
    edges = pattern.edges_out
    flat = weights.reshape(len(weights), -1, b_out)

    def inputs(dy: jax.Array) -> jax.Array:
        products = einsum("qko,qob->qkb", flat, rows_of(dy, b_out))
        products = by_edge(
            products.reshape(*pattern.sources.shape, b_in * dy.shape[1]), pattern
        )
        lookup = lookup_of(products, edges.size)
        dx = sum_terms(lambda k: lookup(column(edges, k)), edges.shape[1])
        return dx.reshape(-1, dy.shape[1]).astype(x.dtype)

    batch = columns_of(x)
    # Never less than a register's columns: products of single ones are slow.
    parts = -(-4 * flat.size // b_out * batch // CHUNK_BYTES)
    parts = min(parts, max(1, batch // _VECTOR))
    parts = next((p for p in range(parts, 2 * parts) if batch % p == 0), parts)
    if parts == 1 or batch != x.shape[1]:  # open under `jax.export`
        dx = inputs(dy)
    else:  # the products of all columns together would be large
        columns = -(-batch // parts)
        padded = jnp.pad(dy, ((0, 0), (0, parts * columns - batch)))
        split = padded.reshape(-1, parts, columns).swapaxes(0, 1)
        dx = lax.map(inputs, split).swapaxes(0, 1).reshape(len(x), -1)[:, :batch]
    return _gemm_d_weight(pattern, x, dy, weight.dtype), dx


def _elements_forward(weight: jax.Array, pattern: Pattern, x: jax.Array) -> jax.Array:
    blocks = rows_of(x, pattern.block[0]).astype(wide_type(x))
    weights = by_output(weight, pattern).astype(wide_type(x))

    def term(k: Any) -> jax.Array:
        return _outer_sum(column(weights, k), blocks[column(pattern.sources, k)])

    y = sum_terms(term, pattern.sources.shape[1])
    return y.reshape(-1, x.shape[1])


def _elements_backward(
    weight: jax.Array, pattern: Pattern, x: jax.Array, dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    b_in, b_out = pattern.block
    blocks = rows_of(dy, b_out).astype(wide_type(x))
    edges = pattern.edges_out
    weights = lookup_of(weight.astype(wide_type(x)), edges.size)(edges).swapaxes(2, 3)

    def term(k: Any) -> jax.Array:
        return _outer_sum(column(weights, k), blocks[column(pattern.targets, k)])

    dx = sum_terms(term, edges.shape[1]).reshape(x.shape)
    dx, x, dy = lax.optimization_barrier((dx, x, dy))

    if pattern.density > break_even("d_weight"):
        return _dense_d_weight(pattern, x, dy), dx

    # Dot products of rows, first as one register of partial sums for each: a loop
    # that reduces along a row is not vectorised, one that adds registers is.
    passes = -(-x.shape[1] // _PASS)
    tiles = -(-x.shape[1] // (passes * _VECTOR))
    missing = passes * tiles * _VECTOR - x.shape[1]
    tiles_x, tiles_y = (
        jnp.pad(
            rows_of(a, side).astype(wide_type(x)),
            ((0, 0), (0, 0), (0, missing)),
        )
        .reshape(-1, side, passes, tiles, _VECTOR)
        .transpose(2, 0, 3, 1, 4)
        for a, side in ((x, b_in), (dy, b_out))
    )  # [passes, P or Q, tiles, side, _VECTOR]

    def one_pass(tiles_x: jax.Array, tiles_y: jax.Array) -> jax.Array:
        def outputs(sources: jax.Array, tiles_y: jax.Array) -> jax.Array:
            total = jnp.zeros(())
            for tile in range(tiles):
                left = tiles_x[:, tile][sources]
                total += left[:, :, :, None] * tiles_y[:, tile][:, None, None]
            return total @ jnp.ones(_VECTOR, total.dtype)

        row_bytes = pattern.sources.shape[1] * b_in * b_out * _VECTOR * 4
        return chunked(outputs, row_bytes, pattern.sources, tiles_y)

    d_weight = one_pass(tiles_x[0], tiles_y[0])
    if passes > 1:
        d_weight, _ = lax.scan(
            lambda total, tiles: (total + one_pass(*tiles), None),
            d_weight,
            (tiles_x[1:], tiles_y[1:]),
        )
    return by_edge(d_weight, pattern), dx


def _outer_sum(weight: jax.Array, rows: jax.Array) -> jax.Array:
    """sum_i weight[r, i, o] * rows[r, i, b]: [R, O, B], unrolled over i."""
    return sum(
        weight[:, i, :, None] * rows[:, i, None, :] for i in range(weight.shape[1])
    )  # pyright: ignore


def _matrix(weight: jax.Array, pattern: Pattern, axes: str) -> jax.Array:
    """The weights in full, zeros without an edge: [n_out, n_in] for axes "oi"."""
    grid = (pattern.blocks_out, pattern.blocks_in)
    if _complete(pattern):
        blocks = weight.reshape(*grid, *pattern.block)
    elif pattern.cells is None and jax.default_backend() == "gpu":
        # The one scatter. Each block has a place of its own, and a GPU writes them
        # sooner than it searches who belongs to each cell (0.63 ms a step of single
        # nodes, 4096 x 4096 at 10 %, instead of 1.73 on an H200).
        sources, outputs = ends(pattern)
        single = pattern.block == (1, 1)
        values = weight.reshape(-1) if single else weight
        blocks = jnp.zeros((*grid, *values.shape[1:]), weight.dtype)
        blocks = blocks.at[outputs, sources].set(
            values, unique_indices=True, indices_are_sorted=True
        )
        blocks = blocks.reshape(*grid, *pattern.block)
    else:
        cells = jnp.asarray(_cells(pattern))
        blocks = lookup_of(weight, cells.size)(cells)
    if axes == "oi":
        return blocks.transpose(0, 3, 1, 2).reshape(pattern.n_out, pattern.n_in)
    return blocks.transpose(1, 2, 0, 3).reshape(pattern.n_in, pattern.n_out)


def _whole_rows(pattern: Pattern) -> str:
    """The axes whose layout moves whole rows of blocks, no single numbers."""
    return "oi" if pattern.block[1] == 1 else "io"


def _complete(pattern: Pattern) -> bool:
    return pattern.block_edges == pattern.blocks_in * pattern.blocks_out


def _cells(pattern: Pattern) -> Array:
    """The edge number of each pair of blocks, E for none: [Q, P] int32."""
    if pattern.cells is not None:
        return pattern.cells
    wanted = jnp.arange(pattern.blocks_in)
    sources = jnp.asarray(pattern.sources)
    place = jax.vmap(lambda row: jnp.searchsorted(row, wanted))(sources)
    place = jnp.minimum(place, sources.shape[1] - 1)
    found = jnp.take_along_axis(sources, place, 1) == jnp.expand_dims(wanted, 0)
    if pattern.edges_in is None:
        edges = place + sources.shape[1] * jnp.arange(len(sources))[:, None]
    else:
        edges = jnp.take_along_axis(jnp.asarray(pattern.edges_in), place, 1)
    return jnp.where(found, edges, pattern.block_edges)


def _dense_forward(weight: jax.Array, pattern: Pattern, x: jax.Array) -> jax.Array:
    axes = _whole_rows(pattern)
    return _dense_product(_matrix(weight, pattern, axes), x, along=axes.index("i"))


def _dense_backward(
    weight: jax.Array, pattern: Pattern, x: jax.Array, dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    axes = _whole_rows(pattern)
    dx = _dense_product(_matrix(weight, pattern, axes), dy, along=axes.index("o"))
    return _dense_d_weight(pattern, x, dy), dx


def _dense_product(matrix: jax.Array, x: jax.Array, along: int) -> jax.Array:
    """The sum over axis `along` of the matrix, and over the rows of x [n, B]."""
    if along == 1:
        return einsum("mn,nb->mb", matrix, x)
    if jax.default_backend() != "cpu":
        return einsum("nm,nb->mb", matrix, x)
    # XLA's CPU sums over a first axis slower than over a last one: 1024 x 1024 by a
    # tenth in batches of 256, six times in batches of 2 to 8. Turning the batch over,
    # and its result back, costs less; barriers keep it turned.
    turned = einsum("bn,nm->bm", lax.optimization_barrier(x.T), matrix)
    return lax.optimization_barrier(turned).T


def _dense_d_weight(pattern: Pattern, x: jax.Array, dy: jax.Array) -> jax.Array:
    """The full outer product, of which each edge takes its block."""
    b_in, b_out = pattern.block
    full = einsum(f"ob,ib->{_whole_rows(pattern)}", dy, x)
    if b_out > 1:
        full = full.reshape(pattern.blocks_in, b_in, pattern.blocks_out, b_out)
        full = full.transpose(2, 0, 1, 3)
    elif not _complete(pattern):
        # The barrier keeps XLA from a layout that it then copies, element by element.
        full = lax.optimization_barrier(full.reshape(-1))
    blocks = full.reshape(-1, b_in, b_out)
    if _complete(pattern):
        return blocks
    sources, outputs = ends(pattern)
    return lookup_of(blocks, len(blocks))(outputs * pattern.blocks_in + sources)


_FORWARD: dict[str, Callable[..., jax.Array]] = {
    "blocks": _gemm_forward,
    "groups": _gemm_forward,
    "elements": _elements_forward,
    "dense": _dense_forward,
    "pallas": tiles.product,
}
_BACKWARD: dict[str, Callable[..., tuple[jax.Array, jax.Array]]] = {
    "blocks": _blocks_backward,
    "groups": _groups_backward,
    "elements": _elements_backward,
    "dense": _dense_backward,
    "pallas": tiles.gradients,
}

IMPLS = ("auto", *_FORWARD)
