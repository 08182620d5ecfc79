"""Several things to minimise at once: what no other beats, and how good that is."""

import numpy as np

from dnc_jax.errors import InputError


def efficient(points: np.ndarray) -> np.ndarray:
    """Which points no other is better than: as low in all, and lower in something.

    Equal points do not beat one another.

    >>> efficient(np.array([[1, 9], [2, 4], [3, 4], [5, 1]])).tolist()
    [True, True, False, True]

    Args:
      points: lower is better, [n, objectives].

    Returns:
      [n] bool.
    """
    as_low = (points[:, None] <= points).all(axis=2)
    lower = (points[:, None] < points).any(axis=2)
    return np.logical_not((as_low & lower).any(axis=0))


def hypervolume(points: np.ndarray, reference: tuple[float, float]) -> float:
    """The area that is beaten by some point, as far as `reference`; exact.

    It grows with every point that joins the front, and is how searches for two things
    at once are compared.

    >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), (3.0, 3.0))
    3.0

    Args:
      points: of two objectives, lower is better, [n, 2].
      reference: what a point has to beat in both to count.

    Raises:
      InputError: points of other than two objectives.

    Reference: E. Zitzler and L. Thiele, "Multiobjective Evolutionary Algorithms: A
    Comparative Case Study" (1999).
    """
    if points.ndim != 2 or points.shape[1] != 2:
        raise InputError(
            f"a hypervolume is of points of two objectives, got shape {points.shape}"
        )
    within = points[(points < reference).all(axis=1)]
    front = np.unique(within[efficient(within)], axis=0)
    # From left to right each point adds a strip, as high as the one before is above it.
    widths = reference[0] - front[:, 0]
    heights = np.concatenate([[reference[1]], front[:-1, 1]]) - front[:, 1]
    return float(widths @ heights)
