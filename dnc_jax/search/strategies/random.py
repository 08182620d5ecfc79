"""Random search: every candidate drawn independently."""

import numpy as np

from dnc_jax.search.space import Space
from dnc_jax.search.strategies.base import Strategy
from dnc_jax.search.strategies.history import Seen, drawn
from dnc_jax.search.strategies.single import generator, single
from dnc_jax.typing import Key


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

    def propose(space: Space, seen: Seen, count: int, key: Key) -> list[np.ndarray]:
        return drawn(space, set(seen.candidates), count, generator(key, seen))

    return single(space, propose, candidates=candidates, batch=batch, epochs=epochs)
