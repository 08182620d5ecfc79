"""What strategies have in common that train every candidate once, at full length."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from dnc_jax.errors import check_whole
from dnc_jax.search.space import Space, Values
from dnc_jax.search.strategies.base import (
    Evaluation,
    Strategy,
    check_told,
)
from dnc_jax.search.strategies.history import Seen, begun_with, drawn, nothing
from dnc_jax.sparse.families import generator_of
from dnc_jax.typing import Key

# Points to try next: (space, seen, how many, key of the search) -> list of
# [dimensions].
Propose = Callable[[Space, Seen, int, Key], list[np.ndarray]]


class State(NamedTuple):
    """What was told, and what is waited for."""

    key: Key
    seen: Seen
    pending: np.ndarray  # [batch, dimensions]


def generator(key: Key, seen: Seen) -> np.random.Generator:
    """For the proposals of this moment of a search; the key is not consumed."""
    return generator_of(jax.random.fold_in(key, len(seen.scores)))


def single(
    space: Space,
    propose: Propose,
    *,
    candidates: int,
    batch: int,
    epochs: int,
    first: Sequence[Values] = (),
    modelled: bool = False,
) -> Strategy:
    """The strategy that asks for what `propose` says, `batch` candidates at a time.

    Its state is a function of the key and of the scores told.

    Args:
      space: where candidates come from.
      propose: new points of the unit cube from what is known; none ends the search.
      candidates: of the whole search.
      batch: asked for together.
      epochs: that each candidate is trained for, at once.
      first: what to begin with, as for `begun_with`.
      modelled: whether proposing takes long; rehearsed proposals are random then.

    Raises:
      InputError: a count below 1, or as `begun_with`.
    """
    candidates, batch, epochs = check_whole(
        1, candidates=candidates, batch=batch, epochs=epochs
    )
    given = begun_with(space, first, candidates)
    kept = frozenset(space.candidates(given))  # for their turn

    def waiting(key: Key, seen: Seen, propose: Propose) -> State:
        told = len(seen.scores)
        count = min(batch, candidates - told)
        points = list(given[told : told + count])
        if len(points) < count:
            known = seen._replace(candidates=seen.candidates | kept)
            points += propose(space, known, count - len(points), key)
        return State(key, seen, np.reshape(points, (-1, len(space.dimensions))))

    def init(key: Key) -> State:
        return waiting(key, nothing(space), propose)

    def ask(state: State) -> list[Evaluation]:
        first = len(state.seen.scores)
        return [
            Evaluation(number, candidate, 0, 0, epochs)
            for number, candidate in enumerate(space.candidates(state.pending), first)
        ]

    def told_to(propose: Propose, state: State, scores: Sequence[float]) -> State:
        check_told(len(state.pending), scores)
        seen = state.seen.and_more(space, state.pending, scores)
        return waiting(state.key, seen, propose)

    tell = partial(told_to, propose)
    rehearse = partial(told_to, at_random) if modelled else None
    return Strategy(init, ask, tell, epochs, candidates * epochs, rehearse)


def at_random(space: Space, seen: Seen, count: int, key: Key) -> list[np.ndarray]:
    """A `Propose` that learns nothing: points of candidates not seen before."""
    return drawn(space, set(seen.candidates), count, generator(key, seen))
