"""How much of a machine a network uses, and what its sparsity really saves."""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dnc_jax.errors import InputError
from dnc_jax.footprint.complexity import Work

# Large enough to be bound by arithmetic, small enough to be quick.
_SIDE = {"cpu": 1024, "other": 8192}
_REPEATS = 5


class Roofline(NamedTuple):
    """A stretch of work against what the machine can do.

    Attributes:
      flops_per_second: reached.
      peak_flops_per_second: of the machine, measured or its vendor's.
      fraction: of the peak.
      flops_per_byte: arithmetic intensity; the bytes are `Work`'s model.
      joules_per_example: None where energy is unavailable.
      joules_per_flop: likewise.
    """

    flops_per_second: float
    peak_flops_per_second: float
    fraction: float
    flops_per_byte: float
    joules_per_example: float | None
    joules_per_flop: float | None

    def to_json(self) -> dict[str, Any]:
        """A dict that `json.dumps` takes."""
        return self._asdict()

    def __str__(self) -> str:
        text = (
            f"{self.flops_per_second / 1e9:,.3g} GFLOP/s, {self.fraction:.1%} of the "
            f"{self.peak_flops_per_second / 1e9:,.3g} of a matrix product"
        )
        if self.joules_per_example is not None and self.joules_per_flop is not None:
            text += (
                f"; {1e3 * self.joules_per_example:,.3g} mJ an example, "
                f"{1e12 * self.joules_per_flop:,.3g} pJ a FLOP"
            )
        return text


class Saving(NamedTuple):
    """What a sparse network takes less than its dense twin, as fractions.

    Attributes:
      claimed: of the FLOPs.
      seconds: of the time of an epoch; negative if it takes longer.
      joules: of the energy; None where that is unavailable.
    """

    claimed: float
    seconds: float
    joules: float | None

    def to_json(self) -> dict[str, Any]:
        """A dict that `json.dumps` takes."""
        return self._asdict()

    def __str__(self) -> str:
        joules = "unavailable" if self.joules is None else f"{self.joules:.1%}"
        return (
            f"sparsity claims {self.claimed:.1%} of the FLOPs; saved: "
            f"{self.seconds:.1%} of the time, {joules} of the joules"
        )


def roofline(
    work: Work,
    seconds: float,
    peak_flops_per_second: float,
    *,
    examples: int,
    joules: float | None = None,
) -> Roofline:
    """Places `work`, done in so many seconds, under the machine's roof.

    Args:
      work: FLOPs and bytes.
      seconds: that it took.
      peak_flops_per_second: `measured_peak()`, or of `hardware`.
      examples: that it was done on.
      joules: that it took, if known.

    Raises:
      InputError: no time, no peak or no example.
    """
    if not (seconds > 0 and peak_flops_per_second > 0 and examples > 0):
        raise InputError(
            "seconds, peak and examples must be above 0, got "
            f"{seconds:g}, {peak_flops_per_second:g} and {examples}"
        )
    reached = work.flops / seconds
    return Roofline(
        reached,
        peak_flops_per_second,
        reached / peak_flops_per_second,
        work.flops / max(work.bytes_moved, 1),
        None if joules is None else joules / examples,
        None if joules is None else joules / max(work.flops, 1),
    )


def saving(
    flops: tuple[int, int],
    seconds: tuple[float, float],
    joules: tuple[float | None, float | None] = (None, None),
) -> Saving:
    """What the first of each pair, the sparse network's, saves of the dense one's.

    >>> str(saving((1, 10), (2.0, 8.0)).seconds)
    '0.75'
    """
    sparse, dense = joules
    return Saving(
        1 - flops[0] / flops[1],
        1 - seconds[0] / seconds[1],
        None if sparse is None or not dense else 1 - sparse / dense,
    )


def measured_peak() -> float:
    """FLOP/s of a large float32 matrix product on this machine, the best of five.

    In JAX's default precision for float32, as networks are trained.
    """
    side = _SIDE["cpu" if jax.default_backend() == "cpu" else "other"]
    x = jnp.ones((side, side))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(x, x))
    times = []
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        jax.block_until_ready(product(x, x))
        times.append(time.perf_counter() - begin)
    return 2 * side**3 / min(times)
