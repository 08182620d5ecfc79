"""Successive halving: many candidates briefly, the better ones longer."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import jax

from dnc_jax.errors import InputError
from dnc_jax.search.space import Candidate, MLPSpace
from dnc_jax.search.strategies.base import Evaluation, Strategy
from dnc_jax.typing import Key


class State(NamedTuple):
    """Where a search by halving stands."""

    key: Key
    bracket: int
    rung: int
    members: tuple[tuple[int, Candidate], ...]


def rung_sizes(candidates: int, rungs: int, reduction: int) -> tuple[int, ...]:
    """Candidates alive in each rung.

    >>> rung_sizes(64, 4, 3)
    (64, 21, 7, 2)
    """
    return tuple(max(1, candidates // reduction**rung) for rung in range(rungs))


def halving(
    space: MLPSpace,
    *,
    candidates: int = 64,
    rungs: Sequence[int] = (1, 3, 9, 27),
    reduction: int = 3,
    brackets: int = 1,
) -> Strategy:
    """Successive halving of random candidates, `brackets` times over.

    Args:
      space: where candidates come from.
      candidates: in the first rung of a bracket.
      rungs: epochs at the end of each rung, counted from scratch, increasing.
        One rung alone is random search.
      reduction: one in so many is promoted, by its whole score.
      brackets: repetitions, each with new candidates.

    Raises:
      InputError: a count below 1, a reduction below 2 or rungs that do not increase.

    Reference: K. Jamieson and A. Talwalkar, "Non-stochastic Best Arm Identification
    and Hyperparameter Optimization" (2016), algorithm 1.
    """
    rungs = tuple(rungs)
    if candidates < 1 or brackets < 1:
        raise InputError(
            "search.candidates and search.brackets must be >= 1, "
            f"got {candidates} and {brackets}"
        )
    if reduction < 2:
        raise InputError(f"search.reduction must be >= 2, got {reduction}")
    if not rungs or rungs[0] < 1 or any(b <= a for a, b in pairwise(rungs)):
        raise InputError(f"search.rungs must be epochs >= 1 that increase, got {rungs}")
    sizes = rung_sizes(candidates, len(rungs), reduction)
    starts = (0, *rungs[:-1])

    def bracket(key: Key, number: int) -> State:
        drawn = space.sample(jax.random.fold_in(key, number), candidates)
        first = number * candidates
        return State(key, number, 0, tuple(enumerate(drawn, first)))

    def init(key: Key) -> State:
        return bracket(key, 0)

    def ask(state: State) -> list[Evaluation]:
        if state.bracket >= brackets:
            return []
        start, stop = starts[state.rung], rungs[state.rung]
        return [
            Evaluation(*member, state.rung, start, stop) for member in state.members
        ]

    def tell(state: State, scores: Sequence[float]) -> State:
        ranked = sorted(
            (score, member)
            for score, member in zip(scores, range(len(state.members)), strict=True)
            if math.isfinite(score)
        )
        if state.rung + 1 == len(rungs) or not ranked:
            if state.bracket + 1 == brackets:
                return State(state.key, brackets, 0, ())
            return bracket(state.key, state.bracket + 1)
        promoted = sorted(member for _, member in ranked[: sizes[state.rung + 1]])
        return state._replace(
            rung=state.rung + 1,
            members=tuple(state.members[member] for member in promoted),
        )

    epochs = sum(n * (b - a) for n, a, b in zip(sizes, starts, rungs, strict=True))
    return Strategy(init, ask, tell, rungs[-1], brackets * epochs)
