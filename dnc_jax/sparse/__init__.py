"""Pre-defined sparsity: edges fixed before training, and one weight stored for each.

pattern = sparse.structured(key, 128, 96, density=0.125)
params = sparse.init(key, pattern)
y = sparse.apply(params, pattern, x)
"""

import importlib
from typing import TYPE_CHECKING, Any

from dnc_jax.sparse.clash_free import clash_free, clash_free_patterns
from dnc_jax.sparse.families import (
    balanced,
    block,
    block_diagonal,
    butterfly,
    densities,
    grouped,
    mixed_radix,
    random,
    structured,
)
from dnc_jax.sparse.junction import apply, conv_apply, conv_init, init
from dnc_jax.sparse.kernels import matmul
from dnc_jax.sparse.local import windows
from dnc_jax.sparse.pattern import Description, Pattern, from_dense, from_edges
from dnc_jax.sparse.registry import FAMILIES, draw, edge_count
from dnc_jax.sparse.scatter import Scatter, scatter

if TYPE_CHECKING:
    from dnc_jax.sparse import linen

__all__ = [
    "FAMILIES",
    "Description",
    "Pattern",
    "Scatter",
    "apply",
    "balanced",
    "block",
    "block_diagonal",
    "butterfly",
    "clash_free",
    "clash_free_patterns",
    "conv_apply",
    "conv_init",
    "densities",
    "draw",
    "edge_count",
    "from_dense",
    "from_edges",
    "grouped",
    "init",
    "linen",
    "matmul",
    "mixed_radix",
    "random",
    "scatter",
    "structured",
    "windows",
]


def __getattr__(name: str) -> Any:
    """The Flax modules: Flax is imported only where they are used."""
    if name == "linen":
        return importlib.import_module("dnc_jax.sparse.linen")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
