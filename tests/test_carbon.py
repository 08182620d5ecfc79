"""Carbon and hardware: the tables in the package, and published formulas."""

import json
import math

import pytest

from dnc_jax import InputError
from dnc_jax.footprint import carbon, hardware, records, tables

POUND = carbon.GRAMS_PER_POUND


# Tables


def test_every_region_has_a_code_a_name_a_year_and_a_source():
    regions = carbon.regions()
    codes = [region.code for region in regions]
    assert len(set(codes)) == len(codes)
    states = [code for code in codes if code.startswith("US-")]
    assert len(states) == 51, "fifty and the District of Columbia"
    assert len(codes) - len(states) > 200
    for region in regions:
        assert region.code, region
        assert region.name
        assert 0 <= region.intensity.value < 1500
        assert region.intensity.year is not None
        assert region.intensity.year >= 2020
        assert region.intensity.source


@pytest.mark.parametrize("name", ["FR", "fra", "France", " france "])
def test_a_region_is_found_by_code_or_name_in_any_case(name):
    region = carbon.region(name)
    assert region.code == "FR"
    assert region.intensity.value == pytest.approx(44.18)
    assert region.intensity.year == 2024


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Frnace", "unknown region 'Frnace'; nearest: France"),
        ("Georgia", "may be GE/GEO/Georgia, US-GA/Georgia"),
        ("", "unknown region ''"),
    ],
)
def test_an_unknown_region_offers_the_nearest(name, message):
    with pytest.raises(InputError, match=message):
        carbon.region(name)


def test_a_poor_and_a_rich_grid_are_in_the_right_order():
    poland, norway = (carbon.region(code).intensity.value for code in ("PL", "NO"))
    assert poland > 10 * norway


@pytest.mark.parametrize("name", ["V100", "v100", "NVIDIA Tesla V100 SXM2 32GB"])
def test_a_chip_is_found_by_alias_or_name(name):
    chip = hardware.chip(name)
    assert (chip.name, chip.tdp_watts) == ("NVIDIA Tesla V100 SXM2 32GB", 300)
    assert chip.peak("float32") == 1.567e13
    assert chip.peak("tf32") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("V10", "may be NVIDIA Tesla V100 SXM2 32GB/V100, NVIDIA Tesla V100 SXM2 16GB"),
        ("H10O", "unknown hardware 'H10O'; nearest: H100"),
    ],
)
def test_an_unknown_chip_offers_the_nearest(name, message):
    with pytest.raises(InputError, match=message):
        hardware.chip(name)


def test_every_chip_has_a_tdp_and_what_is_unknown_is_none():
    for chip in hardware.table():
        assert 1 <= chip.tdp_watts <= 2000, chip
        for precision in hardware.PRECISIONS:
            peak = chip.peak(precision)
            assert peak is None or 1e12 < peak < 1e16, chip
    with pytest.raises(InputError, match=r"precision must be one of float32.*'int4'"):
        hardware.chip("V100").peak("int4")


def test_the_head_of_each_table_names_its_licence():
    for name in ("intensity.csv", "hardware.csv"):
        text = (tables.DATA / name).read_text()
        assert "CC BY" in text.split("\n\n")[0]


def test_the_ranking_of_chips_is_flops_over_peak_and_utilisation_times_tdp():
    runs = hardware.ranking(1e18, 0.25, "float32")
    v100 = next(r for r in runs if r.hardware.alias == "V100")
    assert v100.seconds == pytest.approx(1e18 / (0.25 * 1.567e13))
    assert v100.joules == pytest.approx(300 * v100.seconds)
    assert [r.joules for r in runs] == sorted(r.joules for r in runs)
    assert all(r.hardware.float32_flops for r in runs)
    with pytest.raises(InputError, match=r"utilisation must lie in \(0, 1\], got 0"):
        hardware.ranking(1e18, 0.0, "float32")
    with pytest.raises(InputError, match="flops must be a finite number >= 0"):
        hardware.ranking(-1.0, 0.5, "float32")


# Emissions


def test_emissions_are_energy_times_pue_times_intensity_and_never_measured():
    pue, intensity = carbon.PUES["uptime"], carbon.region("FR").intensity
    emitted = carbon.emissions(7.2e6, carbon.Grid(pue, intensity))
    assert emitted.grams_co2e == pytest.approx(2 * 1.56 * 44.18)
    assert emitted.kind == "estimated"
    written = emitted.to_json()
    assert written["intensity"]["source"] == "Ember via Our World in Data"
    assert written["pue"]["year"] == 2024
    unknown = carbon.emissions(None, carbon.Grid(pue, intensity))
    assert unknown.grams_co2e is None
    assert unknown.kind == "unavailable"


# Ten cases of the ML CO2 Impact calculator, computed by hand:
# watts * hours / 1000 kWh, times kg of CO2e a kWh.
CASES = [
    # hours, watts, kg/kWh, kWh, kg
    (10, 300, 0.432, 3.0, 1.296),
    (100, 250, 0.432, 25.0, 10.8),
    (1, 70, 0.05, 0.07, 0.0035),
    (24, 400, 0.7, 9.6, 6.72),
    (168, 300, 0.02, 50.4, 1.008),
    (0, 300, 0.5, 0.0, 0.0),
    (1000, 700, 0.4, 700.0, 280.0),
    (12, 283, 0.57, 3.396, 1.93572),
    (0.5, 250, 0.6, 0.125, 0.075),
    (72, 245, 0.009, 17.64, 0.15876),
]


@pytest.mark.parametrize(("hours", "watts", "intensity", "kwh", "kilograms"), CASES)
def test_the_ml_co2_impact_calculator_agrees(hours, watts, intensity, kwh, kilograms):
    hours, watts = float(hours), float(watts)
    cost = carbon.ml_co2_impact(hours, watts, 1000 * intensity)
    assert cost.kwh == pytest.approx(kwh)
    assert cost.grams_co2e == pytest.approx(1000 * kilograms)
    half = carbon.ml_co2_impact(hours, watts, 1000 * intensity, offset=0.5)
    assert half.grams_co2e == pytest.approx(500 * kilograms)


# Strubell et al. (2019), table 3: watts, hours, kWh times PUE, pounds of CO2e. BERT's
# hours are printed as 79; 79.2 is what its 3.3 days are.
STRUBELL = {
    "Transformer base": (1415.78, 12, 27, 26),
    "Transformer big": (1515.43, 84, 201, 192),
    "ELMo": (517.66, 336, 275, 262),
    "BERT base": (12041.51, 79.2, 1507, 1438),
    "architecture search": (1515.43, 274_120, 656_347, 626_155),
}


@pytest.mark.parametrize("name", STRUBELL)
def test_strubells_formula_gives_her_table(name):
    watts, hours, kwh, pounds = STRUBELL[name]
    cost = carbon.strubell(float(hours), watts, 1, 0.0, 0.0)
    assert round(cost.kwh) == kwh
    assert round(cost.grams_co2e / POUND) == pounds
    spread = carbon.strubell(float(hours), (watts - 60) / 4, 4, 50.0, 10.0)
    assert spread.kwh == pytest.approx(cost.kwh)


def test_green_algorithms_counts_cores_by_usage_and_memory_by_size():
    cost = carbon.green_algorithms(10.0, 4, 12.0, 0.5, 64.0, 1.67, 500.0)
    kwh = 10 * (4 * 0.5 * 12 + 64 * 0.3725) * 1.67 / 1000
    assert cost.kwh == pytest.approx(kwh)
    assert cost.grams_co2e == pytest.approx(500 * kwh)


def green(**fields):
    given = {"hours": 1.0, "cores": 1, "watts_per_core": 1.0, "usage": 1.0}
    given |= {"memory_gb": 1.0, "pue": 1.0, "grams_per_kwh": 1.0}
    return carbon.green_algorithms(**{**given, **fields})


def test_no_energy_emits_nothing_and_is_not_unavailable():
    emitted = carbon.emissions(0.0, carbon.grid("FR"))
    assert (emitted.grams_co2e, emitted.kind) == (0.0, "estimated")


def test_the_talks_equivalents_are_whole_for_their_own_pounds():
    for thing in carbon.EQUIVALENTS:
        counts = dict(carbon.equivalents(thing.pounds_co2e * POUND))
        assert counts[thing.name] == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: carbon.strubell(1.0, -1.0, 1, 1.0, 1.0), "gpu_watts must be"),
        (lambda: carbon.strubell(1.0, 1.0, -1, 1.0, 1.0), "gpus must be"),
        (lambda: carbon.strubell(1.0, 1.0, 1, -1.0, 1.0), "cpu_watts must be"),
        (lambda: carbon.strubell(1.0, 1.0, 1, 1.0, -1.0), "ram_watts must be"),
        (lambda: green(hours=-1.0), "hours must be"),
        (lambda: green(cores=-1), "cores must be"),
        (lambda: green(watts_per_core=-1.0), "watts_per_core must be"),
        (lambda: green(memory_gb=-1.0), "memory_gb must be"),
        (lambda: green(grams_per_kwh=-1.0), "intensity must be"),
        (lambda: green(pue=0.9), "(?i)pue .* got 0.9"),
        (lambda: carbon.grid("FR", pue=0.9), "(?i)pue .* got 0.9"),
        (
            lambda: carbon.emissions(-1.0, carbon.grid("FR")),
            "joules must be a finite number >= 0",
        ),
        (lambda: carbon.ml_co2_impact(-1.0, 300.0, 400.0), "hours must be .* got -1"),
        (lambda: carbon.ml_co2_impact(1.0, -300.0, 400.0), "watts must be"),
        (lambda: carbon.ml_co2_impact(1.0, 300.0, math.nan), "intensity must be"),
        (lambda: carbon.ml_co2_impact(1.0, 300.0, 400.0, 1.5), "offset must lie in"),
        (lambda: carbon.strubell(math.inf, 1.0, 1, 1.0, 1.0), "hours must be"),
        (
            lambda: carbon.green_algorithms(1.0, 1, 1.0, 2.0, 1.0, 1.0, 1.0),
            "usage must lie in",
        ),
        (lambda: carbon.given_pue(0.9), "pue must be a finite number >= 1, got 0.9"),
        (lambda: carbon.given_intensity(-4.0), "intensity must be"),
    ],
)
def test_impossible_numbers_are_refused_by_name(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_pound_is_453_and_a_bit_grams_and_a_kwh_36_hundred_kilojoules():
    assert carbon.strubell(84.0, 1515.43, 1, 0.0, 0.0).grams_co2e == pytest.approx(
        87_000, rel=5e-3
    )
    assert carbon.GRAMS_PER_POUND == 453.59237
    one = carbon.Factor(1.0, None, "")
    assert carbon.Grid(one, one).grams(3.6e6) == 1.0


def test_the_table_of_equivalents_is_the_papers():
    assert [thing.pounds_co2e for thing in carbon.EQUIVALENTS] == [
        *(1984, 11023, 36156, 126_000),
        *(39, 78_468, 192, 626_155),
    ]
    counts = dict(carbon.equivalents(2 * 39 * 453.59237))
    assert counts["trainings of an NLP pipeline"] == pytest.approx(2)


def test_a_factor_is_read_with_its_year_and_source():
    told = {name: str(factor) for name, factor in carbon.PUES.items()}
    assert told == {
        "none": "1 (none assumed: the computer alone)",
        "uptime": "1.56 (average of Uptime Institute's survey, 2024)",
        "strubell": "1.58 (average in Strubell et al. 2019, 2018)",
    }


def test_a_grid_is_what_the_user_says_and_else_the_regions():
    assert carbon.grid("") is None
    france = carbon.region("FR").intensity
    assert carbon.grid("FR") == carbon.Grid(carbon.PUES["none"], france)
    both = carbon.grid("FR", intensity=30.0, pue=1.25)
    assert both.intensity.value == 30.0
    assert both.pue == carbon.Factor(1.25, None, "given by the user")
    assert carbon.grid("", intensity=30.0).pue.value == 1.0


@pytest.mark.parametrize("value", [0.999, math.inf, math.nan])
def test_a_pue_is_at_least_1_and_finite(value):
    with pytest.raises(InputError, match="pue must be a finite number >= 1"):
        carbon.given_pue(value)
    assert carbon.given_pue(1.0).value == 1.0


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_offsets_and_usages_may_be_nothing_or_all(share):
    assert carbon.ml_co2_impact(2.0, 500.0, 100.0, share).grams_co2e == pytest.approx(
        100.0 * (1 - share)
    )
    cost = carbon.green_algorithms(10.0, 4, 100.0, share, 0.0, 1.0, 1.0)
    assert cost.kwh == pytest.approx(4.0 * share)


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_outside_0_and_1_is_refused(share):
    with pytest.raises(InputError, match=r"offset must lie in \[0, 1\]"):
        carbon.ml_co2_impact(1.0, 1.0, 1.0, share)
    with pytest.raises(InputError, match=r"usage must lie in \[0, 1\]"):
        carbon.green_algorithms(1.0, 1, 1.0, share, 1.0, 1.0, 1.0)


def test_the_worst_kind_of_nothing_is_unavailable():
    assert records.worst([]) == "unavailable"
    assert records.worst(["measured"]) == "measured"
    assert records.worst(["modelled", "measured"]) == "modelled"


@pytest.mark.parametrize(
    ("watts", "utilisation"),
    [(-1.0, 0.5), (math.inf, 0.5), (9.0, 0.0), (9.0, -0.1), (9.0, 1.01)],
)
def test_an_impossible_assumption_is_refused(watts, utilisation):
    with pytest.raises(InputError, match=r"^(tdp_watts|utilisation) must"):
        records.Assumed(watts, utilisation)


def test_an_assumption_has_a_band_that_ends_at_the_whole_tdp():
    assert records.Assumed(100.0).watts == 50.0
    assert records.Assumed(100.0, 0.8).band_watts == (40.0, 100.0)
    assert records.Assumed(100.0, 0.25).band_watts == (12.5, 50.0)


def test_a_record_with_everything_survives_json_and_reads_well():
    record = records.Energy(
        joules=1000.0,
        kind="estimated",
        reason=None,
        parts=(records.Part("a", 400.0), records.Part("b", 600.0, "estimated")),
        seconds=10.0,
        cpu_seconds=7.0,
        flops=2_000_000,
        measured_fraction=0.4,
        band_joules=(700.0, 1600.0),
        idle_watts=20.0,
        dynamic_joules=800.0,
        missing=("the memory",),
    )
    back = records.Energy.from_json(json.loads(json.dumps(record.to_json())))
    assert back == record
    assert str(record) == (
        "energy 1,000 J (700 to 1,600), estimated, 40% of it measured, 800 J above "
        "idling, without the memory; 7 CPU seconds, 2e+06 FLOPs"
    )
    counted = record._replace(kind="measured", measured_fraction=1.0, band_joules=None)
    assert str(counted).startswith("energy 1,000 J, measured, 800 J above idling, ")
    for kind in ("modelled", "estimated"):
        told = str(record._replace(kind=kind, band_joules=None))
        assert told.startswith(f"energy 1,000 J, {kind}, 40% of it measured, 800 J")
    nothing = record._replace(joules=None, reason="no counter", flops=None)
    assert str(nothing) == "energy unavailable (no counter); 7 CPU seconds"


def test_a_figure_of_zero_is_told_as_zero():
    idle = records.Energy(0.0, "measured", None, (), 0.0, 0.0, 0, dynamic_joules=0.0)
    assert str(idle) == (
        "energy 0 J, measured, 0 J above idling; 0 CPU seconds, 0 FLOPs"
    )


@pytest.mark.parametrize(
    ("find", "name", "message"),
    [
        (hardware.chip, "RTX 2080", "may be NVIDIA GeForce RTX 2080 Ti"),
        (hardware.chip, "A400", "may be NVIDIA RTX A4000/A4000; name one"),
        (carbon.region, "America", "may be AS/ASM/American Samoa, US/USA/United St"),
        (carbon.region, "EU", "unknown region 'EU'; none is near; as AE/"),
    ],
)
def test_part_of_a_name_is_offered_and_never_taken(find, name, message):
    with pytest.raises(InputError, match=message):
        find(name)
    assert carbon.region("uk") is carbon.region("GB")
