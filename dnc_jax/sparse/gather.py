"""Gathers along a pattern, and sums of them: what all kernels are made of."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from dnc_jax.sparse.pattern import Pattern
from dnc_jax.typing import Array

CHUNK_BYTES = 2**22  # gathered at a time: what the cores' caches hold
_USUAL_BATCH = 256
_UNROLL = 8  # rows that one fused loop of `sum_terms` reads


def einsum(formula: str, *operands: jax.Array) -> jax.Array:
    """An einsum that sums half precision in float32."""
    wide = jnp.promote_types(jnp.result_type(*operands), jnp.float32)
    return jnp.einsum(formula, *operands, preferred_element_type=wide)


def rows_of(x: jax.Array, side: int) -> jax.Array:
    """[n, B] as blocks [n / side, side, B]."""
    return x.reshape(-1, side, x.shape[-1])


def columns_of(x: jax.Array) -> int:
    """Of [n, B], B; a usual number where `jax.export` leaves B open."""
    return x.shape[1] if isinstance(x.shape[1], int) else _USUAL_BATCH


def lookup_of(blocks: jax.Array, asked: int) -> Callable[[Array], jax.Array]:
    """A function from edge numbers [...] to what belongs to them [..., *sides].

    Args:
      blocks: [E, *sides].
      asked: how many numbers in all will be asked for. Of E of them none is
        missing; else those equal to E give zeros.
    """
    count, *sides = blocks.shape
    mode = "promise_in_bounds" if asked == count else "fill"
    if sides != [1, 1]:
        return lambda edges: blocks.at[edges].get(mode=mode, fill_value=0)
    # Of single numbers XLA gathers much faster from one axis than from three.
    flat = blocks.reshape(-1)
    return lambda edges: (
        flat.at[edges].get(mode=mode, fill_value=0).reshape(*edges.shape, 1, 1)
    )


def by_output(weight: jax.Array, pattern: Pattern) -> jax.Array:
    """The weights of each output block: [Q, K, b_in, b_out]."""
    if pattern.edges_in is None:
        return weight.reshape(*pattern.sources.shape, *pattern.block)
    return lookup_of(weight, pattern.edges_in.size)(pattern.edges_in)


def by_edge(places: jax.Array, pattern: Pattern) -> jax.Array:
    """[Q, K, ...] as one entry for each edge [E, ...]: the inverse of `by_output`."""
    flat = places.reshape(-1, *places.shape[2:])
    return flat if pattern.slots is None else flat[pattern.slots]


def ends(pattern: Pattern) -> tuple[jax.Array, jax.Array]:
    """Input and output block of every edge: twice [E] int32."""
    sources = jnp.asarray(pattern.sources)
    outputs = lax.broadcasted_iota(jnp.int32, sources.shape, 0)
    return by_edge(sources, pattern), by_edge(outputs, pattern)


def chunked(function: Callable[..., Any], row_bytes: int, *arrays: Array) -> Any:
    """function(*arrays), a few rows at a time, so that what it gathers stays small."""
    rows = arrays[0].shape[0]
    wanted = max(1, CHUNK_BYTES // row_bytes)
    if wanted >= rows:
        return function(*arrays)
    size = max(d for d in range(1, wanted + 1) if rows % d == 0)
    if size * 2 < wanted:  # a count of rows with no fitting divisor
        return lax.map(
            lambda row: jax.tree.map(
                lambda a: a[0], function(*(jnp.expand_dims(r, 0) for r in row))
            ),
            arrays,
            batch_size=wanted,
        )
    parts = [a.reshape(rows // size, size, *a.shape[1:]) for a in arrays]
    out = lax.map(lambda part: function(*part), parts)
    return jax.tree.map(lambda a: a.reshape(rows, *a.shape[2:]), out)


def column(array: Array, k: Any) -> jax.Array:
    """array[:, k] for a k that may be a loop's counter."""
    return lax.dynamic_index_in_dim(jnp.asarray(array), k, axis=1, keepdims=False)


def sum_terms(term: Callable[[Any], jax.Array], count: int) -> jax.Array:
    """term(0) + ... + term(count - 1), `_UNROLL` terms a pass over the total."""
    first = count % _UNROLL or min(count, _UNROLL)

    def terms(start: Any, count: int) -> jax.Array:
        total = term(start)
        for k in range(1, count):
            total = total + term(start + k)
        return total

    def add(step: Any, total: jax.Array) -> jax.Array:
        return total + terms(first + step * _UNROLL, _UNROLL)

    # The first terms start the total, not zeros: under shard_map it must vary as
    # they do.
    return lax.fori_loop(0, (count - first) // _UNROLL, add, terms(0, first))


def floating(x: Array, weight: Array) -> jax.Array:
    """As it is; whole numbers (an image as stored) as numbers of weight's type."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(weight.dtype)


def wide_type(x: jax.Array) -> Any:
    """The type to sum in: float32 for half precision, else x's own."""
    return jnp.promote_types(x.dtype, jnp.float32)
