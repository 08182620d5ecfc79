"""What a network costs, counted from its architecture alone."""

from typing import NamedTuple

from dnc_jax.networks import Architecture


class Complexity(NamedTuple):
    """Cost terms of one network.

    Attributes:
      parameters: trainable numbers, weights and biases.
      flops_per_example: floating-point operations of one forward pass of one
        example: 2 for each multiply-add, 1 for each bias addition. Activations
        are left out, as is usual.
    """

    parameters: int
    flops_per_example: int


def complexity(architecture: Architecture) -> Complexity:
    """Parameters and FLOPs of the true network, whatever padding it is trained in.

    An edge that a sparse junction has not costs nothing.

    >>> from dnc_jax.networks import MLP
    >>> complexity(MLP(784, (400, 400), 10))
    Complexity(parameters=478410, flops_per_example=956010)
    """
    weights = sum(architecture.edges)
    biases = sum(architecture.sizes[1:])
    return Complexity(weights + biases, 2 * weights + biases)
