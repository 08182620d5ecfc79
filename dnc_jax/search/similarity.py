"""How alike two candidates are, as Deep-n-Cheap has it: the kernel of its searches.

A difference of `share` of its range is at distance `3 * share**(1 / root)`, and a
distance d is a similarity of `exp(-d**2 / 2)`; a kernel is a mean of such similarities,
1 for equal candidates.

Reference: S. Dey et al., "Deep-n-Cheap" (2020), section on Bayesian optimisation.
"""

from collections.abc import Sequence

import numpy as np

FARTHEST = 3.0


def of_numbers(
    one: np.ndarray,
    other: np.ndarray,
    lower: float | int,
    upper: float | int,
    root: int = 1,
    scale: float = FARTHEST,
) -> np.ndarray:
    """Similarity of numbers, elementwise.

    >>> of_numbers(np.array([20, 115, 400]), np.array([20]), 20, 400).round(4).tolist()
    [1.0, 0.7548, 0.0111]

    Args:
      one, other: compared; they broadcast.
      lower, upper: of what they may be; if these are equal, so are all numbers.
      root: lets small differences count for more.
      scale: distance of the farthest.
    """
    if lower == upper:
        return np.ones(np.broadcast_shapes(np.shape(one), np.shape(other)))
    share = np.abs(one - other) / (upper - lower)
    return np.exp(-0.5 * (scale * share ** (1 / root)) ** 2)


def of_layers(
    ones: Sequence[Sequence[int]],
    others: Sequence[Sequence[int]],
    limits: Sequence[tuple[int, int]],
    scale: float = FARTHEST,
) -> np.ndarray:
    """Similarity of networks by the channels of their layers, [n, m].

    The mean over the layers of the deeper network; a layer that the other has not is as
    far as can be. Layer i, from 1, has the root min(i, 4): later ranges are wider, and
    the same difference counts for as much.

    Args:
      ones, others: channels of the layers of n and of m networks.
      limits: least and most channels of each layer that there may be.
      scale: distance of the farthest.
    """
    missing = np.exp(-0.5 * scale**2)
    total = np.zeros((len(ones), len(others)))
    for layer, (lower, upper) in enumerate(limits):
        a = np.array([c[layer] if layer < len(c) else np.nan for c in ones])[:, None]
        b = np.array([c[layer] if layer < len(c) else np.nan for c in others])
        both = of_numbers(a, b, lower, upper, min(layer + 1, 4), scale)
        neither = np.isnan(a) & np.isnan(b)
        one = np.isnan(a) ^ np.isnan(b)
        total += np.where(neither, 0.0, np.where(one, missing, both))
    depths = np.array([len(c) for c in ones])[:, None], np.array(list(map(len, others)))
    return total / np.maximum(*depths)


def of_hidden(
    ones: Sequence[Sequence[int]],
    others: Sequence[Sequence[int]],
    depth: tuple[int, int],
    widest: int,
    scale: float = FARTHEST,
) -> np.ndarray:
    """Similarity of multilayer perceptrons by their hidden layers, [n, m].

    The mean of that of all hidden nodes together (root 2) and that of the number of
    layers (root 1).

    Args:
      ones, others: nodes of the hidden layers of n and of m networks.
      depth: least and most hidden layers.
      widest: most nodes of a layer.
      scale: distance of the farthest.
    """
    nodes = [np.array([sum(hidden) for hidden in of]) for of in (ones, others)]
    layers = [np.array([len(hidden) for hidden in of]) for of in (ones, others)]
    by_nodes = of_numbers(nodes[0][:, None], nodes[1], 0, depth[1] * widest, 2, scale)
    by_layers = of_numbers(layers[0][:, None], layers[1], *depth, 1, scale)
    return (by_nodes + by_layers) / 2
