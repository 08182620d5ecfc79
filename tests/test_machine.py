import json
import math
import os

import pytest

from dnc_jax.networks import CNN
from dnc_jax.networks.convolution import convolution
from dnc_jax.training import costs, machine, resources, shapes

FOUND = costs.CostModel(0.9, 5e-5, 3e11, 4e10, 2e10, 4e6)


@pytest.fixture
def measured(monkeypatch):
    """How often the machine was measured."""
    calls = []
    monkeypatch.setattr(machine, "measure", lambda: calls.append(1) or (FOUND, 0.9))
    return calls


def test_the_machine_is_measured_once_and_the_constants_are_kept(measured, tmp_path):
    folder, told = tmp_path / "cache", []
    assert machine.cost_model(folder, lambda: told.append(len(measured))) == FOUND
    assert machine.cost_model(folder, lambda: told.append(len(measured))) == FOUND
    assert len(measured) == 1
    assert told == [0], "before it is measured"


def test_a_busy_machine_is_measured_another_time(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "measure", lambda: (FOUND, 0.3))
    assert machine.cost_model(tmp_path) == costs.CostModel(workers=resources.cores())
    assert not machine.path(tmp_path).exists()


@pytest.mark.parametrize(
    ("texts", "count"),
    [
        (("150000 100000\n",), 2),
        (("20000 100000\n",), 1),
        (("900000 100000\n",), 8),
        (("max 100000\n",), 8),
        (("300000\n", "100000\n"), 3),
        (("-1\n", "100000\n"), 8),
        ((), 8),
    ],
)
def test_the_share_of_a_container_counts_as_cores(texts, count, monkeypatch, tmp_path):
    paths = [tmp_path / str(number) for number in range(max(1, len(texts)))]
    for path, text in zip(paths, texts, strict=False):
        path.write_text(text)
    monkeypatch.setattr(resources, "_QUOTAS", (tuple(paths),))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert resources.cores() == count


def test_without_a_folder_the_defaults_are_used_and_nothing_is_measured(measured):
    assert machine.cost_model(None) == costs.CostModel(workers=resources.cores())
    assert not measured


@pytest.mark.parametrize(
    "content", ["", "[]", '{"constants": {"step": 1}}', None], ids=repr
)
def test_a_damaged_file_of_constants_is_replaced(measured, tmp_path, content):
    if content is None:
        content = json.dumps({"constants": {**FOUND._asdict(), "step_seconds": 0}})
    machine.path(tmp_path).write_text(content)
    assert machine.cost_model(tmp_path) == machine.cost_model(tmp_path) == FOUND
    assert len(measured) == 1


def test_a_folder_that_cannot_be_written_is_no_error(measured, tmp_path):
    (tmp_path / "file").touch()
    assert machine.cost_model(tmp_path / "file") == FOUND


def test_constants_are_those_that_explain_the_seconds_of_the_steps(monkeypatch):
    def step_seconds(shape, programs):
        work = programs.workload(1)
        epoch = costs.run_seconds(shape, 1, work, FOUND)
        return epoch / (programs.rows // shape.batch_size)

    def prepared(shape, programs):
        programs.accounts[shape].compile_seconds = 0.9

    monkeypatch.setattr(machine, "_step_seconds", step_seconds)
    monkeypatch.setattr(machine, "_prepared", prepared)
    constants, share = machine.measure()
    assert constants == FOUND._replace(workers=resources.cores())
    assert share > 0


def test_rates_of_convolutions_are_those_that_explain_the_seconds(monkeypatch):
    found = {
        "grouped_flops_per_second": 4e13,
        "beside_flops_per_second": 3e14,
        "im2col_flops_per_second": 2e14,
        "patch_bytes_per_second": 5e11,
    }

    def seconds(form, pixels, lanes, images, n_in, n_out):
        network = CNN((pixels, pixels, n_in), (n_out,), 10)
        cost = costs.CostModel(**found)
        work = costs.Workload(network.inputs, 10, rows=images, epochs=1)
        shape = shapes.Exact(lanes, network, images, form)
        rest = cost._replace(**dict.fromkeys(found, math.inf))
        return costs.run_seconds(shape, lanes, work, cost) - costs.run_seconds(
            shape, lanes, work, rest
        )

    monkeypatch.setattr(machine, "_gradient_seconds", seconds)
    assert machine.convolution_rates() == found


def test_both_forms_of_an_accelerator_run_where_they_are_measured(monkeypatch):
    monkeypatch.setattr(machine, "_SECONDS", 1e-9)
    monkeypatch.setattr(machine, "_STEPS", 2)
    forms = []

    def spied(x, weight, form):
        forms.append(form)
        return convolution(x, weight, form=form)

    monkeypatch.setattr(machine, "convolution", spied)
    rates = machine.convolution_rates(lanes=2, batch_size=2, pixels=4)
    assert set(rates) < set(costs.CostModel._fields)
    assert len(rates) == 4
    assert all(0 < rate < math.inf for rate in rates.values())
    assert set(forms) == {"grouped", "im2col"}
