"""What a search is about: all that decides which networks it trains and prefers."""

from typing import NamedTuple

import jax

from dnc_jax.errors import InputError, check_whole
from dnc_jax.search.constraints import Constraints
from dnc_jax.search.objective import Objective
from dnc_jax.search.space import Space
from dnc_jax.search.strategies import Strategy
from dnc_jax.training.data import Dataset
from dnc_jax.typing import Key


class Problem(NamedTuple):
    """The arguments of a search that decide its outcome, see `run.search`."""

    space: Space
    data: Dataset
    objective: Objective
    strategy: Strategy
    constraints: Constraints
    seed: int

    @property
    def measured(self) -> frozenset[str]:
        """Terms of an epoch that are measured for each candidate."""
        return self.objective.measured | self.constraints.measured


class Keys(NamedTuple):
    """Of the strategy, the candidates, the order of rows, and measuring candidates.

    Each candidate folds its number into the second and the last.
    """

    strategy: Key
    candidates: Key
    order: Key
    measuring: Key


def keys(seed: int) -> Keys:
    """All keys of a search.

    Raises:
      InputError: the seed is no whole number in [0, 2**32); JAX would take it modulo
        that.
    """
    check_whole(0, seed=seed)
    if seed >= 2**32:
        raise InputError(f"seed must lie in [0, 2**32), got {seed}")
    return Keys(*jax.random.split(jax.random.key(seed), 4))
