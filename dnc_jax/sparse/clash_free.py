"""Patterns that hardware with parallel memories reads without conflicts."""

import math

import numpy as np

from dnc_jax.errors import InputError
from dnc_jax.sparse.families import degrees_of, from_lists, generator_of
from dnc_jax.sparse.pattern import Pattern
from dnc_jax.typing import Key

_TRIES = 1000


def clash_free(
    key: Key,
    n_in: int,
    n_out: int,
    *,
    density: float,
    memories: int,
    kind: int = 1,
    dither: bool = False,
    nearest: bool = False,
) -> Pattern:
    """What hardware with `memories` parallel memories reads without a conflict.

    Input j lies in memory `j % memories`, row `j // memories`. A sweep reads every
    input once, one from each memory a cycle; fan_out sweeps make the junction, and the
    reads are dealt to the outputs in order.

    Args:
      key: consumed.
      n_in, n_out: nodes.
      density: one of `densities(n_in, n_out)`.
      memories: z, a divisor of n_in.
      kind: 1: each memory is read in an order of its own, anew each sweep; 2: each
        starts at a row of its own, anew each sweep, and goes on row by row; 3: as 2
        with the same rows in every sweep.
      dither: permute the memories within the cycles, once a sweep (kind 3: once).
      nearest: take the nearest possible density instead of raising.

    Raises:
      InputError: `memories` does not divide n_in, an unknown kind, an impossible
        density, or kinds 1 and 2 where a sweep without a duplicate edge is too rare.

    Reference: S. Dey et al. (2018), arXiv 1812.01164; "Interleaver Design for Deep
    Neural Networks" (2017), arXiv 1711.06935.
    """
    fan_in, fan_out = degrees_of(n_in, n_out, density, (1, 1), nearest)
    _check_memories(n_in, memories, kind)
    generator = generator_of(key)

    def sweep() -> np.ndarray:
        depth = n_in // memories
        if kind == 1:
            rows = generator.permuted(
                np.tile(np.arange(depth)[:, None], memories), axis=0
            )
        else:
            seeds = generator.integers(depth, size=memories)
            rows = (seeds + np.arange(depth)[:, None]) % depth
        order = generator.permutation(memories) if dither else np.arange(memories)
        return (rows[:, order] * memories + order).ravel()

    reads = np.empty(n_in * fan_out, np.int64)
    first = sweep()
    for number in range(fan_out):
        start = number * n_in
        # The output that the sweep before has begun to serve must not get one of its
        # inputs again.
        begun = start % fan_in
        taken = reads[start - begun : start]
        for _ in range(_TRIES):
            candidate = first if kind == 3 or number == 0 else sweep()
            if not np.isin(candidate[: fan_in - begun], taken).any():
                break
        else:
            raise InputError(
                f"found no sweep of kind {kind} without a duplicate edge in {_TRIES} "
                f"draws: fan_in {fan_in} does not divide n_in {n_in}; use kind 3, or a "
                "density whose fan_in does"
            )
        reads[start : start + n_in] = candidate
    return from_lists(reads.reshape(n_out, fan_in), n_in, n_out, (1, 1))


def clash_free_patterns(
    n_in: int,
    n_out: int,
    *,
    density: float,
    memories: int,
    kind: int = 1,
    dither: bool = False,
) -> int:
    """How many access orders `clash_free` chooses from, duplicates not excluded.

    >>> clash_free_patterns(9, 6, density=1 / 3, memories=3, kind=1)
    46656
    >>> clash_free_patterns(9, 6, density=1 / 3, memories=3, kind=2)
    729

    Raises:
      InputError: as `clash_free`; or memory dither where neither of fan_in and
        `memories` divides the other, for which no count is known.

    Reference: S. Dey et al. (2018), arXiv 1812.01164, on clash-free patterns.
    """
    fan_in, fan_out = degrees_of(n_in, n_out, density, (1, 1), False)
    _check_memories(n_in, memories, kind)
    depth = n_in // memories
    orders = 1
    if dither and fan_in % memories:
        if memories % fan_in:
            raise InputError(
                f"no count is known with memory dither for fan_in {fan_in} and "
                f"{memories} memories; one must divide the other"
            )
        orders = math.factorial(memories) // math.factorial(fan_in) ** (
            memories // fan_in
        )
    if kind == 1:
        return (orders * math.factorial(depth) ** memories) ** fan_out
    return (orders * depth**memories) ** (fan_out if kind == 2 else 1)


def _check_memories(n_in: int, memories: int, kind: int) -> None:
    if memories < 1 or n_in % memories:
        raise InputError(
            f"memories must divide n_in, got {memories} memories for {n_in} inputs"
        )
    if kind not in (1, 2, 3):
        raise InputError(f"kind must be 1, 2 or 3, got {kind}")
