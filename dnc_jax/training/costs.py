"""What programs take: seconds, by a model of the machine, and memory."""

import math
from itertools import pairwise
from typing import NamedTuple

from dnc_jax.footprint.complexity import complexity
from dnc_jax.networks import CNN, Architecture
from dnc_jax.networks.convolution import Form
from dnc_jax.training import feed
from dnc_jax.training.shapes import Exact, Padded, Shape

# That a training step moves for each number of an image between two layers: activation,
# batch norm, pooling and what lays it out for the convolutions, there and back.
_IMAGE_BYTES = 40.0

# What compiling takes beyond that of dense layers, as shares of it, measured on 2 cores
# of an EPYC: 6.0 s instead of 2.2 for networks with sparse junctions, one or three
# (configs/mnist_mlp_sparse.py, 84 of them); 2.6, 4.2 and 3.9 s instead of 1.3 for 4, 6
# and 8 convolutions.
_SPARSE_COMPILING, _CONVOLUTION_COMPILING = 1.7, 0.3


class CostModel(NamedTuple):
    """Seconds that one core needs; only their ratios matter to a plan.

    The defaults were fitted on a 2-core AVX-512 CPU (jax 0.10.2) with a program on
    each core, over networks of 50 k to 640 k parameters and batches of 32 to 512;
    `machine.cost_model` has those of the machine at hand. The last four count on an
    accelerator, and are measured on one; their defaults keep to XLA's own convolution.

    Attributes:
      compile_seconds: of one program of dense layers, see `compile_seconds`.
      step_seconds: fixed cost of a step.
      flops_per_second: of the matrix products.
      bytes_per_second: of the optimiser, which reads and writes 10 numbers for each
        parameter, while a program's parameters and moments fit the core's cache; and
        of gathering and normalising the batch, which all lanes share.
      slow_bytes_per_second: of what does not fit.
      cache_bytes: of a core.
      workers: programs that run at a time; on an accelerator always one.
      grouped_flops_per_second: of the convolutions of one network in the form
        "grouped", there and back.
      beside_flops_per_second: what networks side by side take longer in that form:
        `flops * (lanes - 1) / beside_flops_per_second`.
      im2col_flops_per_second: of the products of the form "im2col", there and back.
      patch_bytes_per_second: of its patches, of 2 bytes a number, there and back.
    """

    compile_seconds: float = 1.6
    step_seconds: float = 1.2e-4
    flops_per_second: float = 1.4e11
    bytes_per_second: float = 2.5e10
    slow_bytes_per_second: float = 1.8e10
    cache_bytes: float = 4e6
    workers: int = 2
    grouped_flops_per_second: float = 1.4e11
    beside_flops_per_second: float = 1e18
    im2col_flops_per_second: float = 1.4e11
    patch_bytes_per_second: float = 1.8e10


class Workload(NamedTuple):
    """What every network of a rung has in common, and what it runs on.

    Attributes:
      inputs, outputs: of each network.
      rows, epochs: to train on; expected epochs, where a plan looks ahead.
      accelerator: whether it fills only with many networks at a time.
      memory_bytes: that one program may use.
      devices: that share the networks of a program, a chunk each at a time.
    """

    inputs: int
    outputs: int
    rows: int
    epochs: float
    accelerator: bool = False
    memory_bytes: float = math.inf
    devices: int = 1


def compile_seconds(shape: Shape, cost: CostModel) -> float:
    """Predicted seconds of compiling a program of this shape."""
    factor = 1.0
    if isinstance(shape, Exact):
        factor += _SPARSE_COMPILING * any(shape.network.sparsity)
        if isinstance(shape.network, CNN):
            factor += _CONVOLUTION_COMPILING * len(shape.network.channels)
    return factor * cost.compile_seconds


def run_seconds(shape: Shape, members: int, work: Workload, cost: CostModel) -> float:
    """Predicted seconds of all epochs of `work` for so many networks in `shape`."""
    steps, flops, moved, moved_slowly = demand(shape, work, cost.cache_bytes)
    step = (
        steps * cost.step_seconds
        + flops / cost.flops_per_second
        + moved / cost.bytes_per_second
        + moved_slowly / cost.slow_bytes_per_second
        + _convolution_seconds(shape, cost)
    )
    passes = -(-members // (shape.lanes * work.devices))
    return passes * work.epochs * max(1, work.rows // shape.batch_size) * step


def demand(
    shape: Shape, work: Workload, cache_bytes: float
) -> tuple[float, float, float, float]:
    """What a step takes of each rate of a cost model.

    Returns:
      The step itself, its FLOPs (without convolutions whose form was chosen, see
      `convolution_demand`), the bytes that it moves within the core's cache, and those
      beyond it.
    """
    parameters = shape.lanes * _parameters(shape, work)
    multiply_adds = parameters
    if isinstance(shape, Exact):
        multiply_adds = shape.lanes * useful_multiply_adds(shape.network)
        if shape.form:
            multiply_adds -= shape.lanes * _convolutions(shape.network)[0]
    moved = 40.0 * parameters
    state = 16.0 * parameters  # parameters, gradient and both moments
    missed = max(0.0, 1 - cache_bytes / state)
    images = 0.0
    if isinstance(shape, Exact) and isinstance(shape.network, CNN):
        numbers = shape.lanes * shape.batch_size * sum(_numbers(shape, work))
        images = _IMAGE_BYTES * numbers
    return (
        1.0,
        6.0 * multiply_adds * shape.batch_size,
        moved * (1 - missed) + 24.0 * shape.batch_size * work.inputs,
        moved * missed + images,
    )


def convolution_demand(
    form: Form, multiply_adds: int, patch_numbers: int, lanes: int, batch_size: int
) -> tuple[float, float]:
    """What convolutions take of the two rates of their form, there and back.

    Args:
      form: "grouped" or "im2col".
      multiply_adds: of one example in one lane.
      patch_numbers: of one example in one lane: nine for each output pixel and input
        channel.
      lanes, batch_size: of the program.

    Returns:
      FLOPs, and either FLOPs times the lanes beside each or the bytes of the patches.
    """
    flops = 6.0 * multiply_adds * lanes * batch_size
    if form == "grouped":
        return flops, flops * (lanes - 1)
    return flops, 2.0 * patch_numbers * lanes * batch_size


def _convolution_seconds(shape: Shape, cost: CostModel) -> float:
    """Of one step, for convolutions whose form was chosen."""
    if not isinstance(shape, Exact) or not shape.form:
        return 0.0
    rates = {
        "grouped": (cost.grouped_flops_per_second, cost.beside_flops_per_second),
        "im2col": (cost.im2col_flops_per_second, cost.patch_bytes_per_second),
    }[shape.form]
    demands = convolution_demand(
        shape.form, *_convolutions(shape.network), shape.lanes, shape.batch_size
    )
    return sum(demand / rate for demand, rate in zip(demands, rates, strict=True))


def _convolutions(network: Architecture) -> tuple[int, int]:
    """Multiply-adds of a CNN's dense convolutions, and the numbers of their patches."""
    multiply_adds = patch_numbers = 0
    if isinstance(network, CNN):
        sparsity = network.sparsity or (None,) * len(network.junctions)
        for (height, width), edges, n_out, sparse in zip(
            network.grids, network.edges, network.channels, sparsity, strict=False
        ):
            if not sparse:
                multiply_adds += height * width * edges
                patch_numbers += height * width * edges // n_out
    return multiply_adds, patch_numbers


def needed_bytes(shape: Shape, work: Workload) -> float:
    """Predicted bytes that a program of this shape needs, besides the data.

    Parameters, gradients, both moments and their next values; and for each example of
    a batch, what the backward pass needs of every layer, twice; and where convolutions
    are products of patches, those. Or, where that is more, the largest layer of the
    validation's many rows, there and back.
    """
    step = 8.0 * shape.batch_size * sum(_numbers(shape, work))
    if isinstance(shape, Exact) and shape.form == "im2col":
        step += 2.0 * shape.batch_size * _convolutions(shape.network)[1]
    validation = 8.0 * feed.EVALUATION_BATCH * max(_numbers(shape, work))
    state = 28.0 * _parameters(shape, work)
    return shape.lanes * (state + max(step, validation))


def _weights(shape: Padded, work: Workload) -> int:
    sizes = (work.inputs, *shape.hidden, work.outputs)
    return sum(a * b for a, b in pairwise(sizes))


def useful_multiply_adds(architecture: Architecture) -> int:
    """Of one example and the network as it is.

    Taps of a convolution that fall on padding count, unlike in `footprint.complexity`:
    a program computes them.
    """
    times = [1] * len(architecture.junctions)
    if isinstance(architecture, CNN):
        times = [*(height * width for height, width in architecture.grids), 1]
    return sum(t * edges for t, edges in zip(times, architecture.edges, strict=True))


def _parameters(shape: Shape, work: Workload) -> int:
    if isinstance(shape, Exact):
        return complexity(shape.network).parameters
    return _weights(shape, work) + sum(shape.hidden) + work.outputs


def _numbers(shape: Shape, work: Workload) -> list[int]:
    """That the backward pass needs of each layer, for an example in one lane."""
    if isinstance(shape, Padded):
        return [work.inputs, *shape.hidden, work.outputs]
    if isinstance(shape.network, CNN):
        pixels = [height * width for height, width in shape.network.grids]
        return [2 * p * c for p, c in zip(pixels, shape.network.channels, strict=True)]
    return list(shape.network.sizes)
