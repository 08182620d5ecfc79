"""What a network costs, counted from its architecture alone.

One function describes each kind of architecture, layer by layer; all else is sums.
"""

import math
from functools import cache, singledispatch
from typing import NamedTuple

from dnc_jax.networks import CNN, MLP

# Of a training step beside the products, as XLA counts them: Adam with weight decay by
# parameter; bias, activation, dropout and their gradients by activation; the batch
# norm's statistics and gradients by activation (some 20 by hand; on a CPU XLA sums by
# products with ones and computes some of it twice, 20 to 100 in networks that were
# counted); normalising by input.
_OPTIMIZER_FLOPS = 17
_ACTIVATION_FLOPS = 5
_BATCH_NORM_FLOPS = 40
_INPUT_FLOPS = 2
_BYTES = 4  # float32
EVALUATION_BATCH = 1000  # rows validated at a time, see `training.feed`


class Complexity(NamedTuple):
    """Cost terms of one network.

    Attributes:
      parameters: trainable numbers, weights and biases.
      flops_per_example: floating-point operations of one forward pass of one
        example: 2 for each multiply-add, 1 for each bias addition, comparison of a
        max-pool and addition of a shortcut or mean, 2 for each number that a batch
        norm scales and moves. Activations are left out, as is usual, and so are taps
        of a convolution that fall on padding.
    """

    parameters: int
    flops_per_example: int


class Layer(NamedTuple):
    """A junction and what follows it, for one example.

    Attributes:
      parameters: weights, biases, and scale and offset of a batch norm.
      multiply_adds: of its product.
      other_flops: of biases, pooling, batch norm and shortcuts.
      numbers: that the product writes.
      kept: of them after pooling, which the activation reads.
      batch_norm: whether it has one.
    """

    parameters: int
    multiply_adds: int
    other_flops: int
    numbers: int
    kept: int
    batch_norm: bool = False


class Work(NamedTuple):
    """What a stretch of computation takes.

    Attributes:
      flops: floating-point operations.
      bytes_moved: to and from memory if nothing stayed in a cache between two
        operations but inside them: a model, not a measurement.
    """

    flops: int
    bytes_moved: int

    def times(self, count: int) -> "Work":
        """So many of it."""
        return Work(self.flops * count, self.bytes_moved * count)


@singledispatch
def layers(architecture: object) -> tuple[Layer, ...]:
    """The layers of a network; each kind of architecture registers its own function."""
    raise TypeError(f"the cost of {architecture!r} is not known")


@layers.register
def _(architecture: MLP) -> tuple[Layer, ...]:
    return tuple(
        Layer(edges + n_out, edges, n_out, n_out, n_out)
        for edges, (_, n_out) in zip(
            architecture.edges, architecture.junctions, strict=True
        )
    )


@layers.register
def _(architecture: CNN) -> tuple[Layer, ...]:
    result, size = [], architecture.image[:2]
    inputs = []  # (height, width) of each layer's input
    # Each of these properties goes through all layers.
    edges, grids = architecture.edges, architecture.grids
    starts = architecture.shortcut_starts
    for layer, one in enumerate(architecture.convolutions):
        inputs.append(size)
        channels, weights = architecture.channels[layer], edges[layer]
        taps = _taps(size[0], one.stride) * _taps(size[1], one.stride)
        numbers = math.prod(grids[layer]) * channels
        size = one.halved(size)
        kept = size[0] * size[1] * channels
        other = numbers + 2 * kept * one.batch_norm
        if one.pool:
            other += numbers - kept  # comparisons: one less than pixels in a window
        if layer - 1 in starts:
            other += _shortcut_flops(architecture, layer - 1, inputs[layer - 1], size)
        result.append(
            Layer(
                weights + channels + 2 * channels * one.batch_norm,
                weights // 9 * taps,
                other,
                numbers,
                kept if one.pool else numbers,
                one.batch_norm,
            )
        )
    mean = size[0] * size[1] * architecture.channels[-1]
    last, outputs = edges[-1], architecture.outputs
    return (*result, Layer(last + outputs, last, outputs + mean, outputs, outputs))


def complexity(architecture: MLP | CNN) -> Complexity:
    """Parameters and FLOPs of the true network, whatever padding it is trained in.

    An edge that a sparse junction has not costs nothing.

    >>> complexity(MLP(784, (400, 400), 10))
    Complexity(parameters=478410, flops_per_example=956010)
    """
    parts = layers(architecture)
    return Complexity(
        sum(part.parameters for part in parts),
        sum(2 * part.multiply_adds + part.other_flops for part in parts),
    )


def step_work(architecture: MLP | CNN, batch_size: int) -> Work:
    """One step of training with Adam: forward, backward, update.

    Each product comes back twice in the backward pass, for the gradients of weights
    and inputs; the first one only once, because nobody asks for the gradient of the
    examples. Left out: the loss, and the random bits of dropout.

    The bytes: 10 for each parameter's 4 (Adam reads it, both moments and the gradient
    and writes three; two passes read it, one writes its gradient), and each activation
    written and read in the forward pass, read again in the backward pass, and its
    gradient written and read.
    """
    parts = layers(architecture)
    products = sum(part.multiply_adds for part in parts)
    numbers = sum(part.numbers for part in parts)
    activated = sum(part.kept for part in parts)
    normed = sum(part.kept for part in parts if part.batch_norm)
    parameters = sum(part.parameters for part in parts)
    each = (
        2 * (3 * products - parts[0].multiply_adds)
        + sum(part.other_flops for part in parts)
        + _ACTIVATION_FLOPS * activated
        + _BATCH_NORM_FLOPS * normed
        + _INPUT_FLOPS * architecture.inputs
    )
    moved = 10 * parameters + batch_size * (5 * numbers + 2 * architecture.inputs)
    return Work(batch_size * each + _OPTIMIZER_FLOPS * parameters, _BYTES * moved)


def inference_work(architecture: MLP | CNN, examples: int) -> Work:
    """One forward pass of a batch: parameters read, activations written and read."""
    cost = complexity(architecture)
    numbers = sum(part.numbers for part in layers(architecture))
    moved = cost.parameters + examples * (2 * numbers + architecture.inputs)
    return Work(examples * cost.flops_per_example, _BYTES * moved)


def training_work(
    architecture: MLP | CNN,
    batch_size: int,
    train_rows: int,
    validation_rows: int,
    epochs: int,
) -> Work:
    """Training for some epochs with the validation after each.

    Args:
      architecture: what is trained.
      batch_size: cut to the number of rows; rows beyond the last full batch wait.
      train_rows, validation_rows: of the data.
      epochs: of training.
    """
    batch_size = min(batch_size, train_rows)
    steps = step_work(architecture, batch_size).times(train_rows // batch_size)
    validation = inference_work(architecture, validation_rows)
    # The parameters are read again for each batch of rows.
    again = (-(-validation_rows // EVALUATION_BATCH) - 1) * _BYTES
    again *= complexity(architecture).parameters
    flops = steps.flops + validation.flops
    moved = steps.bytes_moved + validation.bytes_moved + again
    return Work(flops, moved).times(epochs)


@cache
def _taps(size: int, stride: int) -> int:
    """Taps of a 3-wide kernel that fall on one side of the image, in all positions.

    >>> _taps(4, 1), _taps(4, 2), _taps(5, 2)
    (10, 5, 7)
    """
    positions = -(-size // stride)
    before = max((positions - 1) * stride + 3 - size, 0) // 2
    return sum(
        0 <= position * stride + tap - before < size
        for position in range(positions)
        for tap in range(3)
    )


def _shortcut_flops(
    architecture: CNN, first: int, before: tuple[int, int], after: tuple[int, int]
) -> int:
    """Of the additions, and of the averages over 2 x 2 pixels that bring it to size."""
    channels, (height, width), flops = architecture.channels[first - 1], before, 0
    while (height, width) != after:
        flops += height * width * channels  # each pixel is added to one mean
        height, width = -(-height // 2), -(-width // 2)
    return flops + height * width * channels
