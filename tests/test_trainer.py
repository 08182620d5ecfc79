import math

import jax
import numpy as np
import pytest

from dnc_jax import InputError
from dnc_jax.networks import MLP, Sparsity, mlp
from dnc_jax.networks.network import patterns as draw_patterns
from dnc_jax.training import Hyperparameters, data, timing, trainer
from dnc_jax.training.hyperparameters import rate_factor


def test_training_learns_and_keeps_its_best_epoch(small):
    architecture = MLP(6, (16,), 4, dropout=0.1)
    told = []
    trained, history = trainer.train(
        jax.random.key(0),
        architecture,
        Hyperparameters(1e-2, 0.0, 32),
        small,
        order_key=jax.random.key(1),
        epochs=15,
        on_epoch=lambda epoch, accuracy: told.append((epoch, accuracy)),
    )
    assert history.train_loss[-1] < 0.5 * history.train_loss[0]
    assert told == list(enumerate(history.val_accuracy, 1))
    kept = trainer.evaluate(trained, architecture, small.validation, small.view)
    assert float(kept.accuracy) == max(history.val_accuracy) > 0.8


def test_one_step_of_adam_is_the_textbook_one(small):
    architecture = MLP(6, (), 4)
    rows = len(small.train.y)
    state = trainer.init(jax.random.key(0), architecture)
    before = jax.tree.map(np.array, state.params)
    decay, rate = 0.01, 0.05

    def loss(params):
        x = (small.train.x - small.mean) * small.scale
        logits = mlp.apply(params, architecture, x)
        picked = jax.nn.log_softmax(logits)[np.arange(rows), small.train.y]
        return -picked.mean()

    gradient = jax.tree.map(
        lambda g, p: np.asarray(g) + decay * p, jax.grad(loss)(before), before
    )
    state, _ = trainer.train_epoch(
        state,
        architecture,
        rows,
        trainer.Settings(np.float32(rate), np.float32(decay), np.uint32(0)),
        np.arange(rows, dtype=np.int32),
        small.train,
        small.view,
    )
    # In Adam's first step both corrected moments are the gradient's own.
    expected = jax.tree.map(
        lambda p, g: p - rate * g / (np.abs(g) + 1e-8), before, gradient
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), state.params, expected
    )


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_rate(small):
    with pytest.raises(FloatingPointError, match=r"smaller learning rate than 1e\+30"):
        trainer.train(
            jax.random.key(0),
            MLP(6, (16,), 4),
            Hyperparameters(1e30, 0.0, 32),
            small,
            order_key=jax.random.key(1),
            epochs=3,
        )


@pytest.mark.parametrize("count", [1, 7, 999, 1000, 1001, 2500])
def test_evaluation_visits_every_row_once(count):
    rows = trainer.evaluation_rows(count)
    assert rows.shape[1] <= 1000
    np.testing.assert_array_equal(rows.ravel()[:count], np.arange(count))
    assert (rows.ravel()[count:] >= count).all()


def test_evaluation_is_the_mean_over_rows_whatever_the_chunks(small, monkeypatch):
    architecture = MLP(6, (5,), 4)
    trained = trainer.Trained(mlp.init(jax.random.key(0), architecture))
    arguments = (trained, architecture, small.validation, small.view)
    whole = trainer.evaluate(*arguments)
    monkeypatch.setattr(trainer.feed, "EVALUATION_BATCH", 7)
    jax.clear_caches()
    chunked = trainer.evaluate(*arguments)
    np.testing.assert_allclose(whole, chunked, rtol=1e-6)


def test_the_learning_rate_drops_at_half_and_three_quarters():
    factors = [round(rate_factor(epoch, 8), 6) for epoch in range(8)]
    assert factors == [1, 1, 1, 1, 0.2, 0.2, 0.04, 0.04]


@pytest.mark.parametrize(
    "fields",
    [
        {"learning_rate": 0.0},
        {"weight_decay": -1e-4},
        {"batch_size": 0},
    ],
)
def test_impossible_hyperparameters_are_refused_by_name(fields):
    with pytest.raises(InputError, match=next(iter(fields))):
        Hyperparameters(**fields)


@pytest.mark.parametrize("network", [MLP(5, (8,), 4), MLP(6, (8,), 1)])
def test_a_network_of_other_data_is_not_trained(small, network):
    key = jax.random.key(0)
    with pytest.raises(InputError, match=r"inputs and \d outputs, the data has 6 and"):
        trainer.train(key, network, Hyperparameters(), small, order_key=key, epochs=1)


def test_a_step_may_take_a_single_example():
    assert Hyperparameters(batch_size=1).batch_size == 1


def test_a_sparse_network_is_trained_by_the_ordinary_trainer(small):
    network = MLP(6, (24,), 4, sparsity=(Sparsity(0.5, (1, 4), "balanced"), None))
    patterns = draw_patterns(jax.random.key(0), network)
    trained, history = trainer.train(
        jax.random.key(1),
        network,
        Hyperparameters(1e-2, 0.0, 32),
        small,
        order_key=jax.random.key(2),
        epochs=15,
        patterns=patterns,
    )
    assert max(history.val_accuracy) > 0.8
    assert history.train_loss[-1] < 0.5 * history.train_loss[0]
    assert min(history.seconds) > 0
    assert trained.params[0]["weight"].shape == (18, 1, 4)


def test_parameters_and_optimiser_state_hold_only_edges():
    network = MLP(200, (100,), 10, sparsity=(Sparsity(0.1), Sparsity(0.5)))
    patterns = draw_patterns(jax.random.key(0), network)
    state = trainer.init(jax.random.key(1), network, patterns)
    numbers = 2000 + 100 + 500 + 10
    # Parameters and both moments of Adam; two counters of 4 bytes.
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(state)) == 3 * 4 * numbers + 8


def test_training_without_the_patterns_is_refused(small):
    network = MLP(6, (24,), 4, sparsity=(Sparsity(0.5), None))
    with pytest.raises(InputError, match=r"draw them by network\.patterns"):
        trainer.train(
            jax.random.key(1),
            network,
            Hyperparameters(),
            small,
            order_key=jax.random.key(2),
            epochs=1,
            patterns=(),
        )


def test_the_seconds_of_an_epoch_are_for_all_its_steps(small, monkeypatch):
    """A clock that advances by the steps trained replaces the machine's."""
    training = Hyperparameters(batch_size=2)  # 80 steps: twice what is timed
    steps = []
    original = trainer.train_epoch

    def counted(state, architecture, batch_size, *rest):
        result = original(state, architecture, batch_size, *rest)
        steps.append(len(rest[1]) // batch_size)
        return result

    counted.clear_cache = original.clear_cache
    monkeypatch.setattr(trainer, "train_epoch", counted)
    monkeypatch.setattr(trainer.time, "perf_counter", lambda: float(sum(steps)))
    cost = timing.epoch_cost(jax.random.key(0), MLP(6, (5,), 4), training, small)
    assert steps == [40] * 6
    assert cost == (len(small.train.y) // 2, None)
    # Three joules a step, counted from the end of the epoch that compiles.
    cost = timing.epoch_cost(
        jax.random.key(0), MLP(6, (5,), 4), training, small, lambda: 3.0 * sum(steps)
    )
    assert cost.joules == 3 * (len(small.train.y) // 2)


def test_a_regression_worse_than_the_mean_still_keeps_its_best_epoch():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)).astype(np.float32)
    y = x.sum(1)
    rows = data.from_arrays((x, y), (x, y), name="line")
    far = rows.validation.y.copy()
    far[:] = -50.0 * np.sign(far) - 500  # R² is below -1 whatever is learned
    rows = rows._replace(validation=data.Split(rows.validation.x, far))
    trained, history = trainer.train(
        jax.random.key(0),
        MLP(3, (4,), 1),
        Hyperparameters(1e-2, 0.0, 16),
        rows,
        order_key=jax.random.key(1),
        epochs=2,
    )
    assert max(history.val_accuracy) < -1
    result = trainer.evaluate(trained, MLP(3, (4,), 1), rows.validation, rows.view)
    assert float(result.accuracy) == max(history.val_accuracy)


def test_a_network_that_would_diverge_can_be_timed(small):
    cost = timing.epoch_cost(
        jax.random.key(0), MLP(6, (4,), 4), Hyperparameters(1e30, 0.0, 32), small
    )
    assert cost.seconds > 0


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0])
def test_a_rate_that_is_no_positive_number_is_refused(value):
    with pytest.raises(InputError, match="learning_rate must be finite and > 0, got"):
        Hyperparameters(learning_rate=value)
    if value:
        with pytest.raises(InputError, match="weight_decay must be a finite number"):
            Hyperparameters(weight_decay=value)
