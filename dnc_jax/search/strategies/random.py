"""Random search: every candidate drawn independently."""

from collections.abc import Sequence

from dnc_jax.search.space import Space, Values
from dnc_jax.search.strategies.base import Strategy
from dnc_jax.search.strategies.single import at_random, single


def random(
    space: Space,
    *,
    candidates: int = 64,
    batch: int = 8,
    epochs: int = 27,
    first: Sequence[Values] = (),
) -> Strategy:
    """Random search without repetition: what every other strategy has to beat.

    Args:
      space: where candidates come from.
      candidates: of the whole search.
      batch: asked for together.
      epochs: that each candidate is trained for, at once.
      first: what to begin with: values by dimension of the space; one that is left
        out takes the middle of its range.

    Raises:
      InputError: a count below 1, or values that the space has not.

    Reference: J. Bergstra and Y. Bengio, "Random Search for Hyper-Parameter
    Optimization" (2012).
    """
    return single(
        space, at_random, candidates=candidates, batch=batch, epochs=epochs, first=first
    )
