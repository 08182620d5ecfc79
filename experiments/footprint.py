"""What a run cost, and what it would cost elsewhere; or a calculator for any work.

  python -m experiments.footprint --summary runs/digits/summary.json --region FR
  python -m experiments.footprint --hours 10 --hardware V100 --region FR
  python -m experiments.footprint --formula strubell --hours 84 --watts 1515.43

With --summary: the run's energy, what it emitted, in which regions the same energy
emits least, on which chips the same FLOPs take least, and familiar things that emit as
much. With --hours: the ML CO2 Impact calculator (`--formula ml_co2_impact`), Green
Algorithms (`green_algorithms`) or Strubell et al. (`strubell`). No network is asked.
"""

import json
import pathlib
from collections.abc import Iterable
from typing import Any

from absl import flags
from rich.console import Console
from rich.table import Table

from dnc_jax.errors import InputError
from dnc_jax.footprint import Energy, carbon, hardware
from dnc_jax.footprint.carbon import Factor, Grid
from dnc_jax.footprint.records import worst
from dnc_jax.report import terminal
from experiments import launch

SUMMARY = flags.DEFINE_string("summary", None, "summary.json of a run.")
HOURS = flags.DEFINE_float("hours", None, "Of work, for a formula.")
HARDWARE = flags.DEFINE_string("hardware", None, "A chip of the table: V100.")
COUNT = flags.DEFINE_integer("count", 1, "Chips at work.", lower_bound=1)
WATTS = flags.DEFINE_float(
    "watts", None, "Of a chip, or of a core (green_algorithms), instead of its TDP."
)
REGION = flags.DEFINE_string("region", None, "Country or US state: FR, US-CA, Norway.")
INTENSITY = flags.DEFINE_float(
    "intensity", None, "Grams of CO2e a kWh, instead of the region's."
)
PUE = flags.DEFINE_string("pue", "none", "none, uptime, strubell, or a number.")
OFFSET = flags.DEFINE_float("offset", 0.0, "Fraction offset (ml_co2_impact).")
UTILISATION = flags.DEFINE_float("utilisation", 0.3, "Of a chip's peak FLOP/s.")
PRECISION = flags.DEFINE_enum(
    "precision", "float32", hardware.PRECISIONS, "Of the chips' peak FLOP/s."
)
TOP = flags.DEFINE_integer("top", 10, "Rows of a ranking.", lower_bound=1)
FORMULA = flags.DEFINE_enum(
    "formula",
    "ml_co2_impact",
    ["ml_co2_impact", "green_algorithms", "strubell"],
    "For --hours.",
)
CPU_WATTS = flags.DEFINE_float("cpu_watts", 0.0, "Of all sockets (strubell).")
RAM_WATTS = flags.DEFINE_float("ram_watts", 0.0, "Of the memory (strubell).")
CORES = flags.DEFINE_integer("cores", 1, "Of the processor (green_algorithms).")
USAGE = flags.DEFINE_float("usage", 1.0, "Of a core (green_algorithms).")
MEMORY_GB = flags.DEFINE_float("memory_gb", 0.0, "Of memory (green_algorithms).")

_CHIP, _GRID = ("hardware", "watts"), ("region", "intensity")
_CORES = ("cores", "usage", "memory_gb")
# Flags that each way to use this command reads, beside the one that chooses it.
_READ = {
    "--summary": ("hardware", "utilisation", "precision", "pue", *_GRID, "top"),
    "--formula=ml_co2_impact": (*_CHIP, "count", *_GRID, "offset"),
    "--formula=green_algorithms": (*_CHIP, *_CORES, "pue", *_GRID),
    "--formula=strubell": (*_CHIP, "count", "cpu_watts", "ram_watts"),
}


def main() -> None:
    """A run's footprint, or a formula's."""
    out = terminal.console()
    if SUMMARY.value is not None and HOURS.value is None:
        _refuse_unread("--summary")
        of_run(out, pathlib.Path(SUMMARY.value))
    elif HOURS.value is not None and SUMMARY.value is None:
        _refuse_unread(f"--formula={FORMULA.value}")
        calculate(out, HOURS.value)
    else:
        raise InputError("give --summary=FILE or --hours=H, one of them")


def _refuse_unread(way: str) -> None:
    """A flag that would change nothing is a misunderstanding."""
    unread = {name for read in _READ.values() for name in read} - {*_READ[way]}
    given = sorted(name for name in unread if flags.FLAGS[name].present)
    if given or (way == "--summary" and FORMULA.present):
        raise InputError(
            f"--{(given or ['formula'])[0]} means nothing with {way}, which reads "
            + ", ".join(f"--{name}" for name in _READ[way])
        )


def of_run(out: Console, path: pathlib.Path) -> None:
    """What the run of a summary.json cost, here and elsewhere."""
    records, resumed = read_records(path)
    if resumed:
        out.print(
            "the search was resumed: this is what its last run took, not those before",
            markup=False,
        )
    pue, intensity = pue_factor(), intensity_factor()
    for name, energy in records.items():
        out.print(f"{name}: {energy}", markup=False)
    flops = sum(energy.flops or 0 for energy in records.values())
    joules, kind = whole(records.values())
    if joules is None and HARDWARE.value:
        chip = hardware.chip(HARDWARE.value)
        peak = chip.peak(PRECISION.value)
        if peak is None:
            raise InputError(f"the table has no {PRECISION.value} peak of {chip.name}")
        seconds = flops / (peak * checked_utilisation())
        joules, kind = seconds * chip.tdp_watts, "estimated"
        out.print(
            f"on one {chip.name} at {UTILISATION.value:.0%} of its peak and its TDP: "
            f"{seconds:,.4g} s, {joules:,.4g} J, estimated",
            markup=False,
        )
    out.print(f"PUE {pue}", markup=False)
    if joules is None:
        out.print(
            "no energy, so no CO2e here; --hardware=NAME estimates it for that chip",
            markup=False,
        )
    else:
        if intensity:
            emitted = carbon.emissions(joules, Grid(pue, intensity))
            out.print(f"intensity {intensity} g CO2e/kWh", markup=False)
            out.print(
                f"{_grams(emitted.grams_co2e or 0)} of CO2e, {emitted.kind}, from "
                f"{joules:,.4g} J, {kind}",
                markup=False,
            )
            out.print(equivalents_table(emitted.grams_co2e or 0))
        else:
            out.print("--region=FR (or --intensity=G) gives the CO2e", markup=False)
        out.print(regions_table(joules, pue))
    if flops:
        out.print(hardware_table(flops, pue, intensity))


def calculate(out: Console, hours: float) -> None:
    """A published formula for some hours of work."""
    if FORMULA.value == "strubell":
        cost = carbon.strubell(
            hours, chip_watts(), COUNT.value, CPU_WATTS.value, RAM_WATTS.value
        )
        factors = ["PUE 1.58 and 0.954 lb CO2e/kWh, as in Strubell et al. 2019"]
    else:
        intensity = intensity_factor()
        if not intensity:
            raise InputError(
                "--region=FR or --intensity=G says where the energy is from"
            )
        factors = [f"intensity {intensity} g CO2e/kWh"]
        if FORMULA.value == "ml_co2_impact":
            cost = carbon.ml_co2_impact(
                hours * COUNT.value, chip_watts(), intensity.value, OFFSET.value
            )
            factors.append("no PUE, as in the ML CO2 Impact calculator")
        else:
            pue = pue_factor()
            cost = carbon.green_algorithms(
                hours,
                CORES.value,
                chip_watts(),
                USAGE.value,
                MEMORY_GB.value,
                pue.value,
                intensity.value,
            )
            factors.append(f"PUE {pue}")
    for factor in factors:
        out.print(factor, markup=False)
    out.print(f"energy {cost.kwh:,.4g} kWh, estimated", markup=False)
    pounds = cost.grams_co2e / carbon.GRAMS_PER_POUND
    out.print(
        f"CO2e {_grams(cost.grams_co2e)} ({pounds:,.4g} lb), estimated", markup=False
    )
    out.print(equivalents_table(cost.grams_co2e))


def read_records(path: pathlib.Path) -> tuple[dict[str, Energy], bool]:
    """The energy of each part of a run, by its name, and whether others went before.

    Raises:
      InputError: the file is not the summary of a run.
    """
    try:
        summary: dict[str, Any] = json.loads(path.read_text())
        parts = {path.parent.name or str(path): summary}
        if "energy" not in summary:  # of experiments.train: a part for each network
            parts = {
                name: part
                for name, part in summary.items()
                if isinstance(part, dict) and "energy" in part
            }
        records = {n: Energy.from_json(part["energy"]) for n, part in parts.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is not the summary.json of a run: {error}") from error
    if not records:
        raise InputError(f"{path} holds no record of energy; is it a summary.json?")
    return records, bool(summary.get("resumed"))


def whole(records: Iterable[Energy]) -> tuple[float | None, str]:
    """Joules of all records, and the worst of their kinds; None if one has none."""
    joules, kinds = [], []
    for energy in records:
        if energy.joules is None:
            return None, "unavailable"
        joules.append(energy.joules)
        kinds.append(energy.kind)
    return sum(joules), worst(kinds)


def pue_factor() -> Factor:
    """What --pue names."""
    if PUE.value in carbon.PUES:
        return carbon.PUES[PUE.value]
    try:
        return carbon.given_pue(float(PUE.value))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"--pue must be {', '.join(carbon.PUES)} or a number, got {PUE.value!r}"
        ) from error


def intensity_factor() -> Factor | None:
    """What --intensity or --region names; None without them."""
    if INTENSITY.value is not None:
        return carbon.given_intensity(INTENSITY.value)
    return carbon.region(REGION.value).intensity if REGION.value else None


def chip_watts() -> float:
    """--watts, or the TDP of --hardware."""
    if WATTS.value is not None:
        return WATTS.value
    if not HARDWARE.value:
        raise InputError("--hardware=NAME or --watts=W says what worked")
    chip = hardware.chip(HARDWARE.value)
    if FORMULA.value == "green_algorithms" and chip.kind == "CPU":
        raise InputError(
            f"green_algorithms multiplies watts of one core by --cores, and "
            f"{chip.tdp_watts:g} W are those of all cores of {chip.name}; give "
            "--watts=W of one"
        )
    return chip.tdp_watts


def checked_utilisation() -> float:
    """--utilisation, if it can be."""
    if not 0 < UTILISATION.value <= 1:
        raise InputError(f"--utilisation must lie in (0, 1], got {UTILISATION.value:g}")
    return UTILISATION.value


def regions_table(joules: float, pue: Factor) -> Table:
    """Where the same energy emits least, and where most."""
    ranked = sorted(carbon.regions(), key=lambda region: region.intensity.value)
    table = Table(title=f"CO2e of {joules:,.4g} J by region, estimated")
    table.add_column("", justify="right")
    table.add_column("region")
    for name in ("g/kWh", "year", "CO2e"):
        table.add_column(name, justify="right")
    shown = {*range(min(TOP.value, len(ranked))), len(ranked) - 1}
    if REGION.value:
        shown.add(ranked.index(carbon.region(REGION.value)))
    for rank in sorted(shown):
        region = ranked[rank]
        emitted = carbon.emissions(joules, Grid(pue, region.intensity))
        table.add_row(
            str(rank + 1),
            f"{region.name} ({region.code})",
            f"{region.intensity.value:g}",
            str(region.intensity.year),
            _grams(emitted.grams_co2e or 0),
        )
    table.caption = "sources: " + "; ".join(
        sorted({region.intensity.source for region in ranked})
    )
    return table


def hardware_table(flops: float, pue: Factor, intensity: Factor | None) -> Table:
    """The chips on which the same FLOPs take least energy."""
    runs = hardware.ranking(flops, UTILISATION.value, PRECISION.value)
    table = Table(
        title=f"{flops:.3g} FLOPs at {UTILISATION.value:.0%} of the {PRECISION.value} "
        "peak, drawing the TDP, estimated"
    )
    table.add_column("", justify="right")
    table.add_column("chip")
    for name in ("TDP W", "seconds", "J", *(["CO2e"] if intensity else [])):
        table.add_column(name, justify="right")
    shown = set(range(min(TOP.value, len(runs))))
    if HARDWARE.value:
        chip = hardware.chip(HARDWARE.value)
        shown |= {i for i, run in enumerate(runs) if run.hardware == chip}
    for rank in sorted(shown):
        chip, seconds, joules = runs[rank]
        row = [str(rank + 1), chip.name, f"{chip.tdp_watts:g}"]
        row += [f"{seconds:,.3g}", f"{joules:,.3g}"]
        if intensity:
            emitted = carbon.emissions(joules, Grid(pue, intensity))
            row.append(_grams(emitted.grams_co2e or 0))
        table.add_row(*row)
    left_out = len(hardware.table()) - len(runs)
    table.caption = (
        f"source: Epoch AI; {left_out} chips without a {PRECISION.value} peak left out"
    )
    return table


def equivalents_table(grams: float) -> Table:
    """Familiar things that emit as much."""
    table = Table(title="As much CO2e as")
    table.add_column("", justify="right")
    table.add_column("of")
    for name, count in carbon.equivalents(grams):
        table.add_row(f"{count:,.3g}", name)
    table.caption = "source: Strubell et al. 2019, table 1"
    return table


def _grams(grams: float) -> str:
    for unit, size in (("t", 1e6), ("kg", 1e3)):
        if grams >= size:
            return f"{grams / size:,.4g} {unit}"
    return f"{grams:,.4g} g"


if __name__ == "__main__":
    launch.run_flags(main)
