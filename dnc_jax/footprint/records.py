"""What is written down about energy, with what kind of figure it is."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from dnc_jax.errors import InputError, check_amounts

Kind = Literal["measured", "modelled", "estimated", "unavailable"]
_KINDS: tuple[Kind, ...] = ("measured", "modelled", "estimated", "unavailable")


def worst(kinds: Iterable[Kind]) -> Kind:
    """The kind of a total of figures of these kinds; "unavailable" of none.

    >>> worst(["measured", "estimated", "modelled"])
    'estimated'
    """
    return _KINDS[max(map(_KINDS.index, kinds), default=-1)]


class Part(NamedTuple):
    """What one counter has counted, or what was assumed where there is none."""

    counter: str
    joules: float
    kind: Kind = "measured"


@dataclasses.dataclass(frozen=True)
class Assumed:
    """A power that the user assumes where nothing is counted.

    It is a guess, so its result is `estimated` and has a band: from half the
    utilisation to twice of it, or to the whole TDP.

    Attributes:
      tdp_watts: thermal design power of what is not counted.
      utilisation: mean fraction of it.

    Raises:
      InputError: a negative TDP, or a utilisation outside (0, 1].
    """

    tdp_watts: float
    utilisation: float = 0.5

    def __post_init__(self) -> None:
        check_amounts(tdp_watts=self.tdp_watts)
        if not 0 < self.utilisation <= 1:
            raise InputError(
                f"utilisation must lie in (0, 1], got {self.utilisation:g}"
            )

    @property
    def watts(self) -> float:
        """The assumed power."""
        return self.tdp_watts * self.utilisation

    @property
    def band_watts(self) -> tuple[float, float]:
        """Least and most."""
        return self.watts / 2, self.tdp_watts * min(1.0, 2 * self.utilisation)


class Energy(NamedTuple):
    """The energy of a stretch of work on this machine.

    Attributes:
      joules: of all parts together, idling included; None where it is unavailable,
        never 0 for that.
      kind: the worst of the parts' kinds.
      reason: why it is unavailable.
      parts: what each counter counted, up to its failure if it failed.
      seconds: wall clock.
      cpu_seconds: of this process, all its threads together.
      flops: floating-point operations of the networks trained, if counted.
      measured_fraction: of the joules.
      band_joules: least and most, if a part is estimated.
      idle_watts: what the same counters count of the machine doing nothing, read
        before and after the work; None if nobody waited for that.
      dynamic_joules: the joules without `idle_watts` for all of the seconds.
      missing: what does work and is in no part, each with why.
    """

    joules: float | None
    kind: Kind
    reason: str | None
    parts: tuple[Part, ...]
    seconds: float
    cpu_seconds: float
    flops: int | None
    measured_fraction: float | None = None
    band_joules: tuple[float, float] | None = None
    idle_watts: float | None = None
    dynamic_joules: float | None = None
    missing: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A dict that `json.dumps` takes."""
        return {**self._asdict(), "parts": [part._asdict() for part in self.parts]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Energy":
        """The record that `to_json` wrote."""
        tuples = {
            "parts": tuple(Part(**part) for part in data["parts"]),
            "missing": tuple(data["missing"]),
            "band_joules": data["band_joules"] and tuple(data["band_joules"]),
        }
        return cls(**{**data, **tuples})

    def __str__(self) -> str:
        work = f"{self.cpu_seconds:.0f} CPU seconds"
        if self.flops is not None:
            work += f", {self.flops:.3g} FLOPs"
        if self.joules is None:
            return f"energy unavailable ({self.reason}); {work}"
        text = f"energy {self.joules:,.0f} J"
        if self.band_joules:
            text += " ({:,.0f} to {:,.0f})".format(*self.band_joules)
        text += f", {self.kind}"
        if self.kind != "measured" and self.measured_fraction:
            text += f", {self.measured_fraction:.0%} of it measured"
        if self.dynamic_joules is not None:
            text += f", {self.dynamic_joules:,.0f} J above idling"
        text += "".join(f", without {part}" for part in self.missing)
        return f"{text}; {work}"
