import json

import pytest

from dnc_jax.training import costs, machine, programs

FOUND = costs.CostModel(0.9, 5e-5, 3e11, 4e10, 2e10, 4e6)


@pytest.fixture
def measured(monkeypatch):
    """How often the machine was measured."""
    calls = []
    monkeypatch.setattr(machine, "measure", lambda: calls.append(1) or (FOUND, 0.9))
    return calls


def test_the_machine_is_measured_once_and_the_constants_are_kept(measured, tmp_path):
    folder = tmp_path / "cache"
    assert machine.cost_model(folder) == machine.cost_model(folder) == FOUND
    assert len(measured) == 1


def test_a_busy_machine_is_measured_another_time(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "measure", lambda: (FOUND, 0.3))
    assert machine.cost_model(tmp_path) == costs.CostModel()
    assert not machine.path(tmp_path).exists()


def test_without_a_folder_the_defaults_are_used_and_nothing_is_measured(measured):
    assert machine.cost_model(None) == costs.CostModel()
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
    assert constants == FOUND._replace(workers=programs.workers())
    assert share > 0
