"""How a network is trained: the part of a candidate that is not its architecture."""

import dataclasses
import math

from dnc_jax.errors import InputError, check_amounts, check_numbers, check_whole
from dnc_jax.plain import make_plain


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """Training hyperparameters of Adam with an L2 penalty.

    Attributes:
      learning_rate: before the two drops of `rate_factor`.
      weight_decay: added to the gradient as `weight_decay * parameter`.
      batch_size: examples a step.

    Raises:
      InputError: a rate that is not positive, a negative decay, one that is not
        finite, a batch below 1.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    batch_size: int = 128

    def __post_init__(self) -> None:
        make_plain(self, Hyperparameters)
        check_numbers(learning_rate=self.learning_rate)
        if not 0 < self.learning_rate < math.inf:
            raise InputError(
                f"learning_rate must be finite and > 0, got {self.learning_rate}"
            )
        check_amounts(weight_decay=self.weight_decay)
        check_whole(1, batch_size=self.batch_size)


def rate_factor(epoch: int, epochs: int) -> float:
    """What multiplies the learning rate in `epoch` (from 0) of a run of `epochs`.

    1, then 0.2 from half of the epochs on, then 0.04 from three quarters on.

    Reference: S. Dey et al., "Deep-n-Cheap" (2020), training schedule.
    """
    return 0.2 ** ((2 * epoch >= epochs) + (4 * epoch >= 3 * epochs))
