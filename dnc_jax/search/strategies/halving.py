"""Successive halving: many candidates briefly, the better ones longer."""

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import numpy as np

from dnc_jax.errors import InputError, check_whole
from dnc_jax.search.space import Space, Values
from dnc_jax.search.strategies import model
from dnc_jax.search.strategies.base import (
    Evaluation,
    Strategy,
    check_told,
    whole_epochs,
)
from dnc_jax.search.strategies.history import begun_with, drawn, unseen
from dnc_jax.sparse.families import generator_of
from dnc_jax.typing import Key

_MODELLED = 2 / 3  # share of a later bracket; the rest is drawn all the same


class Member(NamedTuple):
    """A candidate on its way through a bracket."""

    candidate_id: int
    candidate: Any
    point: np.ndarray  # [dimensions], of the unit cube


class Rung(NamedTuple):
    """Candidates of one bracket that wait for their scores."""

    sizes: tuple[int, ...]  # of the whole bracket
    rung: int
    start: int  # epochs that they have been trained for
    members: tuple[Member, ...]


class Told(NamedTuple):
    """One score: of which candidate, after how many epochs."""

    member: Member
    epochs: int
    score: float


class State(NamedTuple):
    """Where a search by halving stands."""

    key: Key
    brackets: int  # begun
    candidates: int  # in all of them
    active: tuple[Rung, ...]
    told: tuple[Told, ...]


class _Arguments(NamedTuple):
    """The arguments of `halving` that a bracket depends on."""

    space: Space
    candidates: int
    rungs: tuple[int, ...]
    reduction: int
    hyperband: bool
    modelled: bool
    first: np.ndarray  # [n, dimensions]


def rung_sizes(candidates: int, rungs: int, reduction: int) -> tuple[int, ...]:
    """Candidates alive in each rung.

    >>> rung_sizes(64, 4, 3)
    (64, 21, 7, 2)
    """
    return tuple(max(1, candidates // reduction**rung) for rung in range(rungs))


def bracket_sizes(
    candidates: int, rungs: int, reduction: int, skipped: int = 0
) -> tuple[int, ...]:
    """Candidates in each rung of a bracket that skips the first rungs, 0 in those.

    It begins with as many as make its cost about that of the one that skips none.

    >>> [bracket_sizes(27, 4, 3, skipped) for skipped in range(4)]
    [(27, 9, 3, 1), (0, 12, 4, 1), (0, 0, 6, 2), (0, 0, 0, 4)]

    Reference: L. Li et al., "Hyperband" (2018), algorithm 1.
    """
    left = rungs - skipped
    first = math.ceil(rungs * candidates / (left * reduction**skipped))
    return (0,) * skipped + rung_sizes(first, left, reduction)


def halving(
    space: Space,
    *,
    candidates: int = 64,
    rungs: Sequence[int] = (1, 3, 9, 27),
    reduction: int = 3,
    brackets: int = 1,
    hyperband: bool = False,
    modelled: bool = True,
    first: Sequence[Values] = (),
) -> Strategy:
    """Successive halving, `brackets` times over.

    A bracket's last rung is asked for together with the next bracket's first: the few
    candidates of the one alone would leave a machine idle. The first bracket's
    candidates are random; two thirds of a later one's are those that a Gaussian process
    over points and epochs, told every score so far, expects most of in the last rung.

    Args:
      space: where candidates come from.
      candidates: in the first rung of a bracket.
      rungs: epochs at the end of each rung, counted from scratch, increasing.
        One rung alone is random search, if nothing is modelled.
      reduction: one in so many is promoted, by its whole score.
      brackets: repetitions, each with new candidates.
      hyperband: each bracket skips one rung more than the one before, with fewer
        candidates, and starts over when it would skip all: a guard against
        candidates that are slow to show what they are worth.
      modelled: whether the model proposes; otherwise all candidates are random.
      first: what the first bracket begins with: values by dimension of the space; one
        that is left out takes the middle of its range. The others are random.

    Raises:
      InputError: a count below 1, a reduction below 2, rungs that do not increase, or
        values that the space has not.

    Reference: K. Jamieson and A. Talwalkar, "Non-stochastic Best Arm Identification
    and Hyperparameter Optimization" (2016), algorithm 1; S. Falkner et al., "BOHB"
    (2018), for brackets that a model proposes.
    """
    rungs = whole_epochs(rungs)
    candidates, brackets = check_whole(1, candidates=candidates, brackets=brackets)
    (reduction,) = check_whole(2, reduction=reduction)
    if rungs[0] < 1 or any(b <= a for a, b in pairwise(rungs)):
        raise InputError(f"rungs must be epochs >= 1 that increase, got {rungs}")
    points = begun_with(space, first, candidates)
    given = _Arguments(space, candidates, rungs, reduction, hyperband, modelled, points)

    def init(key: Key) -> State:
        return _begun(given, State(key, 0, 0, (), ()))

    def ask(state: State) -> list[Evaluation]:
        return [
            Evaluation(
                one.candidate_id,
                one.candidate,
                at.rung,
                at.start,
                rungs[at.rung],
                _expected_epochs(given, at),
            )
            for at in state.active
            for one in at.members
        ]

    def told_to(given: _Arguments, state: State, scores: Sequence[float]) -> State:
        asked = [(at, one) for at in state.active for one in at.members]
        check_told(len(asked), scores)
        told = tuple(
            Told(one, rungs[at.rung], float(score))
            for (at, one), score in zip(asked, scores, strict=True)
        )
        active, position = [], 0
        for at in state.active:
            end = position + len(at.members)
            promoted = _promoted(given, at, scores[position:end])
            active += [promoted] if promoted else []
            position = end
        state = state._replace(active=tuple(active), told=state.told + told)
        ending = all(at.rung == len(rungs) - 1 for at in active)
        return _begun(given, state) if ending and state.brackets < brackets else state

    epochs = sum(
        _epochs(_sizes_of(given, bracket), rungs) for bracket in range(brackets)
    )
    return Strategy(
        init,
        ask,
        partial(told_to, given),
        rungs[-1],
        epochs,
        partial(told_to, given._replace(modelled=False)),
    )


def _sizes_of(given: _Arguments, bracket: int) -> tuple[int, ...]:
    rungs = len(given.rungs)
    skipped = bracket % rungs if given.hyperband else 0
    return bracket_sizes(given.candidates, rungs, given.reduction, skipped)


def _begun(given: _Arguments, state: State) -> State:
    """With one more bracket."""
    space, sizes = given.space, _sizes_of(given, state.brackets)
    rung = sizes.count(0)
    rng = generator_of(jax.random.fold_in(state.key, state.brackets))
    known = {one.member.candidate for one in state.told}
    points = [] if state.brackets else unseen(space, given.first, known, sizes[rung])
    if given.modelled and any(one.score < math.inf for one in state.told):
        wanted = round(_MODELLED * sizes[rung])
        points = _proposed(space, state.told, given.rungs[-1], known, wanted, rng)
    points += drawn(space, known, sizes[rung] - len(points), rng)
    units = np.reshape(points, (-1, len(space.dimensions)))
    members = tuple(
        Member(state.candidates + i, candidate, unit)
        for i, (candidate, unit) in enumerate(
            zip(space.candidates(units), units, strict=True)
        )
    )
    return state._replace(
        brackets=state.brackets + 1,
        candidates=state.candidates + len(members),
        active=(*state.active, Rung(sizes, rung, 0, members)),
    )


def _promoted(given: _Arguments, at: Rung, scores: Sequence[float]) -> Rung | None:
    """The better ones in the next rung; None after the last, or where none is left."""
    ranked = sorted(
        (score, member) for member, score in enumerate(scores) if score < math.inf
    )
    if at.rung == len(given.rungs) - 1 or not ranked:
        return None
    kept = sorted(member for _, member in ranked[: at.sizes[at.rung + 1]])
    members = tuple(at.members[i] for i in kept)
    return Rung(at.sizes, at.rung + 1, given.rungs[at.rung], members)


def _expected_epochs(given: _Arguments, at: Rung) -> float:
    """From here on, of a candidate that does not know how far it will come."""
    sizes = at.sizes[at.rung :]
    return _epochs(sizes, given.rungs[at.rung :], at.start) / sizes[0]


def _epochs(sizes: Sequence[int], rungs: Sequence[int], start: int = 0) -> int:
    """Candidate-epochs from `start` on of a bracket in which nothing diverges."""
    begun = [(size, stop) for size, stop in zip(sizes, rungs, strict=True) if size]
    starts = (start, *(stop for _, stop in begun[:-1]))
    return sum(
        size * (stop - start) for (size, stop), start in zip(begun, starts, strict=True)
    )


def _proposed(
    space: Space,
    told: Sequence[Told],
    epochs: int,
    known: set[Any],
    count: int,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """New points of which most is expected after so many epochs."""
    points = np.stack([one.member.point for one in told])
    scores = np.array([one.score for one in told])
    # 1 for the last rung; epochs count by their ratio, as the rungs do.
    spent = np.log1p([one.epochs for one in told]) / math.log1p(epochs)
    return model.proposed(space, points, scores, known, count, rng, spent)
