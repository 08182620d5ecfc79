"""Bayesian optimisation of any space: candidates that a Gaussian process proposes."""

from collections.abc import Sequence

import numpy as np

from dnc_jax.search.space import Space, Values
from dnc_jax.search.strategies import model
from dnc_jax.search.strategies.base import Strategy
from dnc_jax.search.strategies.history import Seen, drawn, nothing, unseen
from dnc_jax.search.strategies.single import generator, single
from dnc_jax.typing import Key

_FIRST = 8  # candidates before the model is asked


def bayes(
    space: Space,
    *,
    candidates: int = 64,
    batch: int = 8,
    epochs: int = 27,
    first: Sequence[Values] = (),
) -> Strategy:
    """Bayesian optimisation, a whole batch at a time.

    The first candidates are points of a Sobol sequence. From then on a Gaussian process
    with a length for each dimension is fitted to all scores, and proposes the points of
    most expected improvement.

    Args:
      space: where candidates come from; of any kind.
      candidates: of the whole search.
      batch: asked for together.
      epochs: that each candidate is trained for, at once.
      first: what to begin with: values by dimension of the space; one that is left
        out takes the middle of its range.

    Raises:
      InputError: a count below 1, or values that the space has not.

    Reference: J. Snoek et al., "Practical Bayesian Optimization of Machine Learning
    Algorithms" (2012); D. Ginsbourger et al., "Kriging Is Well-Suited to Parallelize
    Optimization" (2010), for the batches.
    """

    def propose(space: Space, seen: Seen, count: int, key: Key) -> list[np.ndarray]:
        known, told, rng = set(seen.candidates), len(seen.scores), generator(key, seen)
        if told < _FIRST:
            # One sequence, however small the batches.
            sequence = space.draw_sobol(generator(key, nothing(space)), told + count)
            found = unseen(space, sequence[told:], known, count)
        elif not np.isfinite(seen.scores).any():
            found = []
        else:
            points, scores = seen.points, seen.scores
            found = model.proposed(space, points, scores, known, count, rng)
        return found + drawn(space, known, count - len(found), rng)

    return single(
        space,
        propose,
        candidates=candidates,
        batch=batch,
        epochs=epochs,
        first=first,
        modelled=True,
    )
