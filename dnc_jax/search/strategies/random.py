"""Random search: every candidate drawn independently."""

from dnc_jax.search.space import Space
from dnc_jax.search.strategies.base import Strategy
from dnc_jax.search.strategies.single import at_random, single


def random(
    space: Space,
    *,
    candidates: int = 64,
    batch: int = 8,
    epochs: int = 27,
) -> Strategy:
    """Random search without repetition: what every other strategy has to beat.

    Args:
      space: where candidates come from.
      candidates: of the whole search.
      batch: asked for together.
      epochs: that each candidate is trained for, at once.

    Raises:
      InputError: a count below 1.

    Reference: J. Bergstra and Y. Bengio, "Random Search for Hyper-Parameter
    Optimization" (2012).
    """
    return single(space, at_random, candidates=candidates, batch=batch, epochs=epochs)
