"""Block kernels in Pallas: tiles of the input are read where they lie.

Two products cover a junction and its gradient: `gather_matmul` (output, input
gradient) and `edge_outer` (weight gradient). Each is written for two machines. On a
TPU the index lists are prefetched scalars that choose the tiles which the pipeline
copies; on a GPU (Triton) a program loops over its list and loads tiles by address.
Everywhere else they are interpreted, which is slow and for tests.
"""

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import triton

from dnc_jax.typing import Array

Machine = Literal["tpu", "gpu"]
_COLUMNS = 128  # of the batch in a tile


def gather_matmul(
    index: Array,
    edges: Array,
    weight: Array,
    x: Array,
    *,
    transpose: bool,
    machine: Machine | None = None,
) -> jax.Array:
    """Sums, over each row of the lists, weight times block of x.

    out[r] = sum_k op(weight[edges[r, k]]) @ x[index[r, k]], where op transposes if
    asked.

    Args:
      index: [R, K] int32, blocks of x.
      edges: [R, K] int32, blocks of weight; E reads as zeros.
      weight: [E, I, O].
      x: [P, I, B] if `transpose`, else [P, O, B].
      transpose: of each block of weight.
      machine: whose kernel; None is the default backend's. A kernel that is not the
        backend's own is interpreted.

    Returns:
      [R, O, B] if `transpose`, else [R, I, B], of x's dtype; sums are float32.
    """
    columns, x = _tiled(x)
    weight = jnp.pad(jnp.asarray(weight), ((0, 1), (0, 0), (0, 0)))
    rows, degree = index.shape
    side_in = x.shape[1]
    side_out = weight.shape[2] if transpose else weight.shape[1]
    out_shape = jax.ShapeDtypeStruct((rows, side_out, x.shape[2]), x.dtype)
    machine, interpret = _machine(machine)
    if machine == "tpu":
        grid_spec = pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(rows, x.shape[2] // columns, degree),
            in_specs=[
                pl.BlockSpec(
                    (None, *weight.shape[1:]),
                    lambda r, b, k, index, edges: (edges[r, k], 0, 0),
                ),
                pl.BlockSpec(
                    (None, side_in, columns),
                    lambda r, b, k, index, edges: (index[r, k], 0, b),
                ),
            ],
            out_specs=pl.BlockSpec(
                (None, side_out, columns), lambda r, b, k, index, edges: (r, 0, b)
            ),
            scratch_shapes=[pltpu.VMEM((side_out, columns), jnp.float32)],
        )
        call = pl.pallas_call(
            partial(_gather_matmul_tpu, transpose=transpose),
            out_shape=out_shape,
            grid_spec=grid_spec,
            interpret=interpret,
        )
    else:
        call = pl.pallas_call(
            partial(_gather_matmul_gpu, transpose=transpose),
            out_shape=out_shape,
            grid=(rows, x.shape[2] // columns),
            in_specs=[
                pl.BlockSpec((1, degree), lambda r, b: (r, 0)),
                pl.BlockSpec((1, degree), lambda r, b: (r, 0)),
                pl.BlockSpec(weight.shape, lambda r, b: (0, 0, 0)),
                pl.BlockSpec((*x.shape[:2], columns), lambda r, b: (0, 0, b)),
            ],
            out_specs=pl.BlockSpec((1, side_out, columns), lambda r, b: (r, 0, b)),
            compiler_params=triton.CompilerParams(num_warps=8, num_stages=2),
            interpret=interpret,
        )
    return call(index, edges, weight, x)


def edge_outer(
    sources: Array,
    outputs: Array,
    x: Array,
    dy: Array,
    *,
    dtype: Any = None,
    machine: Machine | None = None,
) -> jax.Array:
    """Each edge's own block of the weight gradient: x[source] @ dy[output]^T.

    Args:
      sources, outputs: [E] int32.
      x: [P, I, B].
      dy: [Q, O, B].
      dtype: of the result; None is x's.
      machine: as in `gather_matmul`.

    Returns:
      [E, I, O]; sums are float32.
    """
    columns, x = _tiled(x)
    _, dy = _tiled(dy)
    count, steps = len(sources), x.shape[2] // columns
    sides = (x.shape[1], dy.shape[1])
    out_shape = jax.ShapeDtypeStruct((count, *sides), dtype or x.dtype)
    machine, interpret = _machine(machine)
    if machine == "tpu":
        grid_spec = pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(count, steps),
            in_specs=[
                pl.BlockSpec(
                    (None, sides[0], columns),
                    lambda e, b, sources, outputs: (sources[e], 0, b),
                ),
                pl.BlockSpec(
                    (None, sides[1], columns),
                    lambda e, b, sources, outputs: (outputs[e], 0, b),
                ),
            ],
            out_specs=pl.BlockSpec(
                (None, *sides), lambda e, b, sources, outputs: (e, 0, 0)
            ),
            scratch_shapes=[pltpu.VMEM(sides, jnp.float32)],
        )
        call = pl.pallas_call(
            _edge_outer_tpu,
            out_shape=out_shape,
            grid_spec=grid_spec,
            interpret=interpret,
        )
    else:
        call = pl.pallas_call(
            partial(_edge_outer_gpu, columns=columns),
            out_shape=out_shape,
            grid=(count,),
            in_specs=[
                pl.BlockSpec((1,), lambda e: (e,)),
                pl.BlockSpec((1,), lambda e: (e,)),
                pl.BlockSpec(x.shape, lambda e: (0, 0, 0)),
                pl.BlockSpec(dy.shape, lambda e: (0, 0, 0)),
            ],
            out_specs=pl.BlockSpec((1, *sides), lambda e: (e, 0, 0)),
            compiler_params=triton.CompilerParams(num_warps=8, num_stages=2),
            interpret=interpret,
        )
    return call(sources, outputs, x, dy)[:count]


def _machine(machine: Machine | None) -> tuple[Machine, bool]:
    """Whose kernel to build, and whether it must be interpreted here."""
    backend = jax.default_backend()
    if machine is None:
        machine = "tpu" if backend == "tpu" else "gpu"
    return machine, backend != machine


def _tiled(x: Array) -> tuple[int, jax.Array]:
    """Columns in a tile, and x with its batch filled up to whole tiles by zeros."""
    batch = x.shape[-1]
    missing = -batch % _COLUMNS
    return _COLUMNS, jnp.pad(jnp.asarray(x), ((0, 0), (0, 0), (0, missing)))


def _product(weight: Any, x: Any, transpose: bool) -> jax.Array:
    left = weight.T if transpose else weight
    return jnp.dot(left, x, preferred_element_type=jnp.float32)


def _gather_matmul_tpu(
    index: Any,
    edges: Any,
    weight: Any,
    x: Any,
    out: Any,
    total: Any,
    *,
    transpose: bool,
) -> None:
    step = pl.program_id(2)

    @pl.when(step == 0)
    def _() -> None:
        total[...] = jnp.zeros_like(total)

    total[...] += _product(weight[...], x[...], transpose)

    @pl.when(step == pl.num_programs(2) - 1)
    def _() -> None:
        out[...] = total[...].astype(out.dtype)


def _gather_matmul_gpu(
    index: Any, edges: Any, weight: Any, x: Any, out: Any, *, transpose: bool
) -> None:
    def add(k: Any, total: jax.Array) -> jax.Array:
        return total + _product(weight[edges[0, k]], x[index[0, k]], transpose)

    zeros = jnp.zeros(out.shape[1:], jnp.float32)
    total = jax.lax.fori_loop(0, index.shape[1], add, zeros)
    out[0] = total.astype(out.dtype)


def _edge_outer_tpu(
    sources: Any, outputs: Any, x: Any, dy: Any, out: Any, total: Any
) -> None:
    step = pl.program_id(1)

    @pl.when(step == 0)
    def _() -> None:
        total[...] = jnp.zeros_like(total)

    total[...] += jnp.dot(x[...], dy[...].T, preferred_element_type=jnp.float32)

    @pl.when(step == pl.num_programs(1) - 1)
    def _() -> None:
        out[...] = total[...].astype(out.dtype)


def _edge_outer_gpu(
    sources: Any, outputs: Any, x: Any, dy: Any, out: Any, *, columns: int
) -> None:
    source, output = sources[0], outputs[0]

    def add(step: Any, total: jax.Array) -> jax.Array:
        tile = pl.ds(step * columns, columns)
        return total + jnp.dot(
            x[source, :, tile],
            dy[output, :, tile].T,
            preferred_element_type=jnp.float32,
        )

    zeros = jnp.zeros(out.shape[1:], jnp.float32)
    total = jax.lax.fori_loop(0, x.shape[2] // columns, add, zeros)
    out[0] = total.astype(out.dtype)
