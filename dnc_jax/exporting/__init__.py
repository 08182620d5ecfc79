"""A trained network as a folder that runs without dnc_jax."""

from dnc_jax.exporting.folder import export

__all__ = ["export"]
