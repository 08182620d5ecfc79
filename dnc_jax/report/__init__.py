"""What a person sees of a search."""

from dnc_jax.report import plots, terminal

__all__ = ["plots", "terminal"]
