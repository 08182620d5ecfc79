"""Search strategies; each is a `Strategy` of pure functions."""

from dnc_jax.search.strategies.base import Evaluation, Strategy
from dnc_jax.search.strategies.halving import halving

__all__ = ["Evaluation", "Strategy", "halving"]
