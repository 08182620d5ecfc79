"""Search strategies; each is a `Strategy` of pure functions, and has a name."""

import inspect
from collections.abc import Callable
from typing import Any

from dnc_jax.errors import InputError, check_known
from dnc_jax.search.space import Space
from dnc_jax.search.strategies.base import Evaluation, Strategy, whole_epochs
from dnc_jax.search.strategies.bayes import bayes
from dnc_jax.search.strategies.evolution import evolution
from dnc_jax.search.strategies.greedy import greedy
from dnc_jax.search.strategies.halving import halving
from dnc_jax.search.strategies.random import random

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "halving": halving,
    "greedy": greedy,
    "bayes": bayes,
    "evolution": evolution,
    "random": random,
}

__all__ = [
    "STRATEGIES",
    "Evaluation",
    "Strategy",
    "bayes",
    "evolution",
    "greedy",
    "halving",
    "make",
    "random",
]


def make(space: Space, strategy: str, **fields: Any) -> Strategy:
    """The strategy of this name, with those of the fields that it has.

    >>> from dnc_jax.search import MLPSpace
    >>> make(MLPSpace(64, 10), "random", candidates=4, reduction=3).candidate_epochs
    108

    Args:
      space: where candidates come from.
      strategy: a name in `STRATEGIES`.
      fields: what a config says of all strategies; each takes its own. Of `rungs`,
        those that train every candidate at once take the last as their `epochs`.

    Raises:
      InputError: an unknown name, a field that no strategy has, or an impossible value.
    """
    check_known(STRATEGIES, strategy=strategy)
    own = {name: inspect.signature(one).parameters for name, one in STRATEGIES.items()}
    if unknown := set(fields) - set().union(*own.values()):
        raise InputError(f"{min(unknown)}: no strategy has such a field")
    taken = {name: value for name, value in fields.items() if name in own[strategy]}
    if "rungs" in fields and "rungs" not in own[strategy]:
        rungs = whole_epochs(fields["rungs"])
        if rungs[-1] < 1:
            raise InputError(f"rungs must end with epochs >= 1, got {rungs}")
        taken["epochs"] = rungs[-1]
    return STRATEGIES[strategy](space, **taken)
