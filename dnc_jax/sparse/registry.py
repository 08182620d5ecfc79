"""The families that a name, a density and a block describe in full.

These are what an architecture may ask for; a new one is one entry here.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from dnc_jax.errors import InputError, check_known
from dnc_jax.sparse import families, local
from dnc_jax.sparse.clash_free import clash_free
from dnc_jax.sparse.pattern import Pattern
from dnc_jax.typing import Key


class Family(NamedTuple):
    """How patterns of a family are drawn, and how many edges they have.

    Attributes:
      draw: `draw(key, n_in, n_out, density=, block=) -> Pattern`; consumes the key.
      count: `count(n_in, n_out, density, block, nearest)`: edges between blocks,
        known without drawing.
      blocks: whether edges may join blocks of nodes.
      cover: blocks that an input should be joined to, where their sides are chosen.
        Windows fall anywhere: of one on average, a third of the pixels see none.
    """

    draw: Callable[..., Pattern]
    count: Callable[..., int]
    blocks: bool = True
    cover: int = 1


def _clash_free(
    key: Key, n_in: int, n_out: int, *, density: float, block: tuple[int, int]
) -> Pattern:
    """Type 3 with dither, which exists for every density.

    The number of memories is the divisor of n_in nearest to its root: the most patterns
    lie between few memories and few rows.
    """
    memories = min(
        (z for z in range(1, n_in + 1) if n_in % z == 0),
        key=lambda z: abs(math.log(z * z / n_in)),
    )
    return clash_free(
        key, n_in, n_out, density=density, memories=memories, kind=3, dither=True
    )


FAMILIES = {
    "structured": Family(families.structured, families.structured_blocks),
    "balanced": Family(families.balanced, families.balanced_blocks),
    "random": Family(families.random, families.random_blocks),
    "clash_free": Family(_clash_free, families.structured_blocks, blocks=False),
    "windows": Family(local.windows_of_density, local.window_blocks, cover=3),
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
    known = _known(family, block)
    return known.draw(key, n_in, n_out, density=density, block=block)


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
    known = _known(family, block)
    return known.count(n_in, n_out, density, block, nearest) * math.prod(block)


def _known(name: str, block: tuple[int, int]) -> Family:
    check_known(FAMILIES, family=name)
    if block != (1, 1) and not FAMILIES[name].blocks:
        raise InputError(
            f"family {name!r} joins single nodes, got blocks of {block}; use "
            "family 'structured'"
        )
    return FAMILIES[name]
