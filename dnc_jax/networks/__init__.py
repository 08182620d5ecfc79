"""Networks: a plain description each, and pure `init` and `apply` functions."""

from dnc_jax.networks import mlp
from dnc_jax.networks.architecture import (
    MLP,
    Architecture,
    Sparsity,
    from_json,
    to_json,
)

__all__ = ["MLP", "Architecture", "Sparsity", "from_json", "mlp", "to_json"]
