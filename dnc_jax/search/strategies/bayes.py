"""Bayesian optimisation of any space: candidates that a Gaussian process proposes."""

from collections.abc import Sequence

import numpy as np

from dnc_jax.search.space import Space
from dnc_jax.search.strategies import model
from dnc_jax.search.strategies.base import Strategy
from dnc_jax.search.strategies.history import Seen, drawn, unseen
from dnc_jax.search.strategies.single import single

_FIRST = 8  # candidates before the model is asked


def bayes(
    space: Space,
    *,
    candidates: int = 64,
    batch: int = 8,
    rungs: Sequence[int] = (27,),
) -> Strategy:
    """Bayesian optimisation, a whole batch at a time.

    The first candidates are points of a Sobol sequence. From then on a Gaussian process
    with a length for each dimension is fitted to all scores, and proposes the points of
    most expected improvement.

    Args:
      space: where candidates come from; of any kind.
      candidates: of the whole search.
      batch: asked for together.
      rungs: epochs; each candidate is trained to the last of them at once.

    Raises:
      InputError: a count below 1.

    Reference: J. Snoek et al., "Practical Bayesian Optimization of Machine Learning
    Algorithms" (2012); D. Ginsbourger et al., "Kriging Is Well-Suited to Parallelize
    Optimization" (2010), for the batches.
    """

    def propose(
        space: Space, seen: Seen, count: int, rng: np.random.Generator
    ) -> list[np.ndarray]:
        known = set(seen.candidates)
        if len(seen.scores) < _FIRST or not np.isfinite(seen.scores).any():
            found = unseen(space, space.draw_sobol(rng, count), known, count)
        else:
            points, scores = seen.points, seen.scores
            found = model.proposed(space, points, scores, known, count, rng)
        return found + drawn(space, known, count - len(found), rng)

    return single(space, propose, candidates=candidates, batch=batch, rungs=rungs)
