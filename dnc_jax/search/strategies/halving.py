"""Successive halving: many candidates briefly, the better ones longer."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import jax

from dnc_jax.errors import InputError
from dnc_jax.search.space import Candidate, Space
from dnc_jax.search.strategies.base import Evaluation, Strategy
from dnc_jax.typing import Key


class Rung(NamedTuple):
    """Candidates of one bracket that wait for their scores."""

    rung: int
    members: tuple[tuple[int, Candidate], ...]


class State(NamedTuple):
    """Where a search by halving stands."""

    key: Key
    started: int  # brackets
    active: tuple[Rung, ...]


def rung_sizes(candidates: int, rungs: int, reduction: int) -> tuple[int, ...]:
    """Candidates alive in each rung.

    >>> rung_sizes(64, 4, 3)
    (64, 21, 7, 2)
    """
    return tuple(max(1, candidates // reduction**rung) for rung in range(rungs))


def halving(
    space: Space,
    *,
    candidates: int = 64,
    rungs: Sequence[int] = (1, 3, 9, 27),
    reduction: int = 3,
    brackets: int = 1,
) -> Strategy:
    """Successive halving of random candidates, `brackets` times over.

    A bracket's last rung is asked for together with the next bracket's first: the few
    candidates of the one alone would leave a machine idle.

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

    last = len(rungs) - 1

    def bracket(key: Key, number: int) -> Rung:
        drawn = space.sample(jax.random.fold_in(key, number), candidates)
        return Rung(0, tuple(enumerate(drawn, number * candidates)))

    def init(key: Key) -> State:
        return State(key, 1, (bracket(key, 0),))

    def ask(state: State) -> list[Evaluation]:
        return [
            Evaluation(*member, rung, starts[rung], rungs[rung])
            for rung, members in state.active
            for member in members
        ]

    def promote(current: Rung, scores: Sequence[float]) -> Rung | None:
        ranked = sorted(
            (score, member)
            for score, member in zip(scores, range(len(current.members)), strict=True)
            if math.isfinite(score)
        )
        if current.rung == last or not ranked:
            return None
        kept = sorted(member for _, member in ranked[: sizes[current.rung + 1]])
        return Rung(current.rung + 1, tuple(current.members[i] for i in kept))

    def tell(state: State, scores: Sequence[float]) -> State:
        asked = sum(len(current.members) for current in state.active)
        if len(scores) != asked:
            raise ValueError(f"{asked} scores were asked for, got {len(scores)}")
        active, position = [], 0
        for current in state.active:
            end = position + len(current.members)
            promoted = promote(current, scores[position:end])
            active += [promoted] if promoted else []
            position = end
        started = state.started
        if started < brackets and all(current.rung == last for current in active):
            active.append(bracket(state.key, started))
            started += 1
        return State(state.key, started, tuple(active))

    epochs = sum(n * (b - a) for n, a, b in zip(sizes, starts, rungs, strict=True))
    return Strategy(init, ask, tell, rungs[-1], brackets * epochs)
