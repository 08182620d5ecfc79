"""What a strategy has seen, and candidates that it has not."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dnc_jax.errors import InputError
from dnc_jax.plain import plain
from dnc_jax.search.dimensions import can_be
from dnc_jax.search.space import Space, Values

_TRIES = 100  # draws for each new candidate wanted before a space counts as exhausted


class Seen(NamedTuple):
    """Evaluated candidates, in order.

    Attributes:
      points: of the unit cube, [n, dimensions].
      scores: of each, lower is better, infinite for a diverged one, [n].
      candidates: what was built at the points.
    """

    points: np.ndarray
    scores: np.ndarray
    candidates: frozenset[Any]

    def and_more(
        self, space: Space, points: np.ndarray, scores: Sequence[float]
    ) -> "Seen":
        """With further evaluations."""
        return Seen(
            np.concatenate([self.points, points]),
            np.concatenate([self.scores, np.asarray(scores, float)]),
            self.candidates | set(space.candidates(points)),
        )


def nothing(space: Space) -> Seen:
    """Before the first evaluation."""
    return Seen(np.empty((0, len(space.dimensions))), np.empty(0), frozenset())


def begun_with(space: Space, first: Sequence[Values], most: int) -> np.ndarray:
    """Points [n, dimensions] of what a search is to begin with, each candidate once.

    Args:
      space: where they lie.
      first: values by dimension; one that is left out takes the middle of its range.
      most: candidates that a search can begin with.

    Raises:
      InputError: more than that, an unknown dimension, a value that it cannot have, one
        that means nothing beside the others, or a candidate that the space does not
        allow.
    """
    if isinstance(first, Mapping):
        raise InputError(f"first is a list of candidates, as first=[{dict(first)}]")
    given = [{name: plain(value) for name, value in one.items()} for one in first]
    for number, values in enumerate(given):
        for name, value in values.items():
            if name not in space.dimensions:
                raise InputError(
                    f"first[{number}]: the space has no dimension {name!r}, only "
                    f"{', '.join(space.dimensions)}"
                )
            if not can_be(space.dimensions[name], value):
                raise InputError(
                    f"first[{number}]: {name} = {value!r} is not in "
                    f"{space.dimensions[name]}"
                )
    points = space.encode(given)
    for number, (values, used) in enumerate(
        zip(given, space.decode(points), strict=True)
    ):
        for name in values.keys() - used.keys():
            other, needed = space.dimensions[name].when or ("", ())
            raise InputError(
                f"first[{number}]: {name} means nothing where {other} is "
                f"{used.get(other)!r}; it needs one of {', '.join(map(str, needed))}"
            )
    for number, candidate in enumerate(space.candidates(points)):
        if not space.allows(candidate):
            raise InputError(
                f"first[{number}] is {candidate}, which the space does not allow"
            )
    once = unseen(space, points, set(), len(points))
    if len(once) > most:
        raise InputError(
            f"first has {len(once)} candidates, and the search begins with {most}; "
            "give fewer, or raise candidates"
        )
    return np.reshape(once, (-1, len(space.dimensions)))


def unseen(
    space: Space, points: np.ndarray, known: set[Any], count: int
) -> list[np.ndarray]:
    """The first `count` of the points whose candidates are allowed and not known.

    Their candidates are added to `known`.
    """
    found = []
    for point, candidate in zip(points, space.candidates(points), strict=True):
        if len(found) == count:
            break
        if candidate not in known and space.allows(candidate):
            known.add(candidate)
            found.append(point)
    return found


def drawn(
    space: Space, known: set[Any], count: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Random points of new candidates; fewer where hardly any is left."""
    found: list[np.ndarray] = []
    for _ in range(_TRIES):
        if len(found) == count:
            break
        found += unseen(space, space.draw(rng, count), known, count - len(found))
    return found
