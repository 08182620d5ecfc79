"""The families that a name, a density and a block describe in full.

These are what an architecture may ask for; a new one is one entry here.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from dnc_jax.errors import InputError
from dnc_jax.sparse import families
from dnc_jax.sparse.clash_free import clash_free
from dnc_jax.sparse.pattern import Pattern
from dnc_jax.typing import Key


class Family(NamedTuple):
    """How patterns of a family are drawn, and how many edges they have.

    Attributes:
      draw: `draw(key, n_in, n_out, density=, block=) -> Pattern`; consumes the key.
      blocks: `blocks(n_in, n_out, density, block, nearest)`: edges between blocks,
        known without drawing.
    """

    draw: Callable[..., Pattern]
    blocks: Callable[..., int]


def _clash_free(
    key: Key, n_in: int, n_out: int, *, density: float, block: tuple[int, int]
) -> Pattern:
    """Type 3 with dither, which exists for every density.

    The number of memories is the divisor of n_in nearest to its root: the most patterns
    lie between few memories and few rows.
    """
    _refuse_block(block)
    memories = min(
        (z for z in range(1, n_in + 1) if n_in % z == 0),
        key=lambda z: abs(math.log(z * z / n_in)),
    )
    return clash_free(
        key, n_in, n_out, density=density, memories=memories, kind=3, dither=True
    )


def _clash_free_blocks(
    n_in: int, n_out: int, density: float, block: tuple[int, int], nearest: bool
) -> int:
    _refuse_block(block)
    return families.structured_blocks(n_in, n_out, density, block, nearest)


def _refuse_block(block: tuple[int, int]) -> None:
    if block != (1, 1):
        raise InputError(
            f"a clash-free pattern joins single nodes, got blocks of {block}; use "
            "family 'structured'"
        )


FAMILIES = {
    "structured": Family(families.structured, families.structured_blocks),
    "balanced": Family(families.balanced, families.balanced_blocks),
    "random": Family(families.random, families.random_blocks),
    "clash_free": Family(_clash_free, _clash_free_blocks),
}


def draw(
    key: Key,
    family: str,
    n_in: int,
    n_out: int,
    *,
    density: float,
    block: tuple[int, int] = (1, 1),
) -> Pattern:
    """A pattern of the family of this name. Consumes `key`.

    Raises:
      InputError: an unknown family, or as that family.
    """
    return _known(family).draw(key, n_in, n_out, density=density, block=block)


def edge_count(
    family: str,
    n_in: int,
    n_out: int,
    *,
    density: float,
    block: tuple[int, int] = (1, 1),
    nearest: bool = False,
) -> int:
    """Edges between nodes that a pattern of this family will have, undrawn.

    >>> edge_count("structured", 800, 100, density=0.5)
    40000

    Raises:
      InputError: an unknown family, or as that family.
    """
    blocks = _known(family).blocks(n_in, n_out, density, block, nearest)
    return blocks * math.prod(block)


def _known(name: str) -> Family:
    if name not in FAMILIES:
        raise InputError(f"unknown family {name!r}; known: {', '.join(FAMILIES)}")
    return FAMILIES[name]
