"""Networks that are not padded: any layers, alone or several of one structure."""

import jax
import numpy as np
import pytest

from dnc_jax.networks import CNN, MLP, Sparsity
from dnc_jax.networks import cnn as networks_cnn
from dnc_jax.networks.convolution import convolution
from dnc_jax.training import costs, data, plan, population, shapes
from tests.alone import ORDER, alone, assert_same, job


@pytest.fixture(scope="module")
def pictures():
    """160 training images of 6 x 6 x 2 with 3 classes."""
    rng = np.random.default_rng(0)

    def split(rows):
        y = rng.integers(0, 3, rows)
        x = rng.integers(0, 200, (rows, 6, 6, 2)) + 20 * y[:, None, None, None]
        return data.Split(x.astype(np.uint8), y)

    return data.from_arrays(split(200), split(60), name="pictures")


def cnn(activation="relu", *, dropout=(0.1, 0.0, 0.3), sparsity=()):
    return CNN(
        (6, 6, 2),
        (4, 4, 8),
        3,
        activation,
        ("", "pool", "stride"),
        (True, False, True),
        dropout,
        shortcuts=2,
        sparsity=sparsity,
    )


HEAD = Sparsity(0.5, family="random")
EVERY_LAYER = {
    "batch norm, dropout, shortcut, relu": cnn(),
    "sigmoid": CNN((6, 6, 2), (4,), 3, "sigmoid", batch_norm=(True,)),
    "sparse convolutions and head": cnn(
        sparsity=(None, Sparsity(0.5), Sparsity(0.5, (1, 4), "random"), HEAD)
    ),
    "sparse mlp": MLP(
        72, (16, 8), 3, "tanh", 0.2, (Sparsity(0.25, (1, 4)), Sparsity(0.5), None)
    ),
}


DROPPING = ("batch norm, dropout, shortcut, relu", "sparse mlp")


# What augments the images does not depend on the layers that follow.
@pytest.mark.parametrize(
    ("kinds", "augment"), [(list(EVERY_LAYER), False), (list(EVERY_LAYER)[:1], True)]
)
def test_a_network_of_any_layers_is_itself_alone_after_ten_adam_steps(
    pictures, kinds, augment
):
    jobs = [
        job(i, ())._replace(architecture=EVERY_LAYER[kind])
        for i, kind in enumerate(kinds)
    ]
    examples = pictures._replace(augment=augment)
    outcomes = population.train(jobs, population.Programs(examples, ORDER))
    for one, outcome in zip(jobs, outcomes, strict=True):
        state, losses = alone(one, examples, 2)
        assert outcome.snapshot.step == state.step == 10
        np.testing.assert_allclose(outcome.val_loss, losses, atol=1e-5)
        assert_same(outcome.snapshot.params, state.params, 1e-5)
        assert_same(outcome.snapshot.nu, state.adam.nu, 1e-5)
        assert_same(outcome.snapshot.statistics, state.statistics, 1e-5)


# The forms of an accelerator compute in bfloat16.
@pytest.mark.parametrize(
    ("form", "tolerance"), [(None, 1e-5), ("grouped", 2e-2), ("im2col", 2e-2)]
)
def test_networks_of_one_structure_run_vmapped_as_they_do_alone(
    pictures, monkeypatch, form, tolerance
):
    monkeypatch.setattr(plan, "FORMS", (form,))
    seen = []

    def spied(x, weight, stride, form):
        seen.append(form)
        return convolution(x, weight, stride, form)

    monkeypatch.setattr(networks_cnn, "convolution", spied)
    programs = population.Programs(pictures, ORDER)
    programs.workload = lambda epochs: costs.Workload(
        72, 3, 160, epochs, accelerator=True
    )
    rates = [(0.1, 0.0, 0.3), (0.2, 0.0, 0.5), (0.4, 0.0, 0.1)]
    jobs = [
        job(i, (), learning_rate=1e-3 * (i + 1))._replace(
            architecture=cnn(dropout=dropout)
        )
        for i, dropout in enumerate(rates)
    ]
    outcomes = population.train(jobs, programs)
    (shape,) = programs.shapes
    assert (type(shape), shape.lanes, shape.form) == (shapes.Exact, 4, form)
    # Validation never lays out patches: it takes the device's own form.
    assert set(seen) == {form, None}
    for one, outcome in zip(jobs, outcomes, strict=True):
        state, losses = alone(one, pictures, 2)
        np.testing.assert_allclose(outcome.val_loss, losses, atol=tolerance)
        assert_same(outcome.snapshot.params, state.params, tolerance)


def test_a_sparse_cnn_goes_on_after_a_rung_with_its_patterns(pictures):
    architecture = EVERY_LAYER["sparse convolutions and head"]
    one = job(3, (), stop=4)._replace(architecture=architecture)
    (whole,) = population.train([one], population.Programs(pictures, ORDER))
    (first,) = population.train(
        [one._replace(stop=2)], population.Programs(pictures, ORDER)
    )
    (second,) = population.train(
        [one._replace(start=2, snapshot=first.snapshot)],
        population.Programs(pictures, ORDER),
    )
    assert whole.val_loss == first.val_loss + second.val_loss


def test_no_value_of_a_rate_needs_a_program_of_its_own(pictures):
    programs = population.Programs(pictures, ORDER)
    rates = [(0.1, 0.0, 0.3), (0.2, 0.0, 0.5)]
    jobs = [
        job(i, (), stop=1, learning_rate=10 ** -(i + 2), weight_decay=i * 1e-4)
        for i in range(2)
    ]
    jobs = [
        one._replace(architecture=cnn(dropout=rate))
        for one, rate in zip(jobs, rates, strict=True)
    ]
    population.train(jobs, programs)
    assert len(programs.shapes) == 1


def test_a_network_whose_patches_exceed_the_memory_is_trained_without(
    pictures, monkeypatch
):
    monkeypatch.setattr(plan, "FORMS", ("im2col",))
    programs = population.Programs(pictures, ORDER)
    programs.workload = lambda epochs: costs.Workload(
        72, 3, 160, epochs, accelerator=True
    )
    get, asked = programs.get, []

    def crowded(shape, packed):
        asked.append((shape.lanes, shape.form))
        if shape.form == "im2col":
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return get(shape, packed)

    monkeypatch.setattr(programs, "get", crowded)
    one = job(0, (), stop=1)._replace(architecture=CNN((6, 6, 2), (4,), 3))
    (outcome,) = population.train([one], programs)
    assert asked == [(1, "im2col"), (1, "grouped")]
    assert len(outcome.val_loss) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("jax_enable_x64", True), ("jax_numpy_dtype_promotion", "strict")],
)
def test_a_setting_of_jax_does_not_change_what_is_trained(pictures, name, value):
    jobs = [
        job(i, ())._replace(architecture=one)
        for i, one in enumerate(map(EVERY_LAYER.get, DROPPING))
    ]
    jobs.append(job(9, (5,))._replace(architecture=MLP(72, (5,), 3)))
    before = population.train(jobs, population.Programs(pictures, ORDER))
    usual = getattr(jax.config, name)
    jax.config.update(name, value)  # in all threads
    try:
        after = population.train(jobs, population.Programs(pictures, ORDER))
    finally:
        jax.config.update(name, usual)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one.val_loss, other.val_loss, rtol=1e-5)
        kinds = {leaf.dtype for leaf in jax.tree.leaves(other.snapshot.params)}
        assert kinds == {np.dtype("float32")}
