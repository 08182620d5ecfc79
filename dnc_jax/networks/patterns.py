"""The patterns of a network's sparse junctions, dense layers and convolutions alike."""

import jax

from dnc_jax import sparse
from dnc_jax.errors import InputError
from dnc_jax.networks.architecture import Architecture
from dnc_jax.typing import Key

# Of each junction, None for a dense one; empty if all are dense.
Patterns = tuple[sparse.Pattern | None, ...]


def patterns(key: Key, architecture: Architecture) -> Patterns:
    """Draws the pattern of each sparse junction; empty for a dense network.

    Consumes `key`.
    """
    if not architecture.sparsity:
        return ()
    keys = jax.random.split(key, len(architecture.junctions))
    return tuple(
        sparsity
        and sparse.draw(
            key,
            sparsity.family,
            n_in,
            n_out,
            density=sparsity.density,
            block=sparsity.block,
        )
        for key, sparsity, (n_in, n_out) in zip(
            keys, architecture.sparsity, architecture.junctions, strict=True
        )
    )


def check(architecture: Architecture, patterns: Patterns) -> None:
    """Patterns must have the sizes and edges that the architecture describes.

    Raises:
      InputError: they have not; it names both.
    """
    found = [p and (p.n_in, p.n_out, p.edges) for p in patterns]
    wanted = [
        sparsity and (n_in, n_out, sparsity.edges(n_in, n_out))
        for sparsity, (n_in, n_out) in zip(
            architecture.sparsity, architecture.junctions, strict=False
        )
    ]
    if found != wanted:
        raise InputError(
            f"patterns with (inputs, outputs, edges) {found} are not those of "
            f"{architecture}: {wanted}; draw them by network.patterns"
        )
