"""`python -m experiments.footprint`, as a user runs it."""

import json
import re

import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from dnc_jax import InputError
from dnc_jax.footprint import Energy
from dnc_jax.footprint.records import Part
from experiments import footprint
from tests.launches import launch


@pytest.fixture
def run(capsys):
    """Runs the launch file in this process with these flags and returns its output."""

    def call(*flags):
        with flagsaver.flagsaver():
            absl_flags.FLAGS(["footprint", *flags])
            footprint.main()
        return " ".join(capsys.readouterr().out.split())

    return call


@pytest.fixture
def summary(tmp_path):
    """Writes summary.json of a run that took so many joules."""

    def write(joules, flops=10**15, **fields):
        kind = "unavailable" if joules is None else "measured"
        reason = None if joules else "no RAPL zones in /sys/class/powercap"
        parts = (Part("package-0", joules),) if joules else ()
        energy = Energy(joules, kind, reason, parts, 9.5, 19.0, flops)
        path = tmp_path / "summary.json"
        path.write_text(json.dumps({"energy": energy.to_json(), **fields}))
        return f"--summary={path}"

    return write


def test_a_run_is_ranked_by_region_and_hardware_with_its_equivalents(run, summary):
    text = run(summary(7.2e6), "--region=FR", "--pue=uptime", "--top=3")
    assert "energy 7,200,000 J, measured" in text
    # 2 kWh, times 1.56, times 44.18 g.
    assert "137.8 g of CO2e, estimated, from 7.2e+06 J, measured" in text
    assert "1.56 (average of Uptime Institute's survey, 2024)" in text
    assert "44.18 (Ember via Our World in Data, 2024)" in text
    ranks = re.findall(r"│ (\d+) │ (\w[^│]*) \((\w\w(?:-\w\w)?)\) │", text)
    assert [int(rank) for rank, _, _ in ranks][:3] == [1, 2, 3]
    assert "FR" in [code for _, _, code in ranks]
    assert "at 30% of the float32 peak" in text
    assert "flights New York - San Francisco" in text


def test_a_run_without_energy_says_so_and_estimates_it_for_a_chip(run, summary):
    text = run(summary(None))
    assert "energy unavailable (no RAPL zones" in text
    assert "no energy, so no CO2e here" in text
    assert "drawing the TDP, estimated" in text
    text = run(summary(None), "--hardware=V100", "--region=FR")
    # 1e15 FLOPs at 30 % of 15.67 TFLOP/s, 300 W.
    assert "212.7 s, 6.382e+04 J, estimated" in text
    assert "0.7832 g of CO2e, estimated" in text


def test_the_energy_of_a_resumed_search_is_said_to_be_its_last_runs(run, summary):
    assert "what its last run took, not those before" in run(summary(9.0, resumed=True))
    assert "last run" not in run(summary(9.0, resumed=False))


def test_hours_on_a_chip_are_the_ml_co2_impact_calculator(run):
    text = run("--hours=10", "--hardware=V100", "--region=FR")
    assert "energy 3 kWh, estimated" in text
    assert re.search(r"CO2e 132.5 g .*, estimated", text)


def test_strubells_formula_is_a_named_mode(run):
    text = run("--formula=strubell", "--hours=84", "--watts=1515.43")
    assert "energy 201.1 kWh" in text
    assert "(191.9 lb), estimated" in text


def test_green_algorithms_is_a_named_mode(run):
    flags = ("--hours=10", "--cores=4", "--watts=12", "--usage=0.5", "--memory_gb=64")
    text = run("--formula=green_algorithms", *flags, "--pue=1.67", "--intensity=500")
    # 10 h * (4 * 0.5 * 12 W + 64 GB * 0.3725 W) * 1.67
    assert "energy 0.7989 kWh" in text
    assert "CO2e 399.5 g" in text


def test_the_parts_of_a_training_run_are_added(run, tmp_path):
    energy = Energy(10.0, "measured", None, (Part("gpu", 10.0),), 1.0, 1.0, 10**12)
    other = energy._replace(kind="estimated", joules=30.0)
    path = tmp_path / "summary.json"
    parts = {"sparse": energy, "dense twin": other}
    written = {name: {"energy": part.to_json()} for name, part in parts.items()}
    path.write_text(json.dumps({"config": {"seed": 0}, **written}))
    text = run(f"--summary={path}", "--intensity=360000")
    assert "dense twin: energy 30 J, estimated" in text
    assert "4 g of CO2e, estimated, from 40 J, estimated" in text
    assert "2e+12 FLOPs at 30%" in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "give --summary=FILE or --hours=H, one of them"),
        (("--hours=-3", "--hardware=V100", "--region=FR"), "hours must be a finite"),
        (("--hours=3", "--hardware=V10", "--region=FR"), "may be NVIDIA Tesla V100"),
        (("--hours=3", "--hardware=V100", "--region=Frnce"), "nearest: France"),
        (("--hours=3", "--hardware=V100"), "--region=FR or --intensity=G"),
        (("--hours=3", "--region=FR"), "--hardware=NAME or --watts=W"),
        (
            ("--hours=3", "--watts=1", "--formula=strubell", "--region=nowhere"),
            "--region means nothing with --formula=strubell, which reads --hardware",
        ),
        (
            (
                "--hours=1",
                "--hardware=AMD EPYC 7763",
                "--cores=64",
                "--region=FR",
                "--formula=green_algorithms",
            ),
            "280 W are those of all cores of AMD EPYC 7763; give --watts=W of one",
        ),
        (("--summary=x.json", "--watts=3"), "--watts means nothing with --summary"),
        (("--summary=x.json", "--formula=strubell"), "--formula means nothing with"),
        (("--summary=setup.py",), "setup.py is not the summary.json of a run"),
        (
            (
                "--hours=1",
                "--watts=1",
                "--region=FR",
                "--formula=green_algorithms",
                "--pue=half",
            ),
            "--pue must be none, uptime, strubell or a number",
        ),
    ],
)
def test_bad_input_is_refused_by_name(run, flags, message):
    with pytest.raises(InputError, match=re.escape(message)):
        run(*flags)


def test_bad_input_is_one_line_and_exit_code_2():
    for flag in ("--hours=much", "--summary=missing.json", "stray"):
        process = launch(flag, module="footprint")
        assert process.returncode == 2, process.stdout
        assert process.stderr.startswith("error: ")
        assert process.stderr.count("\n") == 1
