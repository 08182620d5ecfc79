"""Block kernels in Pallas: tiles of the input are read where they lie.

Two products cover a junction and its gradient: `gather_matmul` (output, input
gradient) and `edge_outer` (weight gradient). Each is written for two machines. On a
TPU the index lists are prefetched scalars that choose the tiles which the pipeline
copies; on a GPU (Triton) a program loops over its list and loads tiles by address.
Everywhere else they are interpreted, which is slow and for tests. JAX means to give
Triton up for another backend and warns of it since 0.11; setup.py bounds its version.
"""

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import triton

from dnc_jax.errors import InputError
from dnc_jax.typing import Array

Machine = Literal["tpu", "gpu"]
_SIDES = (16, 32, 64, 128)  # of blocks that the kernels of a GPU take
_COLUMNS = 128  # of the batch in a tile
# On a GPU blocks of less than 64 fill a tile with twice as many columns, and a product
# is of _DEPTH numbers at a time, of which the loads run ahead: the fastest of those
# tried on an H200.
_WIDE_COLUMNS, _DEPTH = 256, 64
_TRITON = triton.CompilerParams(num_warps=4, num_stages=3)


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

    Raises:
      InputError: blocks that the kernels of a GPU cannot take.
    """
    machine, interpret = _machine(machine, weight.shape[1:])
    columns, x = _tiled(x, weight.shape[1:], machine)
    weight = jnp.asarray(weight)
    rows, degree = index.shape
    if rows * degree != len(weight):  # some places have no edge
        weight = jnp.pad(weight, ((0, 1), (0, 0), (0, 0)))
    side_in = x.shape[1]
    side_out = weight.shape[2] if transpose else weight.shape[1]
    out_shape = _like(x, (rows, side_out, x.shape[2]), x.dtype)
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
            compiler_params=_TRITON,
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

    Raises:
      InputError: as `gather_matmul`.
    """
    sides = x.shape[1], dy.shape[1]
    machine, interpret = _machine(machine, sides)
    columns, x = _tiled(x, sides, machine)
    dy = jnp.pad(dy, ((0, 0), (0, 0), (0, x.shape[2] - dy.shape[2])))
    count, steps = len(sources), x.shape[2] // columns
    out_shape = _like(x, (count, *sides), dtype or x.dtype)
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
            _edge_outer_gpu,
            out_shape=out_shape,
            grid=(count,),
            in_specs=[
                pl.BlockSpec((1,), lambda e: (e,)),
                pl.BlockSpec((1,), lambda e: (e,)),
                pl.BlockSpec(x.shape, lambda e: (0, 0, 0)),
                pl.BlockSpec(dy.shape, lambda e: (0, 0, 0)),
            ],
            out_specs=pl.BlockSpec((1, *sides), lambda e: (e, 0, 0)),
            compiler_params=_TRITON,
            interpret=interpret,
        )
    return call(sources, outputs, x, dy)


def _like(x: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """An array that varies over the same axes of a mesh as `x`, under `shard_map`."""
    axes = jax.typeof(x).manual_axis_type
    return jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=axes)


def _machine(machine: Machine | None, block: tuple[int, ...]) -> tuple[Machine, bool]:
    """Whose kernel to build, and whether it must be interpreted here.

    Raises:
      InputError: blocks that the kernels of a GPU cannot take.
    """
    backend = jax.default_backend()
    if machine is None:
        machine = "tpu" if backend == "tpu" else "gpu"
    if machine == backend == "gpu" and not set(block) <= set(_SIDES):
        raise InputError(
            f"blocks of {block[0]} x {block[1]} do not fit impl='pallas' on a GPU, "
            f"which takes sides of {', '.join(map(str, _SIDES))}; impl='auto' takes all"
        )
    return machine, backend != machine


def _tiled(x: Array, block: tuple[int, ...], machine: Machine) -> tuple[int, jax.Array]:
    """Columns in a tile, and x [n, side, B] with B filled up to whole tiles by zeros.

    Wide tiles are for blocks without a long side: the sums of one stay in registers.
    """
    wide = machine == "gpu" and max(block) < 64
    columns = _WIDE_COLUMNS if wide else _COLUMNS
    missing = -x.shape[2] % columns
    return columns, jnp.pad(jnp.asarray(x), ((0, 0), (0, 0), (0, missing)))


def _product(weight: Any, x: Any, transpose: bool) -> jax.Array:
    return _dot(weight.T if transpose else weight, x)


def _dot(left: Any, right: Any) -> jax.Array:
    """Of two tiles, in float32; Triton multiplies equal types only."""
    dtype = jnp.promote_types(left.dtype, right.dtype)
    return jnp.dot(
        left.astype(dtype), right.astype(dtype), preferred_element_type=jnp.float32
    )


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
    side = x.shape[1]
    depth = side if side % _DEPTH else _DEPTH
    parts = side // depth

    def add(step: Any, total: jax.Array) -> jax.Array:
        k = jax.lax.div(step, parts)
        part = pl.ds(jax.lax.rem(step, parts) * depth, depth)
        edge, block = edges[0, k], x[index[0, k], part]
        factor = weight[edge, part] if transpose else weight[edge, :, part]
        return total + _product(factor, block, transpose)

    zeros = jnp.zeros(out.shape[1:], jnp.float32)
    total = jax.lax.fori_loop(0, index.shape[1] * parts, add, zeros)
    out[0] = total.astype(out.dtype)


def _edge_outer_tpu(
    sources: Any, outputs: Any, x: Any, dy: Any, out: Any, total: Any
) -> None:
    step = pl.program_id(1)

    @pl.when(step == 0)
    def _() -> None:
        total[...] = jnp.zeros_like(total)

    total[...] += _dot(x[...], dy[...].T)

    @pl.when(step == pl.num_programs(1) - 1)
    def _() -> None:
        out[...] = total[...].astype(out.dtype)


def _edge_outer_gpu(sources: Any, outputs: Any, x: Any, dy: Any, out: Any) -> None:
    source, output = sources[0], outputs[0]

    def add(step: Any, total: jax.Array) -> jax.Array:
        tile = pl.ds(step * _DEPTH, _DEPTH)
        return total + _dot(x[source, :, tile], dy[output, :, tile].T)

    zeros = jnp.zeros(out.shape[1:], jnp.float32)
    total = jax.lax.fori_loop(0, x.shape[2] // _DEPTH, add, zeros)
    out[0] = total.astype(out.dtype)
