"""What a network may cost at most: the one place where every strategy's limits live."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dnc_jax.errors import InputError, check_numbers
from dnc_jax.footprint import Complexity, complexity
from dnc_jax.plain import make_plain
from dnc_jax.search.dimensions import Dimension
from dnc_jax.search.space import Space, Values
from dnc_jax.training.timing import UNMEASURED, EpochCost

_TRIES = 20  # draws for each point wanted, before the others are made smaller


@dataclasses.dataclass(frozen=True)
class Constraints:
    """Upper limits; 0 is none.

    Parameters and FLOPs are known before training: `limited` keeps a search from ever
    proposing what exceeds them. Seconds and joules are measured: a trial by which they
    are not `met` is infeasible, and can never win.

    Attributes:
      max_parameters: trainable numbers.
      max_flops: of one example's forward pass.
      max_seconds_per_epoch: of training.
      max_joules_per_epoch: of training.

    Raises:
      InputError: a negative limit.
    """

    max_parameters: int = 0
    max_flops: int = 0
    max_seconds_per_epoch: float = 0.0
    max_joules_per_epoch: float = 0.0

    def __post_init__(self) -> None:
        make_plain(self, Constraints)
        for name, value in dataclasses.asdict(self).items():
            check_numbers(**{name: value})
            if not value >= 0:
                raise InputError(f"{name} must be >= 0, got {value}")

    def excess(self, cost: Complexity) -> float:
        """The cost over its limit, the worst of the terms; feasible up to 1."""
        return max(
            cost.parameters / (self.max_parameters or math.inf),
            cost.flops_per_example / (self.max_flops or math.inf),
        )

    @property
    def measured(self) -> frozenset[str]:
        """The fields of `EpochCost` that are limited."""
        return frozenset(name for name in EpochCost._fields if self._limit(name))

    def met(self, cost: Complexity, epoch: EpochCost = UNMEASURED) -> bool:
        """Whether a trained network keeps to every limit whose quantity is known."""
        return self.excess(cost) <= 1 and all(
            (getattr(epoch, name) or 0.0) <= self._limit(name) for name in self.measured
        )

    def _limit(self, name: str) -> float:
        return getattr(self, f"max_{name}_per_epoch", 0.0)

    def limited(self, space: Space) -> Space:
        """The space without the networks that are too large.

        Raises:
          InputError: the smallest network is too large; its cost is named.
        """
        return Limited(space, self) if self.known else space

    @property
    def known(self) -> bool:
        """Whether something is limited that is known before training."""
        return bool(self.max_parameters or self.max_flops)


NO_CONSTRAINTS = Constraints()


class Limited(Space):
    """A space of which only what keeps to the constraints is drawn.

    Points are drawn until they do. Where that is rare, a point that does not is moved
    towards the smallest network's, in the dimensions that complexity depends on.
    """

    def __init__(self, space: Space, constraints: Constraints) -> None:
        self.space = space
        self.constraints = constraints
        point, cost = space.extreme(constraints.excess)
        if constraints.excess(cost) > 1:
            limits = [
                f"{name} = {value:,}"
                for name in ("max_parameters", "max_flops")
                if (value := getattr(constraints, name))
            ]
            raise InputError(
                f"{' and '.join(limits)}: the space's smallest network has "
                f"{cost.parameters:,} parameters and {cost.flops_per_example:,} FLOPs "
                "an example; raise the limit or widen the space"
            )
        self._smallest = point

    def describe(self) -> Mapping[str, Dimension]:
        """Those of the whole space."""
        return self.space.dimensions

    def build(self, values: Values) -> Any:
        """As the whole space does."""
        return self.space.build(values)

    def allows(self, candidate: Any) -> bool:
        """Whether the whole space allows it and it keeps to the constraints."""
        cost = complexity(candidate.architecture)
        return self.space.allows(candidate) and self.constraints.excess(cost) <= 1

    def limited_to(self, rows: int) -> Space:
        """The space, still limited, with batches of at most `rows`."""
        return Limited(self.space.limited_to(rows), self.constraints)

    def largest(self) -> Any:
        """Of the whole space, so that scores do not depend on the limits."""
        return self.space.largest()

    def to_json(self) -> dict[str, Any]:
        """The whole space's description and the limits."""
        limits = dataclasses.asdict(self.constraints)
        return {**self.space.to_json(), "constraints": limits}

    def _allowed(self, draw: Callable[[int], np.ndarray], count: int) -> np.ndarray:
        if not count:
            return np.empty((0, len(self.dimensions)))
        kept: list[np.ndarray] = []
        for attempt in range(_TRIES):
            units = draw(count << min(attempt, 4))
            kept += [
                unit
                for unit, candidate in zip(units, self.candidates(units), strict=True)
                if self.allows(candidate)
            ]
            if len(kept) >= count:
                return np.stack(kept[:count])
        kept += [self._fitted(unit) for unit in draw(count - len(kept))]
        return np.stack(kept[:count])

    def _fitted(self, unit: np.ndarray) -> np.ndarray:
        """The point, moved as little towards the smallest network as halving shows."""
        for share in (1.0, 0.5, 0.25, 0.125, 0.0625, 0.0):
            towards = self._smallest + share * (unit - self._smallest)
            moved = np.where(self._costly, towards, unit)
            if self.allows(self.candidates(moved[None])[0]):
                return moved
        return self._smallest

    @functools.cached_property
    def _costly(self) -> np.ndarray:
        """Which dimensions change the cost of the smallest or the largest network."""
        largest, _ = self.space.extreme(self.constraints.excess, largest=True)
        costly = np.zeros(len(self.dimensions), bool)
        for corner in (self._smallest, largest):
            for i, one in enumerate(self.dimensions.values()):
                moved = np.repeat(corner[None], len(one.grid), axis=0)
                moved[:, i] = one.grid
                nets = [candidate.architecture for candidate in self.candidates(moved)]
                costly[i] |= len(set(map(complexity, nets))) > 1
        return costly
