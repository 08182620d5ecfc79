"""Regularised evolution: the young are parents, the old are forgotten."""

from collections.abc import Sequence

import numpy as np

from dnc_jax.errors import check_whole
from dnc_jax.search.space import Space, Values
from dnc_jax.search.strategies.base import REACH, Strategy
from dnc_jax.search.strategies.history import Seen, drawn, unseen
from dnc_jax.search.strategies.single import generator, single
from dnc_jax.typing import Key

_CROSSED = 0.5  # share of children that have two parents
_TRIES = 20  # times that a batch of children is bred to find new ones


def evolution(
    space: Space,
    *,
    candidates: int = 64,
    batch: int = 8,
    epochs: int = 27,
    first: Sequence[Values] = (),
    population: int = 24,
    tournament: int = 5,
) -> Strategy:
    """Children of the better ones among the youngest candidates.

    The first `population` candidates are random, or half of all if those are fewer. A
    parent is the best of `tournament` drawn from the youngest `population`, whatever
    older ones reached, so that a lucky score does not stay for ever. Half of the
    children take each dimension from one of two parents; then one dimension on average
    is mutated, at least one.

    Args:
      space: where candidates come from.
      candidates: of the whole search.
      batch: asked for together.
      epochs: that each candidate is trained for, at once.
      first: what to begin with: values by dimension of the space; one that is left
        out takes the middle of its range.
      population: so many of the youngest may be parents.
      tournament: the larger, the greedier.

    Raises:
      InputError: a count below 1, or values that the space has not.

    Reference: E. Real et al., "Regularized Evolution for Image Classifier Architecture
    Search" (2019), algorithm 1.
    """
    check_whole(1, candidates=candidates, population=population, tournament=tournament)
    at_random = max(1, min(population, candidates // 2))

    def propose(space: Space, seen: Seen, count: int, key: Key) -> list[np.ndarray]:
        rng = generator(key, seen)
        known = set(seen.candidates)
        found: list[np.ndarray] = []
        if len(seen.scores) >= at_random:
            youngest = seen.points[-population:], seen.scores[-population:]
            for _ in range(_TRIES):
                children = _children(space, *youngest, tournament, count, rng)
                found += unseen(space, children, known, count - len(found))
                if len(found) == count:
                    break
        return found + drawn(space, known, count - len(found), rng)

    return single(
        space, propose, candidates=candidates, batch=batch, epochs=epochs, first=first
    )


def _children(
    space: Space,
    points: np.ndarray,
    scores: np.ndarray,
    tournament: int,
    count: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Points bred from these, [count, dimensions]."""

    def parents() -> np.ndarray:
        drawn = rng.integers(len(scores), size=(count, tournament))
        return points[drawn[np.arange(count), np.argmin(scores[drawn], axis=1)]]

    width = points.shape[1]
    crossed = rng.random((count, 1)) < _CROSSED
    other = crossed & (rng.random((count, width)) < 0.5)
    children = np.where(other, parents(), parents())
    mutated = rng.random((count, width)) < 1 / width
    mutated[np.arange(count), rng.integers(width, size=count)] = True
    return np.where(mutated, mutations(space, children, rng), children)


def mutations(space: Space, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The points with every dimension changed: numbers a little, choices to any."""
    near = points + rng.normal(0, REACH, points.shape)
    anywhere = rng.random(points.shape)
    dimensions = space.dimensions.values()
    jumps = [not one.ordered for one in dimensions]
    # What leaves the interval comes back as from a mirror.
    return np.where(jumps, anywhere, 1 - np.abs(1 - np.abs(near)))
