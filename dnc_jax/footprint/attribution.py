"""The shares of one measured energy: who of those trained together took how much.

The shares are `modelled`: no counter sees the networks inside one program. They sum to
the total, exactly.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from dnc_jax.errors import InputError

MICROJOULES = 1_000_000


class Lane(NamedTuple):
    """One place in a program, with a network or dead.

    Attributes:
      owner: whose energy it is; None for a dead lane, which is charged to overhead.
      flops: executed in it, padding included: a mask saves nothing, lanes of one
        padded shape cost the same.
    """

    owner: Hashable | None
    flops: int


class Shares(NamedTuple):
    """An energy, divided.

    Attributes:
      joules: of each owner.
      overhead_joules: of dead lanes, compiling and evaluation.
    """

    joules: dict[Hashable, float]
    overhead_joules: float


def apportion(total: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Whole numbers in proportion to the weights, by largest remainder.

    They sum to `total`, exactly.

    >>> apportion(10, (1, 1, 1))
    (4, 3, 3)

    Raises:
      InputError: a negative total or weight, or none above 0.
    """
    whole = sum(weights)
    if total < 0 or min(weights, default=0) < 0 or not whole:
        raise InputError(
            f"cannot divide {total} in proportion to {list(weights)[:8]}; both must be "
            ">= 0, and one weight above it"
        )
    parts = [total * weight // whole for weight in weights]
    remainders = [total * weight % whole for weight in weights]
    by_remainder = sorted(range(len(parts)), key=lambda i: (-remainders[i], i))
    for index in by_remainder[: total - sum(parts)]:
        parts[index] += 1
    return tuple(parts)


def attribute(
    joules: float,
    lanes: Sequence[Lane],
    *,
    idle_joules: float = 0.0,
    compiling: float = 0.0,
    overhead_flops: int = 0,
) -> Shares:
    """Divides the energy of a population that was trained together.

    A lane gets an equal part of what the machine takes idling, and of what is above
    that a part in proportion to the FLOPs executed in it. Of both, the share of time
    that went into compiling is taken off before, for overhead.

    Args:
      joules: measured, of all together.
      lanes: of all programs.
      idle_joules: the part of `joules` that the machine takes doing nothing; 0 where
        nobody knows, and then all of it goes by FLOPs.
      compiling: share of the workers' time that went into compiling, in [0, 1].
      overhead_flops: executed for nobody's training: evaluation.

    Returns:
      Shares that sum to `joules`, to the microjoule.

    Raises:
      InputError: negative joules, or a share of compiling outside [0, 1].
    """
    if not joules >= 0 or not 0 <= compiling <= 1:
        raise InputError(
            f"cannot divide {joules:g} J of which compiling took {compiling:g}"
        )
    total = round(joules * MICROJOULES)
    idle = min(round(max(idle_joules, 0.0) * MICROJOULES), total)
    by_owner: dict[Hashable | None, int] = {None: 0}
    by_owner.update((lane.owner, 0) for lane in lanes)
    for amount, weights, evaluation in (
        (idle, [1] * len(lanes), 0),
        (total - idle, [lane.flops for lane in lanes], overhead_flops),
    ):
        training = amount - round(amount * compiling)
        shares = [*weights, evaluation]
        if not any(shares):
            training, shares = 0, [0] * len(lanes) + [1]
        *parts, other = apportion(training, shares)
        by_owner[None] += amount - training + other
        for lane, part in zip(lanes, parts, strict=True):
            by_owner[lane.owner] += part
    overhead_joules = by_owner.pop(None) / MICROJOULES
    return Shares(
        {owner: part / MICROJOULES for owner, part in by_owner.items()}, overhead_joules
    )
