"""The one number a search minimises: performance plus weighted complexity."""

import dataclasses
import math
from collections.abc import Sequence

from dnc_jax.errors import InputError
from dnc_jax.footprint import Complexity

PERFORMANCES = ("error", "loss", "mse")
TERMS = ("parameters", "flops", "seconds", "joules")
_LEAST_LOSS = 1e-9  # told from 0
_REFERENCE_SECONDS = 10.0  # as in Deep-n-Cheap
_REFERENCE_JOULES = 1000.0  # ten seconds at 100 W


@dataclasses.dataclass(frozen=True)
class Objective:
    """`log10(f_p + w_c * f_c)`, lower is better.

    `f_p` is the least validation error (1 - accuracy, or the variance left unexplained
    in regression), the least validation loss, or ten times the least mean squared
    error over the epochs; `f_c` is a weighted sum: parameters and FLOPs, each over
    those of the space's largest network, the seconds of an epoch of training over 10 s,
    and its joules over 1 kJ. Seconds and joules are of the network trained by itself.

    Attributes:
      performance: `error`, `loss`, or `mse` (regression only).
      w_c: weight of complexity, 0 (performance alone) to 10 (small above all).
      parameters, flops, seconds, joules: weights of the terms within `f_c`. With
        weights on the last two, each candidate is trained by itself for a moment, and
        scores depend on the machine and on who else uses it.

    Raises:
      InputError: an unknown performance or a negative weight.

    Reference: S. Dey et al., "Deep-n-Cheap" (2020), equation 1.
    """

    performance: str = "error"
    w_c: float = 0.0
    parameters: float = 1.0
    flops: float = 0.0
    seconds: float = 0.0
    joules: float = 0.0

    def __post_init__(self) -> None:
        if self.performance not in PERFORMANCES:
            raise InputError(
                f"objective.performance must be one of {', '.join(PERFORMANCES)}, "
                f"got {self.performance!r}"
            )
        for name in ("w_c", *TERMS):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise InputError(
                    f"objective.{name} must be a finite number >= 0, got {value}"
                )

    def check(self, task: str) -> None:
        """Whether this objective suits a `Dataset.task`.

        Raises:
          InputError: it does not.
        """
        if self.performance == "mse" and task != "regression":
            raise InputError(
                f"objective.performance = 'mse' is for regression, and the data is a "
                f"{task} problem; use 'error' or 'loss'"
            )

    def score(
        self,
        val_loss: Sequence[float],
        val_accuracy: Sequence[float],
        cost: Complexity,
        largest: Complexity,
        resolution: float,
        *,
        epoch_seconds: float | None = None,
        epoch_joules: float | None = None,
    ) -> float:
        """Score of a network from its curves, one entry an epoch, and its cost.

        Args:
          val_loss, val_accuracy: by epoch; both empty for a network that never had
            a finite loss, whose score is infinite.
          cost: of the network.
          largest: of the largest network of the space.
          resolution: least error that is told from 0 (`Dataset.resolution`): the score
            of a perfect network would be minus infinity, and is not known any better.
            Of a loss 1e-9 is.
          epoch_seconds, epoch_joules: of training, where measured.

        Raises:
          ValueError: a term with a weight was not measured.
        """
        if not val_loss:
            return math.inf
        if self.performance == "error":
            f_p = max(1 - max(val_accuracy), resolution)
        else:
            f_p = max(min(val_loss), _LEAST_LOSS)
        if self.performance == "mse":
            f_p *= 10
        if not self.w_c:
            return math.log10(f_p)
        f_c = (
            self.parameters * cost.parameters / largest.parameters
            + self.flops * cost.flops_per_example / largest.flops_per_example
            + _measured(self.seconds, epoch_seconds, _REFERENCE_SECONDS)
            + _measured(self.joules, epoch_joules, _REFERENCE_JOULES)
        )
        return math.log10(f_p + self.w_c * f_c)


def _measured(weight: float, value: float | None, reference: float) -> float:
    if not weight:
        return 0.0
    if value is None:
        raise ValueError("the objective weighs a term that was not measured")
    return weight * value / reference
