"""What a search may vary: candidates, and the spaces they are drawn from."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dnc_jax.errors import InputError
from dnc_jax.footprint import Complexity, complexity
from dnc_jax.networks import from_json, to_json
from dnc_jax.search import dimensions as dims
from dnc_jax.search.dimensions import Dimension
from dnc_jax.sparse.families import generator_of
from dnc_jax.training import Hyperparameters
from dnc_jax.typing import Key

Values = dict[str, Any]  # of the active dimensions, by name

_MOST = 1_000_000  # candidates that fit into memory
_TRIES = 1000  # draws for each candidate wanted


@dataclasses.dataclass(frozen=True)
class Candidate:
    """An architecture with the hyperparameters to train it."""

    architecture: Any  # MLP or CNN
    hyperparameters: Hyperparameters

    def __str__(self) -> str:
        h = self.hyperparameters
        return (
            f"{self.architecture}, lr {h.learning_rate:g}, "
            f"decay {h.weight_decay:g}, batch {h.batch_size}"
        )

    def to_json(self) -> dict[str, Any]:
        """A dict that `json.dumps` takes and `Candidate.from_json` reads."""
        return {
            "architecture": to_json(self.architecture),
            **dataclasses.asdict(self.hyperparameters),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> "Candidate":
        """The candidate that `to_json` described.

        Raises:
          InputError: an unknown kind of architecture, a field of it that is missing or
            impossible, or an impossible hyperparameter.
          KeyError, TypeError: no architecture, or a field that no candidate has.
        """
        fields = dict(data)
        architecture = from_json(fields.pop("architecture"))
        return Candidate(architecture, Hyperparameters(**fields))


class Space(abc.ABC):
    """Named dimensions, and what their values build.

    A point of the unit cube has one coordinate for each dimension, in order; it is what
    strategies sample, mutate and model. Different points may build the same candidate.
    """

    @functools.cached_property
    def dimensions(self) -> Mapping[str, Dimension]:
        """By name."""
        return self.describe()

    @abc.abstractmethod
    def describe(self) -> Mapping[str, Dimension]:
        """The dimensions; one that another's `when` names comes before that other."""

    @abc.abstractmethod
    def build(self, values: Values) -> Any:
        """The candidate that the values of the active dimensions describe.

        Hashable; a `Candidate` where networks are searched for.
        """

    def allows(self, candidate: Any) -> bool:
        """Whether the candidate may be proposed."""
        return True

    def decode(self, units: np.ndarray) -> list[Values]:
        """Values at points of the unit cube, [n, dimensions]."""
        dimensions = self.dimensions.values()
        columns = [one.decode(units[:, i]) for i, one in enumerate(dimensions)]
        return [self._active(row) for row in zip(*columns, strict=True)]

    def encode(self, values: Iterable[Values]) -> np.ndarray:
        """Points of the unit cube with these values, 0.5 for inactive dimensions."""
        return np.array(
            [
                [
                    one.encode(point[name]) if name in point else 0.5
                    for name, one in self.dimensions.items()
                ]
                for point in values
            ]
        ).reshape(-1, len(self.dimensions))

    def snap(self, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The points' canonical places, and which of their dimensions are active.

        Points with the same values have the same place: `encode(decode(units))`.
        """
        points = self.decode(units)
        active = [[name in values for name in self.dimensions] for values in points]
        shape = len(points), len(self.dimensions)
        return self.encode(points), np.array(active, bool).reshape(shape)

    def candidates(self, units: np.ndarray) -> list[Any]:
        """What is built at points of the unit cube, [n, dimensions]."""
        return [self.build(values) for values in self.decode(units)]

    def sample(self, key: Key, count: int) -> list[Any]:
        """`count` candidates drawn independently. Consumes `key`.

        Raises:
          InputError: as `draw`.
        """
        return self.candidates(self.draw(generator_of(key), count))

    def sobol(self, key: Key, count: int) -> list[Any]:
        """`count` candidates of a Sobol sequence, scrambled. Consumes `key`.

        Raises:
          InputError: as `draw`.
        """
        return self.candidates(self.draw_sobol(generator_of(key), count))

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Random points of the unit cube whose candidates are allowed.

        Args:
          rng: whose numbers are used up.
          count: of the points.

        Returns:
          Points [count, dimensions].

        Raises:
          InputError: more than a million points, or hardly any is allowed.
        """
        _check_count(count)
        width = len(self.dimensions)
        return self._allowed(lambda n: rng.random((n, width)), count)

    def draw_sobol(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """As `draw`, points of a scrambled Sobol sequence, those not allowed left out.

        Raises:
          InputError: as `draw`.
        """
        from scipy.stats import qmc

        _check_count(count)
        sequence = qmc.Sobol(len(self.dimensions), rng=rng)
        # Such a sequence is balanced, and SciPy silent, if it begins with 2**m points.
        return self._allowed(
            lambda n: sequence.random(1 << (n - 1).bit_length()), count
        )

    def extreme(
        self, measure: Callable[[Complexity], float], largest: bool = False
    ) -> tuple[np.ndarray, Complexity]:
        """The point of the least (largest) measure of complexity, and the complexity.

        From a corner of the cube one coordinate at a time is moved to where the measure
        is least, until nothing changes. That is exact where more of one thing is more
        of the whole, whatever the other things are.
        """
        sign = -1 if largest else 1
        point = np.full(len(self.dimensions), 1.0 if largest else 0.0)
        best = self._cost(point)
        changed = True
        while changed:
            changed = False
            for i, one in enumerate(self.dimensions.values()):
                for place in one.grid:
                    moved = point.copy()
                    moved[i] = place
                    cost = self._cost(moved)
                    if sign * measure(cost) < sign * measure(best):
                        point, best, changed = moved, cost, True
        return point, best

    def largest(self) -> Any:
        """The architecture with the most parameters: what complexity is relative to."""
        point, _ = self.extreme(lambda cost: cost.parameters, largest=True)
        return self.candidates(point[None])[0].architecture

    def limited_to(self, rows: int) -> "Space":
        """The space with batches of at most `rows`, the size of the training set."""
        return self

    def to_json(self) -> dict[str, Any]:
        """A dict that `json.dumps` takes: the dimensions."""
        return {"kind": "custom", "dimensions": dims.to_json(self.dimensions)}

    def _active(self, row: Sequence[Any]) -> Values:
        """Of the values of all dimensions, in order, those of the active ones."""
        values: Values = {}
        for (name, one), value in zip(self.dimensions.items(), row, strict=True):
            if dims.is_active(one, values):
                values[name] = value
        return values

    def _allowed(self, draw: Callable[[int], np.ndarray], count: int) -> np.ndarray:
        """The first `count` points drawn whose candidates are allowed."""
        kept: list[np.ndarray] = []
        drawn, missing = 0, count
        while missing > 0:
            if drawn > _TRIES * count:
                raise InputError(
                    f"{drawn} candidates were drawn and only {count - missing} of the "
                    f"{count} wanted are allowed; widen the space"
                )
            units = draw(missing)
            allowed = [self.allows(candidate) for candidate in self.candidates(units)]
            kept.append(units[allowed])
            drawn += len(units)
            missing -= sum(allowed)
        return np.concatenate([np.empty((0, len(self.dimensions))), *kept])[:count]

    def _cost(self, point: np.ndarray) -> Complexity:
        return complexity(self.candidates(point[None])[0].architecture)


class CustomSpace(Space):
    """A space in a few lines: dimensions, and a function of their values.

    >>> from dnc_jax.networks import MLP
    >>> space = CustomSpace(
    ...     {
    ...         "depth": dims.Choice((1, 2)),
    ...         "first": dims.Integer(8, 64, log=True),
    ...         "second": dims.Integer(8, 64, log=True, when=("depth", (2,))),
    ...         "rate": dims.Real(1e-4, 1e-1, log=True),
    ...     },
    ...     lambda rate, depth, first, second=None: Candidate(
    ...         MLP(64, (first, second) if second else (first,), 10),
    ...         Hyperparameters(learning_rate=rate),
    ...     ),
    ... )
    >>> import jax
    >>> for candidate in space.sample(jax.random.key(0), 2):
    ...     print(candidate)
    64-13-8-10 relu, lr 0.000112, decay 0, batch 128
    64-53-28-10 relu, lr 0.0154, decay 0, batch 128

    Args:
      dimensions: by name.
      function: takes the values of the active dimensions as keyword arguments and
        returns what is to be trained and scored, hashable.

    Raises:
      InputError: no dict and function, no dimensions, one of another kind, or a
        condition on one that does not come before, or on a value that it never has.
    """

    def __init__(
        self, dimensions: Mapping[str, Dimension], function: Callable[..., Any]
    ) -> None:
        if not isinstance(dimensions, Mapping) or not callable(function):
            raise InputError(
                "a space is made of a dict of dimensions and a function of their "
                "values, such as CustomSpace({'nodes': Integer(8, 64)}, build), got a "
                f"{type(dimensions).__name__} and a {type(function).__name__}"
            )
        if not dimensions:
            raise InputError("a space needs at least one dimension, got none")
        before: dict[str, Dimension] = {}
        for name, one in dimensions.items():
            if not isinstance(one, Dimension):
                raise InputError(
                    f"{name} must be a Real, an Integer or a Choice, such as "
                    f"Integer(8, 64), got {one!r}"
                )
            other, wanted = one.when or ("", ())
            if one.when and other not in before:
                raise InputError(
                    f"{name} depends on {other!r}, which must come before it"
                )
            for value in wanted:
                if not dims.can_be(before[other], value):
                    raise InputError(
                        f"{name} depends on {other} = {value!r}, which {before[other]} "
                        "never is"
                    )
            before[name] = one
        self._dimensions = dict(dimensions)
        self._function = function

    def describe(self) -> Mapping[str, Dimension]:
        """The dimensions as given."""
        return self._dimensions

    def build(self, values: Values) -> Any:
        """What the function makes of the values."""
        return self._function(**values)

    @staticmethod
    def from_json(data: dict[str, Any], function: Callable[..., Any]) -> "CustomSpace":
        """The space that `to_json` described, with its function.

        Raises:
          InputError: a dimension that cannot be, or limits, with which
            `space_from_json(data, function)` reads it.
        """
        if "constraints" in data:
            raise InputError(
                "the space is described with constraints, which would be lost; read it "
                "by space_from_json(data, function)"
            )
        if "dimensions" not in data:
            raise InputError(
                f"not the description of a custom space: no dimensions in {data}"
            )
        return CustomSpace(dims.from_json(data["dimensions"]), function)


def _check_count(count: int) -> None:
    if count > _MOST:
        raise InputError(f"at most {_MOST:,} candidates at a time, got {count:,}")
