"""What a network, and the search that found it, cost."""

from dnc_jax.footprint.complexity import Complexity, complexity

__all__ = ["Complexity", "complexity"]
