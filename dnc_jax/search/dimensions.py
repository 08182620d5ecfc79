"""What one name of a space ranges over, and its place on the unit interval."""

import dataclasses
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from dnc_jax.errors import InputError, check_known, check_numbers
from dnc_jax.plain import make_plain, plain

Number = float | int

# The name of another dimension and the values of it for which this one matters.
Condition = tuple[str, tuple[Any, ...]]


@dataclasses.dataclass(frozen=True)
class Real:
    """A real number in [low, high], rounded to three digits.

    In a narrow range they count from where its ends differ: 0.99412 in [0.99, 0.999].

    Attributes:
      low, high: inclusive.
      log: uniform in the logarithm.
      zero_below: values below it mean 0.
      when: the dimension is inactive unless that other one has one of these values.

    Raises:
      InputError: low > high, a logarithm of what is not positive, or a condition that
        is no name and values.
    """

    low: Number
    high: Number
    log: bool = False
    zero_below: Number = 0.0
    when: Condition | None = None

    def __post_init__(self) -> None:
        make_plain(self, Real)
        _check_condition(self.when)
        _check(self.low, self.high, log=self.log)

    def decode(self, unit: np.ndarray) -> list[float]:
        """Values at these places of the unit interval."""
        low, high = self._ends
        places = low + unit * (high - low)
        exact = np.exp(places) if self.log else places
        return [self._rounded(float(value)) for value in exact]

    def encode(self, value: Number) -> float:
        """The place of a value."""
        low, high = self._ends
        if self._means_zero(value) or low == high:
            return 0.0
        return ((math.log(value) if self.log else value) - low) / (high - low)

    @property
    def grid(self) -> tuple[float, ...]:
        """Places that show every value, or as many as tell the range."""
        return (0.0, 0.25, 0.5, 0.75, 1.0) if self.low < self.high else (0.0,)

    @property
    def ordered(self) -> bool:
        """Whether values are near or far from each other: those of a range are."""
        return True

    @property
    def _ends(self) -> tuple[Number, Number]:
        if self.log:
            return math.log(self.low), math.log(self.high)
        return self.low, self.high

    @cached_property
    def _digits(self) -> int:
        """Three are all that matters, and all that a person wants to read."""
        largest, range_ = max(abs(self.low), abs(self.high)), self.high - self.low
        return 3 + max(0, math.floor(math.log10(largest / range_))) if range_ else 17

    def _rounded(self, value: float) -> float:
        value = min(max(float(f"{value:.{self._digits}g}"), self.low), self.high)
        return 0.0 if self._means_zero(value) else value

    def _means_zero(self, value: Number) -> bool:
        return 0 <= value < self.zero_below


@dataclasses.dataclass(frozen=True)
class Integer:
    """A whole number in [low, high].

    Attributes:
      low, high: inclusive.
      log: uniform in the logarithm: each number k gets the share of [k - 1/2, k + 1/2),
        so that both ends are whole.
      step: only multiples of it.
      when: the dimension is inactive unless that other one has one of these values.

    Raises:
      InputError: low > high, a logarithm of what is not positive, ends that are no
        multiples of the step, or a condition that is no name and values.
    """

    low: int
    high: int
    log: bool = False
    step: int = 1
    when: Condition | None = None

    def __post_init__(self) -> None:
        make_plain(self, Integer)
        _check_condition(self.when)
        _check(self.low, self.high, log=self.log)
        if self.step < 1 or self.low % self.step or self.high % self.step:
            raise InputError(
                f"{self.low} and {self.high} must be multiples of the step {self.step}"
            )

    def decode(self, unit: np.ndarray) -> list[int]:
        """Values at these places of the unit interval."""
        low, high = self._ends
        places = low + unit * (high - low)
        exact = np.exp(places) if self.log else places
        steps = np.floor(exact / self.step + 0.5).astype(int) * self.step
        return np.clip(steps, self.low, self.high).tolist()

    def encode(self, value: Number) -> float:
        """The place of a value."""
        low, high = self._ends
        return ((math.log(value) if self.log else value) - low) / (high - low)

    @property
    def grid(self) -> tuple[float, ...]:
        """Places that show every value, or as many as tell the range."""
        count = min((self.high - self.low) // self.step + 1, 32)
        values = np.linspace(self.low, self.high, count)
        return tuple(self.encode(round(v / self.step) * self.step) for v in values)

    @property
    def ordered(self) -> bool:
        """Whether values are near or far from each other: those of a range are."""
        return True

    @property
    def _ends(self) -> tuple[Number, Number]:
        low, high = self.low - self.step / 2, self.high + self.step / 2
        return (math.log(low), math.log(high)) if self.log else (low, high)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some values, each as likely; numbers in ascending order are near or far.

    Attributes:
      values: what there is to choose from, no value twice.
      when: the dimension is inactive unless that other one has one of these values.

    Raises:
      InputError: no tuple, no value, one twice, one that cannot be hashed, or a
        condition that is no name and values.
    """

    values: tuple[Any, ...]
    when: Condition | None = None

    def __post_init__(self) -> None:
        make_plain(self, Choice)
        _check_condition(self.when)
        if not isinstance(self.values, tuple):
            raise InputError(
                f"a choice needs a tuple such as (8, 16), got {self.values!r}"
            )
        if not self.values:
            raise InputError("a choice needs at least one value, got ()")
        try:
            different = len(set(self.values))
        except TypeError as error:
            raise InputError(f"a choice needs hashable values: {error}") from error
        if different < len(self.values):
            raise InputError(f"a choice needs different values, got {self.values}")

    def decode(self, unit: np.ndarray) -> list[Any]:
        """Values at these places of the unit interval."""
        last = len(self.values) - 1
        return [self.values[min(int(place * (last + 1)), last)] for place in unit]

    def encode(self, value: Any) -> float:
        """The place of a value: the middle of its share."""
        return (self._places[value] + 0.5) / len(self.values)

    @cached_property
    def _places(self) -> dict[Any, int]:
        return {value: place for place, value in enumerate(self.values)}

    @property
    def grid(self) -> tuple[float, ...]:
        """A place of every value."""
        return tuple(self.encode(value) for value in self.values)

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers that ascend or descend."""
        if not all(type(value) in (int, float) for value in self.values):
            return False
        return list(self.values) in (sorted(self.values), sorted(self.values)[::-1])


Dimension = Real | Integer | Choice

_TYPES: dict[str, type[Dimension]] = {
    "real": Real,
    "integer": Integer,
    "choice": Choice,
}


def is_active(one: Dimension, values: Mapping[str, Any]) -> bool:
    """Whether a dimension matters, by its `when`.

    >>> rate = Real(0.1, 0.5, when=("dropout", (True,)))
    >>> is_active(rate, {"dropout": True}), is_active(rate, {})
    (True, False)

    Args:
      one: a dimension of a space.
      values: of the active ones before it, by name.
    """
    if one.when is None:
        return True
    name, wanted = one.when
    return name in values and values[name] in wanted


def can_be(one: Dimension, value: Any) -> bool:
    """Whether a dimension has this value somewhere, as conditions ask.

    >>> can_be(Integer(8, 64, step=8), 24), can_be(Choice(("a", "b")), "c")
    (True, False)
    """
    if isinstance(one, Choice):
        return value in one.values
    if not isinstance(value, int | float):
        return False
    if isinstance(one, Real) and value == 0 and one.zero_below > one.low:
        return True
    within = one.low <= value <= one.high
    return within and (isinstance(one, Real) or value % one.step == 0)


def to_json(dimensions: Mapping[str, Dimension]) -> dict[str, Any]:
    """Named dimensions as a dict that `json.dumps` takes and `from_json` reads."""
    return {
        name: {"type": type(one).__name__.lower(), **dataclasses.asdict(one)}
        for name, one in dimensions.items()
    }


def from_json(data: Mapping[str, Any]) -> dict[str, Dimension]:
    """The named dimensions that `to_json` described.

    >>> from_json({"width": {"type": "integer", "low": 8, "high": 64}})
    {'width': Integer(low=8, high=64, log=False, step=1, when=None)}

    Raises:
      InputError: an unknown type, or a field that is missing, impossible or no own one.
    """
    dimensions: dict[str, Dimension] = {}
    for name, described in data.items():
        fields = {key: plain(value) for key, value in described.items()}
        kind = fields.pop("type", None)
        try:
            check_known(_TYPES, type=kind)
            dimensions[name] = _TYPES[kind](**fields)
        except (InputError, TypeError) as error:
            raise InputError(f"{name}: {error}") from error
    return dimensions


def _check_condition(when: Any) -> None:
    if when is None:
        return
    if not isinstance(when, tuple) or len(when) != 2:
        raise InputError(f"when must be a name and a tuple of values, got {when!r}")
    name, values = when
    if not isinstance(values, tuple):  # of a text, "in" means a part of it
        raise InputError(
            f"when must be a name and a tuple of values, such as ({name!r}, "
            f"({values!r},)), got {when!r}"
        )


def _check(low: Number, high: Number, *, log: bool) -> None:
    check_numbers(low=low, high=high)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError(f"a range needs finite ends, got {low} and {high}")
    if low > high:
        raise InputError(f"lower {low} > upper {high}; swap them")
    if log and low <= 0:
        raise InputError(f"a logarithmic range needs low > 0, got {low}")
