import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import r2_score

from dnc_jax import InputError
from dnc_jax.networks import MLP, network
from dnc_jax.search import MLPSpace, Objective
from dnc_jax.search.run import search
from dnc_jax.search.strategies import halving
from dnc_jax.search.winner import retrain
from dnc_jax.training import (
    Hyperparameters,
    checkpoints,
    feed,
    losses,
    population,
    trainer,
)
from dnc_jax.training.data import Dataset, from_arrays
from dnc_jax.training.population import Job


@pytest.fixture(scope="module")
def curve() -> Dataset:
    """Two numbers far from 0 and from unit size, to be found from three features."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (400, 3)).astype(np.float32)
    y = np.stack([100 + 30 * x[:, 0] * x[:, 1], np.sin(3 * x[:, 2]) / 50], axis=1)
    return from_arrays((x[:300], y[:300]), (x[300:], y[300:]), name="curve")


def test_a_squared_error_is_a_mean_over_outputs():
    outputs = jnp.array([[[1.0, 2.0], [0.0, 0.0]], [[3.0, 0.0], [0.0, 1.0]]])
    targets = jnp.array([[1.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(losses.loss(outputs, targets), [[2, 0], [2, 0.5]])
    errors = [[[0, 0], [4, 0]], [[4, 0], [0, 1]]]  # [network, output, row]
    np.testing.assert_allclose(losses.evidence(outputs, targets), errors)


@pytest.mark.parametrize("resident_bytes", [0, 200])
def test_r2_is_scikit_learns_over_the_rows_at_hand(curve, resident_bytes):
    # Rows that vary less than those of training, and from them one that does not vary.
    few = curve.test._replace(x=curve.test.x[:50] / 4, y=curve.test.y[:50] / [3, 40])
    few = few._replace(y=few.y.astype(np.float32))
    architecture = MLP(3, (5,), 2)
    trained = trainer.Trained(network.init(jax.random.key(0), architecture, ()), ())
    limit = resident_bytes or None
    found = trainer.evaluate(trained, architecture, few, curve.view, limit)
    x = (few.x - curve.mean) * curve.scale
    outputs = np.asarray(network.apply(trained.params, architecture, x, ()))
    assert found.accuracy == pytest.approx(r2_score(few.y, outputs), rel=1e-4)
    assert found.accuracy < -10
    one = few._replace(x=few.x[:1], y=few.y[:1])
    found = trainer.evaluate(trained, architecture, one, curve.view)
    assert found.accuracy == pytest.approx(1 - found.loss, rel=1e-5)


def test_labels_are_right_or_wrong():
    logits = jnp.array([[0.0, 2.0], [1.0, 0.0]])
    np.testing.assert_array_equal(losses.evidence(logits, jnp.array([1, 1])), [1, 0])
    expected = -jax.nn.log_softmax(logits)[jnp.arange(2), jnp.array([1, 1])]
    np.testing.assert_allclose(
        losses.loss(logits, jnp.array([1, 1])), expected, rtol=1e-6
    )


def test_lanes_learn_numbers_as_a_network_alone_does(curve):
    training = Hyperparameters(1e-2, 1e-4, 24)
    order_key = jax.random.key(1)
    jobs = [
        Job(MLP(3, hidden, 2, "tanh"), training, jax.random.key(i), 0, 2, 2)
        for i, hidden in enumerate([(9,), (12,)])
    ]
    outcomes = population.train(jobs, population.Programs(curve, order_key))
    for job, outcome in zip(jobs, outcomes, strict=True):
        _, history = trainer.train(
            job.key, job.architecture, training, curve, order_key=order_key, epochs=2
        )
        np.testing.assert_allclose(outcome.val_loss, history.val_loss, atol=1e-5)
        np.testing.assert_allclose(
            outcome.val_accuracy, history.val_accuracy, atol=1e-5
        )


def test_a_search_for_a_regressor_ends_with_predictions_in_the_datas_units(
    curve, tmp_path
):
    space = MLPSpace(
        3, 2, depth=(1, 2), width=(16, 32), activations=("tanh",), dropout=(0.0, 0.0),
        learning_rate=(3e-3, 3e-2), batch_sizes=(16,),
    )  # fmt: skip
    objective = Objective("mse", w_c=0.01)
    strategy = halving(space, candidates=4, rungs=(5, 20), reduction=2)
    result = search(space, curve, objective, strategy, seed=0)
    winner = retrain(result, space, curve, objective, seed=0, epochs=60)
    checkpoints.save(tmp_path / "best", winner.network)
    best = checkpoints.load(tmp_path / "best")
    true = np.asarray(curve.test.y) / curve.target_scale + curve.target_mean
    predicted = np.asarray(best(curve.test.x))
    assert r2_score(true, predicted) > 0.9
    assert winner.test_accuracy == pytest.approx(r2_score(true, predicted), abs=1e-4)
    f_p = 10 * min(winner.history.val_loss)
    assert 10**winner.score > f_p


def test_an_objective_for_numbers_is_refused_for_labels(small):
    space = MLPSpace(6, 4)
    with pytest.raises(InputError, match="'mse' is for regression"):
        search(space, small, Objective("mse"), halving(space), seed=0)


def test_good_predictions_are_told_apart_from_better_ones(curve):
    validation = feed.Feed(curve.validation, 1e9)
    count, spread = validation.count, validation.target_variance

    def accuracy(error):
        evidence = np.array(error * count * spread, np.float32)
        sums = trainer.Sums(np.float32(count * error), evidence)
        return trainer.metrics_of([sums], validation).accuracy

    assert accuracy(2e-8) < accuracy(1e-8) < 1
