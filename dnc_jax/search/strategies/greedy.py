"""Deep-n-Cheap's own search: three greedy stages, in batches."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from dnc_jax.errors import InputError, check_whole
from dnc_jax.search import gaussian_process as gp
from dnc_jax.search.similarity import FARTHEST
from dnc_jax.search.space import Candidate, Space, Values
from dnc_jax.search.stages import (
    TRAINING,
    Similarity,
    Stages,
    grid,
    grid_size,
    stages,
)
from dnc_jax.search.strategies.base import (
    Evaluation,
    Strategy,
    check_told,
)
from dnc_jax.sparse.families import generator_of
from dnc_jax.typing import Key

_NOISE = 1e-4
_DRAWS = 10  # in vain, before a space counts as exhausted
_MARGIN = 1e-4  # xi of the expected improvement


Pending = tuple[Values, Candidate]


class Scored(NamedTuple):
    """A candidate, the values that it was built of, and what it reached."""

    values: Values
    candidate: Candidate
    score: float


class State(NamedTuple):
    """Where a greedy search stands.

    Attributes:
      key: of the whole search.
      phase: 0 for stage 1, then one for each grid of stage 2, then one for stage 3.
      told: everything, in the order of the candidates' numbers.
      here: what this phase knows, results of earlier ones included that it builds on.
      best: the incumbent; None before the first score.
      pending: waited for.
    """

    key: Key
    phase: int
    told: tuple[Scored, ...]
    here: tuple[Scored, ...]
    best: Scored | None
    pending: tuple[Pending, ...]


class _Arguments(NamedTuple):
    """The arguments of `greedy`, and the stages of its space."""

    space: Space
    plan: Stages
    batch: int
    initial: int
    steps: int
    explored: int
    fit_kernel: bool


def greedy(
    space: Space,
    *,
    batch: int = 8,
    epochs: int = 27,
    initial: int = 15,
    steps: int = 15,
    explored: int = 1000,
    fit_kernel: bool = False,
) -> Strategy:
    """Architecture first, then its details one at a time, then how it is trained.

    Stage 1 is Bayesian optimisation of depth, widths and densities with all else
    preset; stage 2 tries a grid of one thing after the other; stage 3 is Bayesian
    optimisation of learning rate, weight decay and batch size. What a stage finds is
    kept only where it is strictly better than all before, and no candidate is asked for
    twice. `batch=1` is the original's schedule; in a larger batch a candidate already
    chosen counts as having reached what is expected of it.

    Args:
      space: an `MLPSpace` or `CNNSpace`, limited or not.
      batch: candidates of a Bayesian step asked for together.
      epochs: that each candidate is trained for, at once.
      initial: points of a Sobol sequence that stages 1 and 3 begin with.
      steps: candidates that they go on with, by expected improvement.
      explored: random points that compete in each step.
      fit_kernel: choose the distance scale by likelihood instead of 3.

    Raises:
      InputError: a count below 1, a space without stages, or, from `init`, one whose
        networks with the presets of stage 1 are all too large.

    Reference: S. Dey et al., "Deep-n-Cheap" (2020), algorithm of the search.
    """
    epochs, batch, initial, explored = check_whole(
        1, epochs=epochs, batch=batch, initial=initial, explored=explored
    )
    (steps,) = check_whole(0, steps=steps)
    plan = stages(space)
    given = _Arguments(space, plan, batch, initial, steps, explored, fit_kernel)

    def init(key: Key) -> State:
        return _advance(given, State(key, 0, (), (), None, ()), 0)

    def ask(state: State) -> list[Evaluation]:
        return [
            Evaluation(number, candidate, 0, 0, epochs)
            for number, (_, candidate) in enumerate(state.pending, len(state.told))
        ]

    def tell(state: State, scores: Sequence[float]) -> State:
        check_told(len(state.pending), scores)
        new = tuple(
            Scored(*pending, float(score))
            for pending, score in zip(state.pending, scores, strict=True)
        )
        rivals = [*([state.best] if state.best else []), *new]
        here = state.here + new
        asked = len(here) - (state.phase > 0)
        best = min(rivals, key=lambda one: one.score)
        return _advance(
            given, state._replace(told=state.told + new, here=here, best=best), asked
        )

    most = 2 * (initial + steps) + sum(
        grid_size(space, group) for group in given.plan.grids
    )
    return Strategy(init, ask, tell, epochs, most * epochs)


def _complete(given: _Arguments, state: State, values: Values) -> Values:
    """Whole values of those that this phase searches."""
    if state.phase == 0:
        return given.plan.preset(values)
    assert state.best
    return {**state.best.values, **values}


def _fresh(
    given: _Arguments, state: State, draw: Callable[[int], np.ndarray], count: int
) -> list[Pending]:
    """Drawn values of this phase's dimensions whose candidates are new."""
    names = given.plan.architecture if state.phase == 0 else TRAINING
    known = {one.candidate for one in state.told}
    found: list[Pending] = []
    fruitless = 0
    while len(found) < count and fruitless < (1 if found else _DRAWS):
        before = len(found)
        for drawn in given.space.decode(draw(count)):
            searched = {name: v for name, v in drawn.items() if name in names}
            values = _complete(given, state, searched)
            candidate = given.space.build(values)
            if candidate not in known and given.space.allows(candidate):
                known.add(candidate)
                found.append((values, candidate))
        fruitless = fruitless + 1 if len(found) == before else 0
    return found[:count]


def _bayesian(given: _Arguments, state: State, asked: int) -> list[Pending]:
    """The next candidates of stage 1 or 3 after so many of it."""
    left = given.initial + given.steps - asked
    if left <= 0:
        return []
    rng = generator_of(jax.random.fold_in(state.key, len(state.told)))

    def fresh(count: int, *, sobol: bool = False) -> list[Pending]:
        draw = given.space.draw_sobol if sobol else given.space.draw
        return _fresh(given, state, lambda n: draw(rng, n), count)

    finite = [one.score for one in state.here if np.isfinite(one.score)]
    if asked < given.initial:
        sequence = fresh(given.initial - asked, sobol=True)
        if sequence:
            return sequence
    count = min(given.batch, left)
    if not finite:
        return fresh(count)
    pool = fresh(given.explored)
    plan = given.plan
    chosen = promising(
        [one.candidate for one in state.here],
        np.array([min(one.score, max(finite)) for one in state.here]),
        [candidate for _, candidate in pool],
        count,
        plan.alike if state.phase == 0 else plan.alike_training,
        given.fit_kernel,
    )
    return [pool[i] for i in chosen]


def _gridded(given: _Arguments, state: State) -> list[Pending]:
    """The new candidates of a grid of stage 2."""
    if not state.best:
        raise InputError(
            "greedy's first stage, which presets all but the layers, finds "
            "no network that keeps to the constraints; allow larger "
            "networks, or use another strategy"
        )
    known = {one.candidate for one in state.told}
    group = given.plan.grids[state.phase - 1]
    values = grid(given.space, group, state.best.values)
    built = {given.space.build(one): one for one in values}
    return [
        (one, candidate)
        for candidate, one in built.items()
        if candidate not in known and given.space.allows(candidate)
    ]


def _advance(given: _Arguments, state: State, asked: int) -> State:
    """With what to wait for next; `asked` of this phase have been told."""
    last = len(given.plan.grids) + 1
    while state.phase <= last:
        if state.phase in (0, last):
            more = _bayesian(given, state, asked)
        else:
            more = [] if asked else _gridded(given, state)
        if more:
            return state._replace(pending=tuple(more))
        here = (state.best,) if state.best else ()
        state = state._replace(phase=state.phase + 1, here=here)
        asked = 0
    return state._replace(pending=())


def promising(
    known: Sequence[Candidate],
    observed: np.ndarray,
    pool: Sequence[Candidate],
    count: int,
    alike: Similarity,
    fit_kernel: bool = False,
) -> list[int]:
    """Which of the pool to train next, by expected improvement.

    Args:
      known: candidates that were trained.
      observed: their scores, [known].
      pool: to choose from.
      count: how many.
      alike: the kernel.
      fit_kernel: fit its scale.
    """
    chosen: list[int] = []
    known, scale = list(known), FARTHEST
    if fit_kernel:
        scale = gp.likeliest(lambda s: alike(known, known, s), observed, _NOISE)
    best = float(np.min(observed))
    among = alike(known, known, scale)
    cross = alike(known, pool, scale)
    while len(chosen) < min(count, len(pool)):
        posterior = gp.posterior(among, observed, _NOISE)
        mean, deviation = gp.moments(posterior, gp.half(posterior, cross), 1.0)
        gain = gp.expected_improvement(mean, deviation, best, _MARGIN)
        gain[chosen] = -np.inf
        chosen.append(int(np.argmax(gain)))
        one = [pool[chosen[-1]]]
        column = cross[:, chosen[-1:]]
        among = np.block([[among, column], [column.T, np.ones((1, 1))]])
        cross = np.vstack([cross, alike(one, pool, scale)])
        observed = np.append(observed, mean[chosen[-1]])
    return chosen
