"""The one number a search minimises: performance plus weighted complexity."""

import dataclasses
import math
from collections.abc import Sequence

from dnc_jax.errors import InputError, check_amounts, check_known
from dnc_jax.footprint import Complexity
from dnc_jax.plain import make_plain
from dnc_jax.training.goals import Goal, squared_error
from dnc_jax.training.timing import UNMEASURED, EpochCost

PERFORMANCES = ("error", "loss", "mse")
_LEAST_LOSS = 1e-9  # told from 0
_ROUNDING = 1e-5  # of a loss that is 0
_REFERENCE_SECONDS = 10.0  # as in Deep-n-Cheap
_REFERENCE_JOULES = 1000.0  # ten seconds at 100 W


@dataclasses.dataclass(frozen=True)
class Objective:
    """`log10(f_p + w_c * f_c)`, lower is better.

    `f_p` is the least validation error (1 - accuracy, or 1 - F1; in regression the
    variance left unexplained), the least validation loss, or ten times the least mean
    squared error over the epochs; `f_c` is a weighted sum: parameters and FLOPs, each
    over those of the space's largest network, the seconds of an epoch of training over
    10 s, and its joules over 1 kJ. Seconds and joules are of the network trained by
    itself.

    Attributes:
      performance: `error`, `loss`, or `mse` (regression by the squared error only).
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
        make_plain(self, Objective)
        check_known(PERFORMANCES, performance=self.performance)
        weights = (field.name for field in dataclasses.fields(Objective)[1:])
        check_amounts(**{name: getattr(self, name) for name in weights})
        terms = (self.parameters, self.flops, self.seconds, self.joules)
        own = type(self).score is not Objective.score
        if self.w_c and not any(terms) and not own:
            raise InputError(
                f"w_c = {self.w_c:g} weighs nothing: parameters, flops, seconds and "
                "joules are 0; one of them must be > 0"
            )

    @property
    def measured(self) -> frozenset[str]:
        """The fields of `EpochCost` that weigh something."""
        return frozenset(n for n in EpochCost._fields if self.w_c and getattr(self, n))

    def check(self, goal: Goal) -> None:
        """Whether this objective suits what networks are trained for.

        Raises:
          InputError: it does not.
        """
        if self.performance == "mse" and goal.loss is not squared_error:
            raise InputError(
                "objective.performance = 'mse' is for regression by the squared error, "
                "and this data has labels or another loss; use 'error' or 'loss'"
            )

    def score(
        self,
        val_loss: Sequence[float],
        val_accuracy: Sequence[float],
        cost: Complexity,
        largest: Complexity,
        resolution: float,
        epoch: EpochCost = UNMEASURED,
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
          epoch: what an epoch of training takes, as far as `measured` asks for it.

        Raises:
          InputError: a loss below 0 counts.
          ValueError: a term with a weight was not measured.
        """
        if not val_loss:
            return math.inf
        if self.performance == "error":
            f_p = max(1 - max(val_accuracy), resolution)
        else:
            least = min(val_loss)
            if least < -_ROUNDING:
                raise InputError(
                    f"a validation loss of {least:g} has no logarithm; add a "
                    "constant to the loss, or use objective.performance = 'error'"
                )
            f_p = max(least, _LEAST_LOSS)
        if self.performance == "mse":
            f_p *= 10
        if not self.w_c:
            return math.log10(f_p)
        f_c = 0.0
        for name, term in _terms(cost, largest, epoch).items():
            if weight := getattr(self, name):
                if term is None:
                    raise ValueError(f"objective.{name} weighs what was not measured")
                f_c += weight * term
        return math.log10(f_p + self.w_c * f_c)


def _terms(
    cost: Complexity, largest: Complexity, epoch: EpochCost
) -> dict[str, float | None]:
    """What `f_c` sums, by the name of the weight; None where it was not measured."""

    def relative(value: float | None, reference: float) -> float | None:
        return None if value is None else value / reference

    return {
        "parameters": cost.parameters / largest.parameters,
        "flops": cost.flops_per_example / largest.flops_per_example,
        "seconds": relative(epoch.seconds, _REFERENCE_SECONDS),
        "joules": relative(epoch.joules, _REFERENCE_JOULES),
    }
