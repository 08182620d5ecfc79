"""Greenhouse gases of electricity: energy times PUE times the grid's intensity.

Each of the two factors carries its value, year and source. The result is `estimated`
at best: a year's average of a country is not the current of this hour. Nothing here
asks the network; the table of intensities is part of the package and can be overridden.
"""

import math
from functools import cache
from typing import Any, Literal, NamedTuple

from dnc_jax.errors import InputError, check_amounts
from dnc_jax.footprint import tables

JOULES_PER_KWH = 3.6e6
GRAMS_PER_POUND = 453.59237
STRUBELL_POUNDS_PER_KWH = 0.954  # of CO2e


class Factor(NamedTuple):
    """A number that a result was multiplied by, and where it comes from."""

    value: float
    year: int | None
    source: str

    def __str__(self) -> str:
        year = f", {self.year}" if self.year else ""
        return f"{self.value:g} ({self.source}{year})"


# Power usage effectiveness: the whole data centre's energy over its computers'.
PUES = {
    "none": Factor(1.0, None, "none assumed: the computer alone"),
    "uptime": Factor(1.56, 2024, "average of Uptime Institute's survey"),
    "strubell": Factor(1.58, 2018, "average in Strubell et al. 2019"),
}


class Region(NamedTuple):
    """A country or US state and what a kWh emits there.

    Attributes:
      code: ISO 3166, "FR" or "US-CA".
      alpha3: of a country, "FRA".
      name: in English.
      intensity: grams of CO2e for each kWh.
    """

    code: str
    alpha3: str
    name: str
    intensity: Factor


class Grid(NamedTuple):
    """Where a computer gets its electricity from, and through how much overhead."""

    pue: Factor
    intensity: Factor

    def grams(self, joules: float) -> float:
        """CO2e of so much energy at the computer; an estimate, see `emissions`."""
        return joules / JOULES_PER_KWH * self.pue.value * self.intensity.value


class Emissions(NamedTuple):
    """Greenhouse gases of an amount of energy.

    Attributes:
      grams_co2e: None where the energy is unavailable.
      kind: never "measured".
      grid: the factors.
    """

    grams_co2e: float | None
    kind: Literal["estimated", "unavailable"]
    grid: Grid

    def to_json(self) -> dict[str, Any]:
        """A dict that `json.dumps` takes."""
        factors = {n: f._asdict() for n, f in self.grid._asdict().items()}
        return {"grams_co2e": self.grams_co2e, "kind": self.kind, **factors}


_ALSO_CALLED = {
    "AE": ("UAE",),
    "GB": ("UK", "Great Britain"),
    "NL": ("Holland",),
    "US": ("United States of America",),
}


@cache
def regions() -> tuple[Region, ...]:
    """All regions of the table."""
    return tuple(
        Region(
            row["code"],
            row["alpha3"],
            row["name"],
            Factor(float(row["grams_per_kwh"]), int(row["year"]), row["source"]),
        )
        for row in tables.read("intensity.csv")
    )


def region(name: str) -> Region:
    """The region with this code or name.

    >>> region("fr").name, region("California").code
    ('France', 'US-CA')

    Raises:
      InputError: there is none, or several; it offers the nearest.
    """
    rows = regions()
    entries = [
        ((r.code, r.alpha3, r.name, *_ALSO_CALLED.get(r.code, ())), i)
        for i, r in enumerate(rows)
    ]
    return rows[tables.pick("region", name, entries)]


def given_intensity(grams_per_kwh: float) -> Factor:
    """An intensity that the user knows better than the table.

    Raises:
      InputError: it is negative or not finite.
    """
    check_amounts(intensity=grams_per_kwh)
    return Factor(grams_per_kwh, None, "given by the user")


def given_pue(value: float) -> Factor:
    """A PUE that the user knows.

    Raises:
      InputError: it is below 1: the computer is part of its data centre.
    """
    if not 1 <= value < math.inf:
        raise InputError(f"pue must be a finite number >= 1, got {value:g}")
    return Factor(value, None, "given by the user")


def grid(region_name: str, intensity: float = 0.0, pue: float = 1.0) -> Grid | None:
    """The grid that a config describes; None if it names no region and no intensity.

    Args:
      region_name: code or name; may be empty.
      intensity: grams a kWh, instead of the region's; 0 takes the region's.
      pue: 1 for the computer alone.

    Raises:
      InputError: an unknown region, a negative intensity or a PUE below 1.
    """
    overhead = PUES["none"] if pue == 1 else given_pue(pue)
    if intensity:
        return Grid(overhead, given_intensity(intensity))
    return Grid(overhead, region(region_name).intensity) if region_name else None


def emissions(joules: float | None, grid: Grid) -> Emissions:
    """Greenhouse gases of `joules` at the computer; unavailable for None.

    Raises:
      InputError: negative or infinite joules.
    """
    if joules is None:
        return Emissions(None, "unavailable", grid)
    check_amounts(joules=joules)
    return Emissions(grid.grams(joules), "estimated", grid)


class Footprint(NamedTuple):
    """What a published formula gives."""

    kwh: float
    grams_co2e: float


def ml_co2_impact(
    hours: float, watts: float, grams_per_kwh: float, offset: float = 0.0
) -> Footprint:
    """The ML CO2 Impact calculator: TDP times hours, without PUE.

    Args:
      hours: of all devices together.
      watts: TDP of a device.
      grams_per_kwh: of the provider's region.
      offset: fraction that the provider offsets, subtracted.

    Raises:
      InputError: a negative or infinite number, or an offset above 1.

    Reference: A. Lacoste et al., "Quantifying the Carbon Emissions of Machine
    Learning" (2019).
    """
    if not 0 <= offset <= 1:
        raise InputError(f"offset must lie in [0, 1], got {offset:g}")
    check_amounts(hours=hours, watts=watts, intensity=grams_per_kwh)
    kwh = watts * hours / 1000
    return Footprint(kwh, kwh * grams_per_kwh * (1 - offset))


def strubell(
    hours: float, gpu_watts: float, gpus: int, cpu_watts: float, ram_watts: float
) -> Footprint:
    """The formula of Strubell et al., a historical mode: PUE 1.58, 0.954 lb/kWh.

    The paper itself was not at hand; these constants give back, to the digit, the
    CO2e that its table 3 has for the powers and hours that stand beside it.

    Raises:
      InputError: a negative or infinite number.

    Reference: E. Strubell et al., "Energy and Policy Considerations for Deep Learning
    in NLP" (2019).
    """
    check_amounts(hours=hours, gpu_watts=gpu_watts, gpus=gpus)
    check_amounts(cpu_watts=cpu_watts, ram_watts=ram_watts)
    watts = cpu_watts + ram_watts + gpus * gpu_watts
    kwh = PUES["strubell"].value * hours * watts / 1000
    return Footprint(kwh, STRUBELL_POUNDS_PER_KWH * kwh * GRAMS_PER_POUND)


def green_algorithms(
    hours: float,
    cores: int,
    watts_per_core: float,
    usage: float,
    memory_gb: float,
    pue: float,
    grams_per_kwh: float,
) -> Footprint:
    """The Green Algorithms calculator: cores by their usage, memory by its size.

    Raises:
      InputError: a negative or infinite number, or a usage above 1.

    Reference: L. Lannelongue et al., "Green Algorithms: Quantifying the Carbon
    Footprint of Computation" (2021).
    """
    if not 0 <= usage <= 1:
        raise InputError(f"usage must lie in [0, 1], got {usage:g}")
    check_amounts(hours=hours, cores=cores, watts_per_core=watts_per_core)
    check_amounts(memory_gb=memory_gb, intensity=grams_per_kwh)
    watts = cores * usage * watts_per_core + 0.3725 * memory_gb
    kwh = hours * watts * given_pue(pue).value / 1000
    return Footprint(kwh, kwh * grams_per_kwh)


class Equivalent(NamedTuple):
    """Something familiar that emits so much."""

    name: str
    pounds_co2e: float


# Table 1 of Strubell et al. (2019).
EQUIVALENTS = (
    Equivalent("flights New York - San Francisco, one passenger", 1984),
    Equivalent("years of an average human life", 11023),
    Equivalent("years of an average American life", 36156),
    Equivalent("cars with their fuel, a lifetime each", 126_000),
    Equivalent("trainings of an NLP pipeline", 39),
    Equivalent("trainings of an NLP pipeline, tuned and experimented with", 78_468),
    Equivalent("trainings of a big Transformer", 192),
    Equivalent("trainings of a big Transformer, with architecture search", 626_155),
)


def equivalents(grams_co2e: float) -> list[tuple[str, float]]:
    """How many of each familiar thing emit as much."""
    return [
        (thing.name, grams_co2e / (thing.pounds_co2e * GRAMS_PER_POUND))
        for thing in EQUIVALENTS
    ]
