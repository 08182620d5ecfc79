"""Scatter: how evenly the paths through a pattern spread over its inputs."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from dnc_jax.errors import InputError
from dnc_jax.sparse.pattern import Pattern


class Scatter(NamedTuple):
    """Scores in [0, 1], 1 where every window gets its share of paths.

    Attributes:
      forward: of each junction, from its outputs back to windows of its inputs.
      backward: of each junction, from its inputs to windows of its outputs.
      end_to_end: the same two for the product of all junctions.
      worst: the least of all these.
    """

    forward: tuple[float, ...]
    backward: tuple[float, ...]
    end_to_end: tuple[float, float]
    worst: float


def scatter(patterns: Sequence[Pattern], *, windows: int | None = None) -> Scatter:
    """The scatter of a network's junctions, alone and together.

    For a window of neighbouring inputs and an output, `actual` is the number of paths
    that join them and `ideal` is the window's size times the number of paths into an
    output, over the number of inputs. The score is the mean of min(1, actual / ideal)
    over windows and outputs.

    Args:
      patterns: first junction to last.
      windows: in how many windows to part the nodes of a layer, at most one for each
        node; None takes, for each score, as many as a node has edges (paths), so that
        the ideal is one where there are no more paths than nodes.

    Raises:
      InputError: no patterns, junctions that do not follow one another, or windows
        below 1.

    Reference: S. Dey et al., "Characterizing Sparse Connectivity Patterns in Neural
    Networks" (2017), arXiv 1711.02131.
    """
    if not patterns:
        raise InputError("scatter needs at least one pattern, got none")
    if windows is not None and windows < 1:
        raise InputError(f"windows must be >= 1 or None, got {windows}")
    for one, other in pairwise(patterns):
        if one.n_out != other.n_in:
            raise InputError(
                f"a junction with {one.n_out} outputs is followed by one with "
                f"{other.n_in} inputs"
            )
    matrices = [pattern.to_dense().astype(np.float64) for pattern in patterns]
    product = matrices[0]
    for matrix in matrices[1:]:
        product = product @ matrix
    forward = tuple(_score(matrix, windows) for matrix in matrices)
    backward = tuple(_score(matrix.T, windows) for matrix in matrices)
    ends = (_score(product, windows), _score(product.T, windows))
    return Scatter(forward, backward, ends, min(*forward, *backward, *ends))


def _score(paths: np.ndarray, windows: int | None) -> float:
    """Of a matrix [n_in, n_out] that counts paths."""
    n_in = len(paths)
    into = paths.sum() / paths.shape[1]  # mean over the outputs
    if not into:
        return 0.0  # no path is left
    count = int(np.clip(windows or round(into), 1, n_in))
    bounds = np.linspace(0, n_in, count + 1).round().astype(int)
    actual = np.add.reduceat(paths, bounds[:-1], axis=0)
    ideal = np.diff(bounds)[:, None] * into / n_in
    return float(np.minimum(1, actual / ideal).mean())
