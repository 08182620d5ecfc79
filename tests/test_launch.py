"""The command line, run as a user runs it: in a process of its own."""

import csv
import gzip
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

import dnc_jax
from dnc_jax import exporting
from experiments.launch import _send_again
from tests.launches import launch

QUICK = (
    "--config.search.candidates=4",
    "--config.search.rungs=(1,2)",
    "--config.train.epochs=3",
    "--config.space.depth=(0,1)",
    "--config.space.batch_sizes=(128,)",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "quick"
    return folder, launch(f"--workdir={folder}", "--profile", *QUICK)


def test_a_search_writes_what_the_readme_names(finished):
    folder, process = finished
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    summary = json.loads((folder / "summary.json").read_text())
    for key in (
        "best_val_accuracy",
        "test_accuracy",
        "parameters",
        "flops_per_example",
        "score",
        "candidates",
        "candidate_epochs",
        "search_seconds",
        "compile_seconds",
        "seed",
    ):
        assert isinstance(summary[key], int | float), key
    assert summary["candidates"] == 4
    assert summary["candidate_epochs"] == 4 * 1 + 1 * 1
    count = sqlite3.connect(folder / "trials.sqlite").execute(
        "SELECT count(*) FROM trials"
    )
    assert count.fetchone() == (5,)
    assert (folder / "report.html").stat().st_size > 1_000_000, "plotly is inside"
    assert not (folder / "under_way").exists()


def test_a_profile_shows_what_was_compiled_and_when_it_trained(finished):
    (path,) = finished[0].glob("profile/plugins/profile/*/*.trace.json.gz")
    with gzip.open(path) as file:
        names = [event.get("name", "") for event in json.load(file)["traceEvents"]]
    assert any(name.startswith("compiling ") for name in names)
    assert "training" in names
    assert "evaluating" in names
    assert list(path.parent.glob("*.xplane.pb")), "TensorBoard reads this one"


def test_the_saved_network_has_the_accuracy_of_the_summary(finished, digits):
    folder, _ = finished
    network = dnc_jax.load(folder / "best")
    accuracy = np.mean(np.asarray(network(digits.test.x)).argmax(-1) == digits.test.y)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["test_accuracy"] == pytest.approx(accuracy)


def test_the_winner_exported_has_the_accuracy_of_the_summary(
    finished, digits, tmp_path
):
    folder, _ = finished
    exporting.export(dnc_jax.load(folder / "best"), tmp_path / "exported")
    np.save(tmp_path / "x.npy", digits.test.x)
    process = subprocess.run(
        [sys.executable, "exported/predict.py", "x.npy"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    accuracy = np.mean(np.array(process.stdout.split(), int) == digits.test.y)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["test_accuracy"] == pytest.approx(accuracy)


def test_help_names_every_field_with_its_value():
    process = launch("--help")
    assert process.returncode == 0
    for line in (
        "--workdir=DIR",
        "--config.data.name=digits",
        "--config.space.activations=\"('relu', 'tanh', 'sigmoid')\"",
        "--config.train.epochs=100",
        "--config.data.dir=''  ",
        "  TFDS data directory; empty: ~/tensorflow_datasets",
    ):
        assert line in process.stdout


def test_help_of_a_file_with_flags_of_its_own_names_them_and_no_config():
    process = launch("--help", module="footprint")
    assert process.returncode == 0
    assert "--region=None  Country or US state" in process.stdout
    assert "Exit codes: 0 done, 2 unusable input" in process.stdout
    for other in ("--config", "--workdir", "--coordinator_address"):
        assert other not in process.stdout
    assert launch("more", module="footprint").returncode == 2


def test_quiet_prints_nothing(finished):
    folder, _ = finished
    process = launch(f"--workdir={folder}", "--quiet", *QUICK)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


def test_piped_output_is_plain_lines_with_the_tables(finished):
    _, process = finished
    assert "\x1b" not in process.stdout
    for text in ("rung 0: 4 alive", "Best 4 of 4", "Pareto front", "Winner, trained"):
        assert text in process.stdout
    # However long, what is said of a rung and of the winner is one line each.
    lines = process.stdout.splitlines()
    (rung,) = (line for line in lines if "rung 0: 4 alive" in line)
    assert "best validation accuracy" in rung
    (winner,) = (line for line in lines if line.startswith("Winner, trained"))
    assert ", batch " in winner


def test_a_finished_search_is_shown_again_and_not_run_again(finished):
    folder, first = finished
    before = (folder / "summary.json").stat().st_mtime_ns
    again = launch(f"--workdir={folder}", *QUICK)
    assert again.returncode == 0
    assert (folder / "summary.json").stat().st_mtime_ns == before
    tables = first.stdout[first.stdout.index("Best 4 of 4") :]
    assert tables in again.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.data.name=nist"], "unknown data set 'nist'; known: digits"),
        (
            ["--config.data.name=mnist", "--config.data.dir=/nowhere"],
            "since /nowhere does not exist",
        ),
        (["--config.data.nome=x"], "unknown config field nome"),
        (["--config.objective.w_c=-1"], "objective.w_c must be"),
        (["--config.objective.w_c=much"], "could not convert string to float"),
        (["--config.space.width=(30,20)"], "space.width: lower 30 > upper 20"),
        (["--config.search.rungs=(3,1)"], "search.rungs"),
        (["--config.train.epochs=0"], "train.epochs must be a whole number >= 1"),
        (["--config.budget.seconds=-5"], "budget.seconds must be a finite number"),
        (["--config.budget.grams_co2e=5"], "energy.region, such as FR"),
        (["--config.budget.candidate_epochs=3"], "which takes about 192 candidate-epo"),
        (["--config.energy.region=Frnce"], "nearest: France"),
        (["--config.energy.tdp_watts=-1"], "energy.tdp_watts must be a finite number"),
        (["--config.data.task=sort"], "data.task must be one of"),
        (["--config.data.class_weight=1,2"], "data.class_weight must be 'balanced'"),
        (["--config=missing.py"], "missing.py"),
        (["--seed=1"], "flag 'seed'; fields of the config are written --config.seed"),
        (
            ["--config.search.rungs=(1,2)", "--config.search.rungs=(3,1)"],
            "search.rungs must be epochs >= 1 that increase, got (3, 1)",
        ),
        (["stray"], "unexpected argument 'stray'"),
        (["--workdir=/proc/nothing/here"], "/proc/nothing"),
        (["--workdir=/dev/null/here"], "here: /dev/null is no folder; name another"),
        (["--config.energy.pue=0.5"], "energy.pue must be a finite number >= 1"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(flags, message, tmp_path):
    folder = tmp_path / "work"
    process = launch(f"--workdir={folder}", *flags)
    assert process.returncode == 2, process.stderr
    assert process.stderr.startswith("error: ")
    assert process.stderr.count("\n") == 1
    assert message in process.stderr
    assert not folder.exists()


def test_a_field_that_a_config_of_ones_own_invents_is_refused(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from experiments.configs import digits\n"
        "def get_config():\n"
        "    config = digits.get_config()\n"
        "    config.budget.hours = 1.0\n"
        "    return config\n"
    )
    process = launch(f"--config={tmp_path / 'mine.py'}", f"--workdir={tmp_path / 'w'}")
    assert process.returncode == 2
    assert "field budget.hours; known: candidate_epochs, grams" in process.stderr


def test_another_config_in_the_same_folder_is_refused_and_nothing_lost(finished):
    folder, _ = finished
    before = (folder / "trials.sqlite").read_bytes()
    process = launch(f"--workdir={folder}", *QUICK, "--config.seed=9")
    assert process.returncode == 2
    assert "seed was 0, is 9" in process.stderr
    assert (folder / "trials.sqlite").read_bytes() == before


def test_the_same_command_with_a_larger_budget_goes_on_where_it_ended(tmp_path):
    def run(epochs):
        budget = f"--config.budget.candidate_epochs={epochs}"
        process = launch(f"--workdir={tmp_path}", *QUICK, budget)
        assert process.returncode == 0, process.stderr
        return json.loads((tmp_path / "summary.json").read_text()), process.stdout

    first, _ = run(4)  # the first rung
    assert (first["complete"], first["ended_by"]) == (False, "candidate_epochs")
    whole, text = run(100)
    assert "another budget, so the search goes on" in text
    assert whole["complete"]
    assert whole["candidate_epochs"] == 1, "one network goes on, none begins again"
    assert not (tmp_path / "under_way").exists()


TRAIN = (
    "--config.data.name=digits",
    "--config.network.hidden=(64,64)",
    "--config.network.block_inputs=(1,8,1)",
    "--config.network.block_outputs=(8,8,1)",
    "--config.train.epochs=4",
    "--config.train.batch_size=32",
    "--config.train.learning_rate=0.01",
)


def test_a_work_folder_is_believed_of_its_own_rows_and_files_alone(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(120, 3)), np.arange(120) % 2

    def write(labels):
        lines = [
            ",".join(map(str, [*row, label]))
            for row, label in zip(x, labels, strict=True)
        ]
        (tmp_path / "rows.csv").write_text("\n".join(["a,b,c,kind", *lines]))

    def run(folder, *flags, module="search"):
        search = () if module == "train" else QUICK
        return launch(
            f"--config.data.name={tmp_path / 'rows.csv'}",
            f"--workdir={folder}",
            *search,
            *flags,
            module=module,
        )

    def refused(process, message):
        assert (process.returncode, message in process.stderr) == (2, True), (
            process.stderr
        )

    write(y)
    folder, copy = tmp_path / "found", tmp_path / "copy"
    assert run(folder).returncode == 0
    shutil.rmtree(folder / "best")
    refused(run(folder), "but best/ is gone; without summary.json the same command")
    (folder / "summary.json").unlink()
    assert run(folder).returncode == 0
    assert (folder / "best" / "architecture.json").exists()

    shutil.copytree(folder, copy)
    (copy / "summary.json").unlink()
    refused(run(copy, module="train"), "holds a search; choose another --workdir")
    (copy / "summary.json").write_text('{"config": {}}')
    refused(run(copy), "is of something else than a search")
    shutil.copy(folder / "summary.json", copy)
    (copy / "trials.sqlite").unlink()
    refused(run(copy), "tells of a search that trials.sqlite knows nothing of")

    write(1 - y)
    refused(run(folder), "are not those that the store's trials were made with")
    refused(run(tmp_path / "new", f"--fork={folder}"), "are not those of that search")


def test_training_a_sparse_network_compares_it_with_its_dense_twin(tmp_path):
    f1 = "--config.data.metric=f1"
    process = launch(*TRAIN, f1, f"--workdir={tmp_path}", module="train")
    assert process.returncode == 0, process.stderr
    assert "FLOPs of one example, macro F1, seconds of an epoch" in process.stdout
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["metric"] == "macro F1"
    sparse, twin = summary["sparse"], summary["dense twin"]
    edges = 6 * 64 + 64 * 8 + 640
    assert sparse["parameters"] == edges + 138
    assert sparse["density"] == edges / (2 * 64 * 64 + 640)
    assert twin["parameters"] == 2 * 64 * 64 + 640 + 138
    assert sparse["test_accuracy"] > 0.7
    assert "dense twin" in process.stdout
    assert "s/epoch" in process.stdout
    assert "of a matrix product" in process.stdout
    assert summary["saving"]["claimed"] == 1 - (
        sparse["flops_per_example"] / twin["flops_per_example"]
    )
    assert "sparsity claims" in process.stdout
    assert sparse["roofline"]["flops_per_second"] > 0
    network = dnc_jax.load(tmp_path / "best")
    assert network.patterns[1].block == (8, 8)
    other = launch(*TRAIN, "--config.seed=1", f"--workdir={tmp_path}", module="train")
    assert other.returncode == 2
    assert "another config" in other.stderr


def test_training_on_a_table_takes_its_target_and_shows_r2(tmp_path):
    rows = np.random.default_rng(0).normal(size=(60, 3))
    rows[:, 1] = rows[:, 0] - rows[:, 2]
    np.savetxt(
        tmp_path / "rows.csv", rows, delimiter=",", header="a,price,b", comments=""
    )
    process = launch(
        f"--config.data.name={tmp_path / 'rows.csv'}",
        "--config.data.target=price",
        "--config.data.loss=huber",
        "--config.twin=False",
        "--config.network.hidden=(8,)",
        "--config.network.densities=(0.5,1.0)",
        "--config.network.block_inputs=(1,1)",
        "--config.network.block_outputs=(1,1)",
        "--config.network.families=('structured','structured')",
        "--config.train.epochs=2",
        f"--workdir={tmp_path / 'run'}",
        module="train",
    )
    assert process.returncode == 0, process.stderr
    *_, row = (line for line in process.stdout.splitlines() if line.startswith("│"))
    assert row.count("%") == 1, "the density"
    assert "FLOPs of one example, R², seconds of an epoch" in process.stdout
    network = dnc_jax.load(tmp_path / "run" / "best")
    assert network.columns == ("a", "b")
    assert network.target_mean


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.network.densities=(0.1,1.0)", "[2, 3, 3, 3]"),
        ("--config.network.families=('ring','random','random')", "family must be"),
        ("--config.network.block_outputs=(7,8,1)", "64 is not a multiple of"),
        ("--config.train.epochs=0", "train.epochs must be a whole number >= 1, got 0"),
        ("--config.data.class_weight=1,2", "class_weight must be 'balanced'"),
    ],
)
def test_bad_input_to_training_is_one_line(flag, message, tmp_path):
    others = [other for other in TRAIN if other.split("=")[0] != flag.split("=")[0]]
    process = launch(*others, flag, f"--workdir={tmp_path / 'new'}", module="train")
    assert process.returncode == 2
    assert message in process.stderr
    assert process.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_sweep_shares_trials_and_a_transfer_tunes_what_was_found(tmp_path):
    swept = launch(
        "--w_c=0,10", f"--workdir={tmp_path / 'sweep'}", *QUICK, module="sweep"
    )
    assert swept.returncode == 0, swept.stderr
    with (tmp_path / "sweep" / "sweep.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert int(second["parameters"]) <= int(first["parameters"])
    # The first rung of the second weight was scored anew, not trained again.
    assert int(second["candidate_epochs"]) <= 2
    found = json.loads((tmp_path / "sweep" / "w_c-10" / "summary.json").read_text())
    moved = launch(
        f"--source={tmp_path / 'sweep' / 'w_c-10'}",
        "--count=1",
        f"--workdir={tmp_path / 'moved'}",
        "--config.seed=1",
        *QUICK,
        module="transfer",
    )
    assert moved.returncode == 0, moved.stderr
    tuned = json.loads((tmp_path / "moved" / "summary.json").read_text())
    assert tuned["best"]["architecture"] == found["best"]["architecture"]
    for flags, message in (
        (("--w_c=0,x",), "'x' is not a finite number"),
        (("--config.objective.w_c=1",), "--config.objective.w_c means nothing"),
    ):
        refused = launch(*flags, f"--workdir={tmp_path / 'no'}", module="sweep")
        assert (refused.returncode, message in refused.stderr) == (2, True)
    assert not (tmp_path / "no").exists()


def test_an_interrupt_that_python_drops_arrives_all_the_same(monkeypatch):
    class Interrupted:
        def __del__(self):
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "unraisablehook", _send_again)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            Interrupted()
            time.sleep(30)
    finally:
        signal.signal(signal.SIGINT, before)
