"""Candidates that a Gaussian process over a space expects much of, many at once."""

from typing import Any

import numpy as np

from dnc_jax.search import gaussian_process as gp
from dnc_jax.search.dimensions import Choice
from dnc_jax.search.space import Space
from dnc_jax.search.strategies.base import REACH

_DRAWN = 1024  # random points looked at
_NEAR = 16  # best points whose neighbours are looked at too
_CLIMBS = 8  # steps of the local search for one proposal, at most
_CLIMBING = 4  # points that each step goes on from
_BUILT = 64  # points that are built at a time to see which is new
_VALUES = 64  # of a choice, that a neighbour may take
_MOST = 300  # scores that the process is told: its cost grows with their cube


def proposed(
    space: Space,
    points: np.ndarray,
    scores: np.ndarray,
    known: set[Any],
    count: int,
    rng: np.random.Generator,
    spent: np.ndarray | None = None,
) -> list[np.ndarray]:
    """New points, one after the other by expected improvement.

    The process is fitted to what was told. A point chosen counts as having reached what
    is expected of it, which takes the uncertainty from its surroundings, so that the
    next is chosen elsewhere or surely.

    Args:
      space: whose points.
      points: evaluated, [n, dimensions].
      scores: lower is better, infinite if diverged; at least one is not, [n].
      known: candidates not to be proposed; the proposed ones are added.
      count: how many to propose, if there are as many.
      rng: of the points looked at.
      spent: share of the full training that a score was reached with, in (0, 1], [n];
        what is proposed is expected to be good at 1.
    """
    ordered = [one.ordered for one in space.dimensions.values()]
    full = np.ones(len(points)) if spent is None else spent
    kept = np.lexsort((scores, -full))[:_MOST]
    points, full = space.snap(points[kept])[0], full[kept]
    observed = levelled(scores[kept])
    process = _Process(points, observed, np.array(ordered), full, spent is not None)
    best = points[np.argsort(observed, kind="stable")[:_NEAR]]
    looked = [points, space.draw(rng, _DRAWN), neighbours(space, best, rng)]
    process.look(np.unique(space.snap(np.concatenate(looked))[0], axis=0))
    found: list[np.ndarray] = []
    while len(found) < count:
        gain = process.gain()
        for _ in range(_CLIMBS):
            top = process.points[np.argsort(-gain, kind="stable")[:_CLIMBING]]
            before = np.max(gain)
            process.look(space.snap(neighbours(space, top, rng))[0])
            gain = process.gain()
            if np.max(gain) <= before:
                break
        order = np.argsort(-gain, kind="stable")
        index = _first_new(space, process, order, known)
        if index is None:
            break
        found.append(process.points[index])
        process.believe(index)
    return found


def levelled(scores: np.ndarray) -> np.ndarray:
    """Scores of mean 0 and variance 1 in which bad ones do not drown the good ones.

    What is worse than the median grows with the logarithm only, in units of the
    distance from the best to the median, and diverged ones are as bad as the worst.
    """
    finite = np.isfinite(scores)
    scores = np.where(finite, scores, np.max(scores[finite]))
    median = np.median(scores)
    unit = median - np.min(scores)
    if unit > 0:
        away = (scores - median) / unit
        scores = np.where(away > 0, np.log1p(np.maximum(away, 0.0)), away)
    scores = scores - np.mean(scores)
    deviation = np.std(scores)
    return scores / deviation if deviation > 0 else scores


def neighbours(
    space: Space, points: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Points that differ from one of these in one dimension.

    A choice takes every value, or some of very many; a number moves a little, and
    anywhere.
    """
    rows: list[np.ndarray] = []
    for i, one in enumerate(space.dimensions.values()):
        if isinstance(one, Choice):
            grid = np.array(one.grid)
            if len(grid) > _VALUES:
                grid = rng.choice(grid, _VALUES, replace=False)
            places = [np.full(len(points), place) for place in grid]
        else:
            near = points[:, i] + rng.normal(0, REACH, len(points))
            places = [np.clip(near, 0, 1), rng.random(len(points))]
        for place in places:
            moved = points.copy()
            moved[:, i] = place
            rows.append(moved)
    return np.concatenate(rows)


def _first_new(
    space: Space, process: "_Process", order: np.ndarray, known: set[Any]
) -> int | None:
    """Which point, in this order, is the first of an allowed candidate not known.

    It is added to the known ones. Of those that are not allowed nothing is expected
    any more.
    """
    for start in range(0, len(order), _BUILT):
        some = order[start : start + _BUILT]
        some = some[~process.refused[some]]
        candidates = space.candidates(process.points[some])
        for index, candidate in zip(some, candidates, strict=True):
            if not space.allows(candidate):
                process.refused[index] = True
            elif candidate not in known:
                known.add(candidate)
                return int(index)
    return None


class _Process:
    """A fitted process, the points looked at, and what it expects of them.

    `half` is the factor's inverse times the covariance of observations and points;
    `refused` points are those that the space does not allow.
    """

    def __init__(
        self,
        points: np.ndarray,
        observed: np.ndarray,
        ordered: np.ndarray,
        spent: np.ndarray,
        graded: bool,
    ) -> None:
        self._graded = graded
        if graded:
            points = np.column_stack([points, spent])
            ordered = np.append(ordered, True)
        self._kernel = gp.fit(points, observed, ordered)
        self._observed_at = points
        self._posterior = gp.posterior(
            self._kernel(points, points), observed, self._kernel.noise
        )
        self.points = np.empty((0, points.shape[1] - graded))
        self.refused = np.empty(0, bool)
        self._half = np.empty((len(points), 0))
        # Of what was trained in full, or for the longest.
        self._best = float(np.min(observed[spent == np.max(spent)]))

    def look(self, points: np.ndarray) -> None:
        """Takes further points into account."""
        cross = self._kernel(self._observed_at, self._at(points))
        half = gp.half(self._posterior, cross)
        self.points = np.concatenate([self.points, points])
        self.refused = np.pad(self.refused, (0, len(points)))
        self._half = np.concatenate([self._half, half], axis=1)

    def gain(self) -> np.ndarray:
        """The logarithm of the expected improvement of every point looked at."""
        known, prior = self._posterior, self._kernel.amplitude
        mean, deviation = gp.moments(known, self._half, prior)
        gain = gp.log_expected_improvement(mean, deviation, self._best)
        return np.where(self.refused, -np.inf, gain)

    def believe(self, index: int) -> None:
        """As if a point looked at had been observed to be what is expected of it."""
        at = self._at(self.points[index][None])
        column = self._half[:, index]
        mean, _ = gp.moments(self._posterior, column[:, None], self._kernel.amplitude)
        prior = self._kernel.amplitude + self._kernel.noise
        self._posterior = gp.observed(self._posterior, column, prior, float(mean[0]))
        cross = self._kernel(at, self._at(self.points))[0]
        row = (cross - column @ self._half) / self._posterior.factor[-1, -1]
        self._half = np.vstack([self._half, row])
        self._observed_at = np.concatenate([self._observed_at, at])
        self._best = min(self._best, float(mean[0]))

    def _at(self, points: np.ndarray) -> np.ndarray:
        if not self._graded:
            return points
        return np.column_stack([points, np.ones(len(points))])
