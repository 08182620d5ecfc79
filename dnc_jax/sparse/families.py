"""Ways to draw a pattern. Each takes a key first and returns a `Pattern`.

Drawn in NumPy, before training, once; the key seeds NumPy's generator. A density is
the kept fraction of edges. Families with constant degrees allow only
`densities(n_in, n_out, block)`; asked for another they raise an error that names the
two nearest, or take the nearest where `nearest=True`.
"""

import math
from collections.abc import Sequence

import jax
import numpy as np

from dnc_jax.errors import InputError, check_numbers
from dnc_jax.sparse.pattern import Pattern, from_edges, grid
from dnc_jax.typing import Key


def densities(
    n_in: int, n_out: int, block: tuple[int, int] = (1, 1)
) -> tuple[float, ...]:
    """All densities that constant fan_in and fan_out allow: k / gcd, ascending.

    >>> densities(8, 4)
    (0.25, 0.5, 0.75, 1.0)

    Reference: S. Dey et al. (2018), arXiv 1812.01164, on structured patterns.
    """
    choices = math.gcd(*grid(n_in, n_out, block))
    return tuple(k / choices for k in range(1, choices + 1))


def random(
    key: Key,
    n_in: int,
    n_out: int,
    *,
    density: float,
    block: tuple[int, int] = (1, 1),
) -> Pattern:
    """Cells drawn uniformly without replacement: ceil(density * cells) of them.

    Degrees vary and nodes may end up unconnected; `describe()` counts them.

    Raises:
      InputError: a density outside (0, 1], or blocks that do not divide the nodes.
    """
    blocks_in, blocks_out = grid(n_in, n_out, block)
    kept = random_blocks(n_in, n_out, density, block)
    chosen = generator_of(key).choice(blocks_in * blocks_out, kept, replace=False)
    return from_edges(*np.divmod(chosen, blocks_out), n_in, n_out, block)


def structured(
    key: Key,
    n_in: int,
    n_out: int,
    *,
    density: float,
    block: tuple[int, int] = (1, 1),
    nearest: bool = False,
) -> Pattern:
    """Constant fan_in and constant fan_out, inputs drawn at random.

    Output by output, each draws distinct inputs by their remaining edges over the
    remaining outputs; an input that has as many of one as of the other must be drawn,
    so the last output always finds what it needs and no edge appears twice.

    Args:
      key: consumed.
      n_in, n_out: nodes.
      density: one of `densities(n_in, n_out, block)`.
      block: drawn over blocks of `(b_in, b_out)` nodes instead of single ones.
      nearest: take the nearest possible density instead of raising.

    Raises:
      InputError: an impossible density, or blocks that do not divide the nodes.

    Reference: S. Dey et al. (2018), arXiv 1812.01164, on structured patterns.
    """
    blocks_in, blocks_out = grid(n_in, n_out, block)
    fan_in, fan_out = degrees_of(n_in, n_out, density, block, nearest)
    degrees = np.full(blocks_in, fan_out)
    sources = _draw(generator_of(key), degrees, blocks_out, fan_in)
    return from_lists(sources, n_in, n_out, block)


def block(
    key: Key,
    n_in: int,
    n_out: int,
    *,
    density: float,
    side: int,
    nearest: bool = False,
) -> Pattern:
    """`structured` over square blocks of `side` x `side` nodes."""
    return structured(
        key, n_in, n_out, density=density, block=(side, side), nearest=nearest
    )


def balanced(
    key: Key,
    n_in: int,
    n_out: int,
    *,
    density: float,
    block: tuple[int, int] = (1, 1),
    nearest: bool = False,
) -> Pattern:
    """Constant fan_in, and fan_outs that differ by one block at most.

    `structured` where not every density divides: fan_in may be any number of blocks,
    so that the densities are k * b_in / n_in.

    Raises:
      InputError: an impossible density, or blocks that do not divide the nodes.
    """
    blocks_in, blocks_out = grid(n_in, n_out, block)
    fan_in = balanced_blocks(n_in, n_out, density, block, nearest) // blocks_out
    generator = generator_of(key)
    each, more = divmod(blocks_out * fan_in, blocks_in)
    degrees = np.full(blocks_in, each)
    degrees[generator.choice(blocks_in, more, replace=False)] += 1
    sources = _draw(generator, degrees, blocks_out, fan_in)
    return from_lists(sources, n_in, n_out, block)


def grouped(
    key: Key,
    n_in: int,
    n_out: int,
    *,
    density: float,
    side: int,
    nearest: bool = False,
) -> Pattern:
    """`balanced`, with `side` neighbouring outputs sharing one list of inputs."""
    return balanced(key, n_in, n_out, density=density, block=(1, side), nearest=nearest)


def block_diagonal(key: Key, n_in: int, n_out: int, *, blocks: int) -> Pattern:
    """Inputs permuted, then `blocks` dense blocks on the diagonal: density 1 / blocks.

    Raises:
      InputError: `blocks` does not divide n_in and n_out.
    """
    for nodes, name in ((n_in, "n_in"), (n_out, "n_out")):
        if blocks < 1 or nodes % blocks:
            raise InputError(f"{name} = {nodes} does not fall into {blocks} blocks")
    sources = generator_of(key).permutation(n_in).reshape(blocks, -1)
    return from_lists(sources, n_in, n_out, (1, n_out // blocks))


def butterfly(
    key: Key,
    n_in: int,
    n_out: int,
    *,
    block: tuple[int, int] = (1, 1),
    stages: Sequence[int] | None = None,
) -> Pattern:
    """A flat butterfly: block q reads blocks q and q ^ 2**s, for every stage s.

    The key permutes the input blocks, so that stacked junctions mix differently.

    Args:
      key: consumed.
      n_in, n_out: nodes.
      block: sides of a block. The smaller count of blocks must be a power of two and
        divide the larger.
      stages: which s; None is all of them, log2 of the smaller count.

    Raises:
      InputError: counts of blocks that do not fit, or an unknown stage.

    Reference: B. Chen et al., "Pixelated Butterfly" (2021), arXiv 2112.00029, the flat
    block butterfly.
    """
    blocks_in, blocks_out = grid(n_in, n_out, block)
    small, large = sorted((blocks_in, blocks_out))
    if small & (small - 1) or large % small:
        raise InputError(
            f"a butterfly of {blocks_in} by {blocks_out} blocks does not exist: the "
            "smaller count must be a power of two and divide the larger; change block"
        )
    available = range(small.bit_length() - 1)
    stages = tuple(available if stages is None else stages)
    if not set(stages) <= set(available):
        raise InputError(f"stages must lie in {list(available)}, got {list(stages)}")
    steps = np.array([0, *(1 << s for s in sorted(set(stages)))])
    # Positions among the larger count; `small` of them in a row are one butterfly.
    one = np.repeat(np.arange(large), len(steps))
    other = (one * small // large) ^ np.tile(steps, large)
    inputs, outputs = (other, one) if blocks_out >= blocks_in else (one, other)
    relabel = generator_of(key).permutation(blocks_in)
    return from_edges(relabel[inputs], outputs, n_in, n_out, block)


def mixed_radix(
    key: Key,
    n_in: int,
    n_out: int,
    *,
    radices: Sequence[int],
    stage: int = 0,
    block: tuple[int, int] = (1, 1),
) -> Pattern:
    """One junction of a mixed-radix expander: constant degree radices[stage].

    With n blocks on both sides, block q reads q - m * stride for m below the stage's
    radix, modulo n, where stride is the product of the radices before. One junction
    for each radix joins every input to every output by the same number of paths, if
    the radices multiply to n. The key rotates the blocks.

    Raises:
      InputError: unequal counts of blocks, a radix below 2, a product of radices that
        does not divide the count, or an unknown stage.

    Reference: J. Kepner and R. Robinett, "RadiX-Net" (2019), arXiv 1905.00416.
    """
    blocks_in, blocks_out = grid(n_in, n_out, block)
    if blocks_in != blocks_out:
        raise InputError(
            f"a mixed-radix junction needs as many input as output blocks, got "
            f"{blocks_in} and {blocks_out}; choose block sides in the ratio of "
            f"{n_in} to {n_out}"
        )
    if not radices or min(radices) < 2 or blocks_in % math.prod(radices):
        raise InputError(
            f"radices {tuple(radices)} must be >= 2 and multiply to a divisor of "
            f"{blocks_in} blocks"
        )
    if not 0 <= stage < len(radices):
        raise InputError(f"stage must lie in 0 .. {len(radices) - 1}, got {stage}")
    stride = math.prod(radices[:stage])
    shift = int(generator_of(key).integers(blocks_in))
    steps = shift - stride * np.arange(radices[stage])
    sources = (np.arange(blocks_out)[:, None] + steps) % blocks_in
    return from_lists(sources, n_in, n_out, block)


def from_lists(
    sources: np.ndarray, n_in: int, n_out: int, block: tuple[int, int]
) -> Pattern:
    """The pattern whose output block q reads the input blocks `sources[q]`."""
    outputs = np.repeat(np.arange(len(sources)), sources.shape[1])
    return from_edges(sources.ravel(), outputs, n_in, n_out, block)


def generator_of(key: Key) -> np.random.Generator:
    """NumPy's generator, seeded by a key."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def check_density(density: float) -> None:
    """A density is a kept fraction.

    Raises:
      InputError: it is no number in (0, 1].
    """
    check_numbers(density=density)
    if not 0 < density <= 1:
        raise InputError(f"density must lie in (0, 1], got {density:g}")


def _draw(
    generator: np.random.Generator, degrees: np.ndarray, outputs: int, fan_in: int
) -> np.ndarray:
    """Distinct inputs for each output, [outputs, fan_in], and `degrees` for the inputs.

    No degree exceeds `outputs` and together they are outputs * fan_in; so, at every
    output, no input has more edges left than there are outputs, and at least fan_in
    inputs have one left.
    """
    left = degrees.copy()
    sources = np.empty((outputs, fan_in), np.int64)
    rest = len(left) - fan_in
    with np.errstate(divide="ignore"):
        for output in range(outputs):
            # log-odds of an input: -inf when it is used up, inf when it is due.
            odds = np.log(left) - np.log(outputs - output - left)
            noise = generator.gumbel(size=len(left))
            sources[output] = np.argpartition(odds + noise, rest)[rest:]
            left[sources[output]] -= 1
    return sources


def degrees_of(
    n_in: int, n_out: int, density: float, block: tuple[int, int], nearest: bool
) -> tuple[int, int]:
    """fan_in and fan_out in blocks."""
    blocks_in, blocks_out = grid(n_in, n_out, block)
    choices = math.gcd(blocks_in, blocks_out)
    what = f"{n_in} x {n_out} nodes in blocks of {block[0]} x {block[1]}"
    step = _step(density, choices, what, nearest)
    return step * blocks_in // choices, step * blocks_out // choices


def random_blocks(
    n_in: int,
    n_out: int,
    density: float,
    block: tuple[int, int],
    nearest: bool = False,  # any density is possible
) -> int:
    """Blocks that `random` keeps."""
    check_density(density)
    cells = math.prod(grid(n_in, n_out, block))
    # Less one part in 1e9: 0.07 * 100 is 7.000000000000001 in floating point.
    return max(1, math.ceil(density * cells * (1 - 1e-9)))


def structured_blocks(
    n_in: int, n_out: int, density: float, block: tuple[int, int], nearest: bool
) -> int:
    """Blocks that `structured` keeps."""
    fan_in, _ = degrees_of(n_in, n_out, density, block, nearest)
    return fan_in * (n_out // block[1])


def balanced_blocks(
    n_in: int, n_out: int, density: float, block: tuple[int, int], nearest: bool
) -> int:
    """Blocks that `balanced` keeps, where only fan_in is constant."""
    blocks_in, blocks_out = grid(n_in, n_out, block)
    what = f"{n_in} inputs in blocks of {block[0]}"
    return _step(density, blocks_in, what, nearest) * blocks_out


def _step(density: float, choices: int, what: str, nearest: bool) -> int:
    """The k of a density that is k / choices."""
    check_density(density)
    exact = density * choices
    step = min(max(round(exact), 1), choices)
    if not nearest and abs(exact - step) > 1e-6 * choices:
        around = sorted({max(math.floor(exact), 1), max(math.ceil(exact), 1)})
        raise InputError(
            f"density {density:g} is impossible for {what} with constant degrees; "
            f"nearest: {' and '.join(f'{k / choices:.6g}' for k in around)} (the "
            "functions of dnc_jax.sparse take the nearer with nearest=True)"
        )
    return step
