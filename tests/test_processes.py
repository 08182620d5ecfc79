"""One search on several devices and processes is the search on one."""

import json
import re
import signal
import socket
import time

import ml_collections
import numpy as np
import pytest

from dnc_jax.search.trials import read
from experiments import launch, pod
from tests.launches import Running

QUICK = (
    "--config.search.candidates=6",
    "--config.search.rungs=(2,6)",
    "--config.train.epochs=2",
    "--config.space.depth=(0,1)",
    "--config.space.width=(8,32)",
    "--config.space.batch_sizes=(128,)",
)


def start(workdir, *flags, devices=1, code=None):
    return Running(f"--workdir={workdir}", *QUICK, *flags, devices=devices, code=code)


def together(workdir, processes, *flags, own=lambda number: (), code=None):
    """Processes of one search; `own` gives further flags of each."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{one.getsockname()[1]}"
    return [
        start(
            workdir,
            f"--coordinator_address={address}",
            f"--processes={processes}",
            f"--process_id={number}",
            *flags,
            *own(number),
            code=code,
        )
        for number in range(processes)
    ]


def finish(running):
    for process in running:
        _, error = process.communicate()
        assert process.returncode == 0, error


def found(workdir):
    trials = read(workdir / "trials.sqlite")[1]
    summary = json.loads((workdir / "summary.json").read_text())
    return trials, summary["best"], summary["test_accuracy"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("alone")
    finish([start(workdir)])
    return found(workdir)


def assert_same(some, others):
    for one, other in zip(some[0], others[0], strict=True):
        assert one.candidate == other.candidate
        np.testing.assert_allclose(one.val_loss, other.val_loss, rtol=0, atol=1e-5)
        assert one.score == pytest.approx(other.score, abs=1e-5)
    assert some[1:] == others[1:]


def test_four_devices_find_what_one_does(alone, tmp_path):
    finish([start(tmp_path, devices=4)])
    assert_same(found(tmp_path), alone)


def test_two_processes_find_what_one_does_and_the_first_alone_reports(alone, tmp_path):
    running = together(tmp_path, 2)
    outputs = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    assert "Winner" in outputs[0][0]
    assert "rung 0" not in outputs[1][0]
    assert_same(found(tmp_path), alone)


def test_a_budget_that_is_too_small_is_refused_in_every_process(tmp_path):
    running = together(tmp_path, 2, "--config.budget.seconds=0.001")
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [2, 2], errors
    assert all("budget.seconds = 0.001 ends before" in error for error in errors)


def test_what_schedulers_send_ends_every_process(tmp_path):
    running = together(tmp_path, 2, "--config.search.rungs=(20,6000)")
    while not list(tmp_path.glob("under_way/rung-*")):
        time.sleep(0.05)
        assert running[0].poll() is None, running[0].communicate()
    for process in running:
        process.terminate()
    errors = [process.communicate(timeout=60)[1] for process in running]
    codes = [process.returncode for process in running]
    assert codes[0] == 143, errors
    assert codes[1] in (143, pod.LOST), errors


def test_processes_that_were_asked_for_different_things_do_not_begin(tmp_path):
    running = together(tmp_path, 2, own=lambda number: [f"--config.seed={number}"])
    errors = [process.communicate(timeout=60)[1] for process in running]
    assert [process.returncode for process in running] == [2, 2], errors
    assert all("different configs, flags or versions" in error for error in errors)


@pytest.mark.parametrize("more", [{}, {"test": "here/more.csv"}])
def test_files_may_lie_elsewhere_on_every_host(more):
    here = {"data": {"name": "here/rows.csv", "dir": "here", **more}}
    there = json.loads(json.dumps(here).replace("here", "there"))
    asked, other = (
        launch._same_everywhere(ml_collections.ConfigDict(one)) for one in (here, there)
    )
    assert asked == other
    assert asked["data"]["name"] == "rows.csv"


IMPATIENT = """
import runpy
from experiments import pod
pod._PARTING_SECONDS = 1
runpy.run_module("experiments.search", run_name="__main__", alter_sys=True)
"""


def test_what_one_process_refuses_ends_the_others_too(tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "mine.txt").touch()
    running = together(tmp_path, 2, code=IMPATIENT)
    errors = [process.communicate(timeout=60)[1] for process in running]
    assert running[0].returncode == 2, errors
    assert "holds no architecture.json" in errors[0]
    # 134: JAX's own heartbeat was faster.
    assert running[1].returncode in (pod.LOST, -signal.SIGABRT), errors


COLLECTIVES = r"all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"


def test_no_device_waits_for_another_within_a_program():
    code = """
import jax
from dnc_jax.networks import MLP
from dnc_jax.training import data, engines, lanes, processes, shapes
from dnc_jax.training.hyperparameters import Hyperparameters
from dnc_jax.training.jobs import Job
from dnc_jax.training.programs import Programs

key = jax.random.key(0)
programs = Programs(data.load("digits"), key, processes.mesh())
shape = shapes.Padded(2, (16,), 32)
job = Job(MLP(64, (16,), 10), Hyperparameters(), key, 0, 1, 1)
packed = lanes.pack([engines.fresh(job)], shape), lanes.settings([job], shape)
compiled = jax.stages.Lowered.compile
def spy(self, **options):
    result = compiled(self, **options)
    print(result.as_text())
    return result
jax.stages.Lowered.compile = spy
programs.get(shape, [packed] * 4)
"""
    process = Running(code=code, devices=4)
    output, error = process.communicate()
    assert process.returncode == 0, error
    assert output.count("num_partitions=4") == 2, "training and validation"
    assert "while" in output, "the steps of an epoch"
    assert not re.search(COLLECTIVES, output)


def test_a_process_whose_peer_was_killed_says_so_and_the_restart_ends_right(
    alone, tmp_path
):
    running = together(tmp_path, 2)
    while not list(tmp_path.glob("under_way/rung-*")):
        time.sleep(0.05)
        assert running[0].poll() is None, running[0].communicate()
    running[1].kill()
    running[1].communicate()
    begin = time.monotonic()
    _, error = running[0].communicate(timeout=60)
    assert time.monotonic() - begin < 60
    assert running[0].returncode != 0
    assert "another" in error
    assert "task died" in error or "the same command goes on" in error
    finish(together(tmp_path, 2))
    assert_same(found(tmp_path), alone)


def test_ctrl_c_in_one_process_ends_the_others_and_loses_nothing(tmp_path):
    long = "--config.search.rungs=(20,60)"  # not over before it is interrupted
    running = together(tmp_path, 2, long)
    while not list(tmp_path.glob("under_way/rung-*")):
        time.sleep(0.05)
        assert running[0].poll() is None, running[0].communicate()
    running[1].interrupt()
    errors = [process.communicate(timeout=60)[1] for process in running]
    assert running[1].returncode == 130, errors
    # Between two rungs there is nobody to ask: then the other finds out later.
    assert running[0].returncode in (130, pod.LOST), errors
    kept = {(t.candidate_id, t.rung): t for t in read(tmp_path / "trials.sqlite")[1]}
    finish(together(tmp_path, 2, long))
    trials = {(t.candidate_id, t.rung): t for t in found(tmp_path)[0]}
    assert len(trials) > len(kept)
    assert all(trials[place] == trial for place, trial in kept.items())
