"""dnc_jax: neural networks that are good and cheap, found many at a time."""

from dnc_jax.errors import InputError
from dnc_jax.exporting import export
from dnc_jax.training.checkpoints import Network, load

__version__ = "0.1.0"
__all__ = ["InputError", "Network", "__version__", "export", "load"]
