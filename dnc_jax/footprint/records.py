"""What is written down about energy, with what kind of figure it is."""

from typing import Any, Literal, NamedTuple

Kind = Literal["measured", "modelled", "estimated", "unavailable"]


class Part(NamedTuple):
    """What one counter has counted."""

    counter: str
    joules: float


class Energy(NamedTuple):
    """The energy of a stretch of work on this machine.

    Attributes:
      joules: of all parts together; None where it is unavailable, never 0 for that.
      kind: "measured": counters were read; "unavailable": there are none, or one
        failed.
      reason: why it is unavailable.
      parts: what each counter counted, up to its failure if it failed.
      seconds: wall clock.
      cpu_seconds: of this process, all its threads together.
      flops: floating-point operations of the networks trained, if counted.
    """

    joules: float | None
    kind: Kind
    reason: str | None
    parts: tuple[Part, ...]
    seconds: float
    cpu_seconds: float
    flops: int | None

    def to_json(self) -> dict[str, Any]:
        """A dict that `json.dumps` takes."""
        return {**self._asdict(), "parts": dict(self.parts)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Energy":
        """The record that `to_json` wrote."""
        parts = tuple(Part(*item) for item in data["parts"].items())
        return cls(**{**data, "parts": parts})

    def __str__(self) -> str:
        work = f"{self.cpu_seconds:.0f} CPU seconds"
        if self.flops is not None:
            work += f", {self.flops:.3g} FLOPs"
        if self.joules is None:
            return f"energy unavailable ({self.reason}); {work}"
        return f"energy {self.joules:,.0f} J, {self.kind}; {work}"


def training_flops(
    flops_per_example: int, train_rows: int, validation_rows: int, epochs: int
) -> int:
    """Floating-point operations of training a network and validating each epoch.

    A training step costs three forward passes: one forward, and a product each for the
    gradients of weights and inputs. The optimiser is left out.
    """
    return flops_per_example * epochs * (3 * train_rows + validation_rows)
