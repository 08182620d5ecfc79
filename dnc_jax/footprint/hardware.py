"""Chips: thermal design power and peak rates, as their vendors state them."""

from functools import cache
from typing import NamedTuple

from dnc_jax.errors import InputError, check_amounts, check_known
from dnc_jax.footprint import tables

PRECISIONS = ("float32", "tf32", "bfloat16")


class Hardware(NamedTuple):
    """A chip of the table; None where the source gives no figure.

    Attributes:
      name: with the variant.
      alias: a short name for the variant most rented; may be empty.
      kind: GPU, TPU, accelerator or CPU.
      year: of its release.
      tdp_watts: thermal design power.
      float32_flops, tf32_flops, bfloat16_flops: peak of matrix products, FLOP/s,
        without structured sparsity.
      bytes_per_second: of its memory.
      source: of these figures; the head of data/hardware.csv says more.
    """

    name: str
    alias: str
    kind: str
    year: int
    tdp_watts: float
    float32_flops: float | None
    tf32_flops: float | None
    bfloat16_flops: float | None
    bytes_per_second: float | None
    source: str

    def peak(self, precision: str) -> float | None:
        """FLOP/s of matrix products in this precision.

        Raises:
          InputError: an unknown precision.
        """
        check_known(PRECISIONS, precision=precision)
        return getattr(self, f"{precision}_flops")


class Run(NamedTuple):
    """What a number of FLOPs takes on a chip, by its peak, utilisation and TDP."""

    hardware: Hardware
    seconds: float
    joules: float


@cache
def table() -> tuple[Hardware, ...]:
    """All chips."""

    def number(text: str) -> float | None:
        return float(text) if text else None

    return tuple(
        Hardware(
            row["name"],
            row["alias"],
            row["kind"],
            int(row["year"]),
            float(row["tdp_watts"]),
            number(row["float32_flops"]),
            number(row["tf32_flops"]),
            number(row["bfloat16_flops"]),
            number(row["bytes_per_second"]),
            row["source"],
        )
        for row in tables.read("hardware.csv")
    )


def chip(name: str) -> Hardware:
    """The chip with this name or alias.

    >>> chip("V100").name
    'NVIDIA Tesla V100 SXM2 32GB'

    Raises:
      InputError: there is none, or several; it offers the nearest.
    """
    rows = table()
    entries = [((h.name, h.alias), i) for i, h in enumerate(rows)]
    return rows[tables.pick("hardware", name, entries)]


def ranking(flops: int | float, utilisation: float, precision: str) -> list[Run]:
    """The chips by the energy that `flops` would take, least first.

    A chip is taken to draw its TDP while it reaches `utilisation` of its peak, which
    is generous to none: one that a small network leaves idle is far below its peak and
    somewhat below its TDP. Chips without a peak in this precision are left out.

    Raises:
      InputError: utilisation outside (0, 1], negative FLOPs, or an unknown precision.
    """
    if not 0 < utilisation <= 1:
        raise InputError(f"utilisation must lie in (0, 1], got {utilisation:g}")
    check_amounts(flops=flops)
    runs = []
    for one in table():
        if peak := one.peak(precision):
            seconds = flops / (peak * utilisation)
            runs.append(Run(one, seconds, seconds * one.tdp_watts))
    return sorted(runs, key=lambda run: (run.joules, run.hardware.name))
