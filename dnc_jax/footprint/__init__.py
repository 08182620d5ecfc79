"""What a network, and the search that found it, cost."""

from dnc_jax.footprint.complexity import Complexity, complexity
from dnc_jax.footprint.meters import Meter, find
from dnc_jax.footprint.records import Energy, training_flops

__all__ = [
    "Complexity",
    "Energy",
    "Meter",
    "complexity",
    "find",
    "training_flops",
]
