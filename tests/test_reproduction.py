"""The reproductions on small data, and the committed tables that RESULTS.md shows."""

import csv
import importlib
import json
import re

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from dnc_jax.errors import InputError
from dnc_jax.footprint import complexity
from dnc_jax.training import data as datasets
from dnc_jax.training import population
from experiments import sweep as sweep_launch
from experiments.configs import (
    density_sweep as density_config,
)
from experiments.configs import (
    frameworks as frameworks_config,
)
from experiments.configs import (
    large_sparse_small_dense as large_config,
)
from experiments.configs import (
    trends as trends_config,
)
from experiments.configs import weights as weights_config
from experiments.reproduction import (
    cifar_head,
    density_sweep,
    frameworks,
    large_sparse_small_dense,
    record,
    results,
    study,
    trends,
    weights,
)

TAKEN = [name for name in results.STUDIES if (results.RESULTS / name).exists()]


@pytest.fixture(scope="module", autouse=True)
def parsed_flags():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["pytest"])


def small(config, **fields):
    """The config on digits, two networks of a point, an epoch."""
    config.data.name = "digits"
    config.networks = 2
    config.train.epochs = 1
    with config.unlocked():
        config.update(fields)
    return config


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    config = small(
        density_config.get_config(),
        layers=((64, 20, 10),),
        families=(("random", "structured"),),
        densities=(((0.25, 1.0), (1.0, 1.0)),),
    )
    density_sweep.main(config, folder)
    return config, folder


def test_a_density_sweep_leaves_tables_a_plot_and_where_they_come_from(sweep):
    _, folder = sweep
    rows = record.read_csv(folder / "accuracy.csv")
    assert [row["family"] for row in rows] == ["random", "dense", "structured"]
    assert [row["net density %"] for row in rows] == ["35.1", "100.0", "35.1"]
    run = json.loads((folder / "run.json").read_text())
    assert run["seeds"] == [0, 1]
    assert run["settings"]["data"]["dir"] == "DIR"
    assert "jax" in run["machine"]
    assert rows[1]["test accuracy %"] in (folder / "tables.md").read_text()
    assert "plotly" in (folder / "plots.html").read_text()


def test_a_mean_is_that_of_the_seeds_and_what_is_trained_is_not_trained_again(
    sweep, monkeypatch
):
    config, folder = sweep
    runs = record.read_csv(folder / "runs.csv")
    values = [100 * float(r["test_accuracy"]) for r in runs if "dense" in r["point"]]
    (dense,) = [
        row
        for row in record.read_csv(folder / "accuracy.csv")
        if row["family"] == "dense"
    ]
    assert len(values) == 2
    assert dense["test accuracy %"] == f"{np.mean(values):.2f}"
    assert dense["standard error"] == f"{np.std(values, ddof=1) / 2**0.5:.2f}"

    def refuse(*arguments, **options):
        raise AssertionError("trained again")

    monkeypatch.setattr(population, "train", refuse)
    before = (folder / "accuracy.csv").read_bytes()
    density_sweep.main(config, folder)
    assert (folder / "accuracy.csv").read_bytes() == before


def test_the_folder_of_another_config_is_refused(sweep):
    config, folder = sweep
    other = small(density_config.get_config(), **config.to_dict())
    other.train.epochs = 2
    with pytest.raises(InputError, match="another config"):
        density_sweep.main(other, folder)


def test_inputs_are_padded_with_what_was_zero_and_scaled_as_one(digits):
    wide = study.padded(digits, 80)
    assert wide.inputs == 80
    x = datasets.normalise(wide.train.x, wide.mean, wide.scale)
    assert abs(float(x.mean())) < 1e-4
    assert float(x.std()) == pytest.approx(1, abs=1e-4)
    assert np.ptp(np.asarray(x)[:, 64:]) == 0
    with pytest.raises(InputError, match="64 features"):
        study.padded(digits, 60)


def test_a_network_is_tested_on_the_test_rows_and_trained_on_all_others(digits):
    whole = study.examined(digits)
    assert len(whole.train.y) == len(digits.train.y) + len(digits.validation.y)
    assert whole.validation is digits.test


def test_leading_components_are_uncorrelated_and_ordered(digits):
    few = trends.components(digits, 8)
    x = np.asarray(few.train.x)[:, :, 0]
    covariance = np.cov(x.T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-2
    assert (np.diff(np.diag(covariance)) < 0).all()
    with pytest.raises(InputError, match="components"):
        trends.components(digits, 65)


def test_large_sparse_networks_fit_into_the_parameters_of_the_small_dense_one(digits):
    dense, *sparse = large_sparse_small_dense.networks(
        study.padded(digits, 800), 20, (2, 4), "balanced"
    )
    limit = complexity(dense).parameters
    for network in sparse:
        assert 0.95 * limit < complexity(network).parameters <= limit
        assert network.hidden[0] > dense.hidden[0]
    with pytest.raises(InputError, match="more parameters"):
        large_sparse_small_dense.networks(digits, 20, (16,), "balanced")


def test_small_weights_are_those_below_a_tenth_of_the_largest():
    assert weights.share(np.array([10, 0.5, 0.9, 1.0, 5])) == pytest.approx(0.4)


def test_weights_are_counted_before_and_after_training(tmp_path):
    config = small(weights_config.get_config(), layers=((64, 12, 10),))
    weights.main(config, tmp_path)
    rows = record.read_csv(tmp_path / "shares.csv")
    assert [row["weights"] for row in rows] == ["768", "120"]
    assert rows[0]["mean magnitude"] != rows[0]["before training"]
    assert len(record.read_csv(tmp_path / "histogram.csv")) == 2 * weights.BINS


def test_a_grid_of_penalties_has_a_row_for_each_pair(tmp_path, digits):
    config = small(
        trends_config.get_config(), decays=(0.0, 1e-2), densities=((1.0, 1.0),)
    )
    rows = trends.decays(study.Study(config, tmp_path), digits)
    assert [row["L2"] for row in rows] == ["0", "0.01"]
    assert rows[0]["test accuracy %"] != rows[1]["test accuracy %"]


def test_large_and_small_networks_stand_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setattr(large_sparse_small_dense, "costs", lambda *_: ("0.1", ""))
    config = small(large_config.get_config(), small=(10,), times=(2,))
    large_sparse_small_dense.main(config, tmp_path)
    rows = record.read_csv(tmp_path / "accuracy.csv")
    assert [row["hidden nodes"] for row in rows] == ["10", "20"]
    (finding,) = record.read_csv(tmp_path / "findings.csv")
    assert rows[1]["test accuracy %"] in finding["measured"]


def junction_rows(*accuracies):
    return [
        {
            "edges": "1",
            "junction 1 %": first,
            "junction 2 %": second,
            "test accuracy %": accuracy,
            "standard error": "0.1",
        }
        for (first, second), accuracy in zip(
            (("9", "8"), ("5", "40")), accuracies, strict=True
        )
    ]


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [
        (("90", "95"), record.AGREES),
        (("95", "90"), record.UNDECIDED),
        (("95", "95.1"), record.UNDECIDED),
    ],
)
def test_the_verdict_on_junctions_is_what_the_numbers_say(accuracies, verdict):
    (finding,) = trends._later(junction_rows(*accuracies))
    assert finding["verdict"] == verdict


@pytest.mark.parametrize(
    ("sparse", "verdict"),
    [("97", record.AGREES), ("95", record.DISAGREES), ("96.1", record.UNDECIDED)],
)
def test_the_verdict_on_large_networks_is_what_the_numbers_say(sparse, verdict):
    rows = [
        {
            "dense twin": "10 nodes",
            "hidden nodes": nodes,
            "net density %": "50",
            "parameters": "8000",
            "seconds per epoch": "",
            "test accuracy %": accuracy,
            "standard error": "0.1",
        }
        for nodes, accuracy in (("10", "96"), ("20", sparse))
    ]
    (finding,) = large_sparse_small_dense.findings({"accuracy": rows})
    assert finding["verdict"] == verdict


@pytest.mark.parametrize(
    ("error", "verdict"),
    [("0.1", record.AGREES), ("nan", record.UNDECIDED)],
)
def test_one_seed_decides_nothing_about_a_head(error, verdict):
    rows = [
        {
            "family": family,
            "net density %": density,
            "test accuracy %": "90",
            "standard error": error,
        }
        for family, density in (("dense", "100"), ("structured", "5"))
    ]
    (finding,) = cifar_head.findings({"accuracy": rows})
    assert finding["verdict"] == verdict


def test_weights_of_one_work_folder_are_refused():
    with (
        flagsaver.flagsaver(w_c=["0.1", "0.10000001"]),
        pytest.raises(InputError, match="two have one work folder"),
    ):
        sweep_launch.asked()


def test_what_could_not_be_told_apart_is_refused_before_it_is_trained(tmp_path):
    config = small(
        density_config.get_config(),
        layers=((64, 20, 10),),
        families=(("structured",),),
        densities=(((0.25, 1.0),),),
    )
    with pytest.raises(InputError, match="need an entry of ones"):
        density_sweep.main(config, tmp_path / "sweep")
    config = small(frameworks_config.get_config(), frameworks=("optuna", "mine"))
    with pytest.raises(InputError, match=r"ours and some of optuna.*got optuna, mine"):
        frameworks.main(config, tmp_path / "frameworks")


def program_of(study):
    """The module of a study; CNNs are the same one with another config."""
    return study.removesuffix("_cnn")


@pytest.mark.parametrize("name", TAKEN)
def test_findings_are_what_the_committed_tables_say(name):
    folder = results.RESULTS / name
    module = importlib.import_module(f"experiments.reproduction.{program_of(name)}")
    tables = {
        path.stem: record.read_csv(path)
        for path in folder.glob("*.csv")
        if path.stem != record.FINDINGS
    }
    found = record.read_csv(folder / f"{record.FINDINGS}.csv")
    assert [dict(row) for row in module.findings(tables)] == found


def test_the_page_is_made_of_the_committed_tables():
    assert results.PAGE.read_text(encoding="utf-8") == results.page(results.RESULTS)


def test_every_number_in_a_table_of_the_page_is_a_cell_of_a_csv():
    cells = set()
    for path in results.RESULTS.glob("*/*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            cells |= {cell for row in csv.reader(file) for cell in row}
    lines = results.PAGE.read_text(encoding="utf-8").splitlines()
    shown = [
        cell.strip()
        for line in lines
        if line.startswith("|")
        for cell in re.split(r"(?<!\\)\|", line)[1:-1]
    ]
    numbers = [cell for cell in shown if any(map(str.isdigit, cell))]
    assert numbers
    assert set(numbers) <= cells


@pytest.mark.parametrize("name", TAKEN)
def test_the_header_of_a_config_says_command_time_and_result(name):
    name = program_of(name)
    module = importlib.import_module(f"experiments.configs.{name}")
    text = module.__doc__
    for word in (f"reproduction.{name}", "Time:", "Result:"):
        assert word in text
    assert "not measured" not in text
    assert module.get_config("full").seed == module.get_config().seed


def test_what_is_no_finished_study_is_not_taken_in(tmp_path):
    with pytest.raises(InputError, match="no finished study"):
        results.take(tmp_path)
