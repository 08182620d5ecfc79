"""One search on several devices and processes is the search on one."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from dnc_jax.search.trials import read

ROOT = pathlib.Path(__file__).parents[1]
QUICK = (
    "--config.search.candidates=6",
    "--config.search.rungs=(1,3)",
    "--config.train.epochs=2",
    "--config.space.depth=(0,1)",
    "--config.space.width=(8,32)",
    "--config.space.batch_sizes=(128,)",
)


def start(workdir, *flags, devices=1):
    options = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "experiments.search"),
            *(f"--workdir={workdir}", *QUICK, *flags),
        ],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": options},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def together(workdir, processes):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{one.getsockname()[1]}"
    return [
        start(
            workdir,
            f"--coordinator_address={address}",
            f"--processes={processes}",
            f"--process_id={number}",
        )
        for number in range(processes)
    ]


def finish(running):
    for process in running:
        _, error = process.communicate(timeout=240)
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
    outputs = [process.communicate(timeout=240) for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    assert "Winner" in outputs[0][0]
    assert outputs[1][0] == ""
    assert_same(found(tmp_path), alone)
