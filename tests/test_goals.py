import dataclasses
import functools
import inspect
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
from scipy.special import softmax
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    r2_score,
)
from sklearn.utils.class_weight import compute_sample_weight

from dnc_jax import InputError
from dnc_jax.networks import MLP, network
from dnc_jax.report import folder
from dnc_jax.search import MLPSpace, Objective
from dnc_jax.search.run import search
from dnc_jax.search.strategies import halving
from dnc_jax.search.trials import Store
from dnc_jax.search.winner import retrain
from dnc_jax.training import (
    Hyperparameters,
    checkpoints,
    feed,
    goals,
    population,
    trainer,
)
from dnc_jax.training.data import Dataset, from_arrays
from dnc_jax.training.population import Job
from dnc_jax.training.programs import signature

KEY = jax.random.key(0)


def focal(outputs, labels):
    """Lin et al., "Focal loss for dense object detection" (2017), gamma = 2."""
    nats = goals.cross_entropy(outputs, labels)
    return (1 - jnp.exp(-nats)) ** 2 * nats


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
    np.testing.assert_allclose(
        goals.squared_error(outputs, targets), [[2, 0], [2, 0.5]]
    )
    errors = [[[0, 0], [4, 0]], [[4, 0], [0, 1]]]  # [network, output, row]
    np.testing.assert_allclose(goals.REGRESSION.evidence(outputs, targets), errors)


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
    logits, labels = jnp.array([[0.0, 2.0], [1.0, 0.0]]), jnp.array([1, 1])
    np.testing.assert_array_equal(goals.CLASSIFICATION.evidence(logits, labels), [1, 0])
    expected = -jax.nn.log_softmax(logits)[jnp.arange(2), jnp.array([1, 1])]
    np.testing.assert_allclose(goals.cross_entropy(logits, labels), expected, rtol=1e-6)


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
    assert result.metric == "R²"
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
    goal = curve.goal
    count, spread = validation.count, validation.reference(goal)

    def accuracy(error):
        evidence = np.array(error * count * spread, np.float32)
        sums = trainer.Sums(np.float32(count * error), evidence)
        return trainer.metrics_of([sums], validation, goal).accuracy

    assert accuracy(2e-8) < accuracy(1e-8) < 1


@pytest.fixture(scope="module")
def rare() -> tuple[np.ndarray, np.ndarray]:
    """Rows of three classes that overlap, two of them rare, by names."""
    rng = np.random.default_rng(0)
    y = rng.choice(3, size=1200, p=(0.9, 0.07, 0.03))
    centres = np.array([(0, 0), (1, 1), (-1, 1)])
    x = (centres[y] + 0.8 * rng.normal(size=(len(y), 2))).astype(np.float32)
    return x, np.array(["usual", "odd", "strange"])[y]


def classes(rare, **options) -> Dataset:
    x, y = rare
    return from_arrays((x[:800], y[:800]), (x[800:], y[800:]), name="rare", **options)


BALANCED = {"class_weight": "balanced"}


@pytest.mark.parametrize("limit", [None, 300])
@pytest.mark.parametrize(
    "options", [{}, BALANCED, {"metric": "f1"}, BALANCED | {"metric": "f1"}], ids=str
)
def test_losses_and_metrics_are_scikit_learns(rare, options, limit):
    data = classes(rare, **options)
    architecture = MLP(2, (6,), 3)
    trained = trainer.Trained(network.init(jax.random.key(3), architecture, ()), ())
    # Of all rows, and of some in which one class is absent, of other shares.
    for rows in (
        data.test,
        data.train._replace(x=data.train.x[:9], y=data.train.y[:9]),
    ):
        found = trainer.evaluate(trained, architecture, rows, data.view, limit)
        x = (rows.x - data.mean) * data.scale
        outputs = np.asarray(network.apply(trained.params, architecture, x, ()))
        of_class = compute_sample_weight("balanced", data.train.y)
        weights = np.array([of_class[data.train.y == y][0] for y in rows.y])
        weights = weights if "class_weight" in options else np.ones(len(rows.y))
        probabilities = softmax(outputs.astype(np.float64), axis=1)
        nats = log_loss(rows.y, probabilities, sample_weight=weights, labels=[0, 1, 2])
        assert found.loss == pytest.approx(nats * weights.mean(), rel=1e-5)
        guesses = outputs.argmax(-1)
        accuracy = accuracy_score(rows.y, guesses, sample_weight=weights)
        if "metric" in options:
            accuracy = f1_score(rows.y, guesses, average="macro")
        assert found.accuracy == pytest.approx(accuracy, abs=1e-12)
    assert data.metric == (
        "macro F1"
        if "metric" in options
        else "weighted accuracy"
        if options
        else "accuracy"
    )


def test_balanced_weights_give_the_balanced_accuracy(rare):
    data = classes(rare, **BALANCED)
    goal, rows = data.goal, data.train
    guesses = np.random.default_rng(1).integers(3, size=len(rows.y))
    logits = jax.nn.one_hot(guesses, 3)
    mean = np.asarray(goal.evidence(logits, rows.y)).mean(-1)
    found = goal.accuracy(mean, goal.reference(rows.y))
    assert found == pytest.approx(balanced_accuracy_score(rows.y, guesses))
    # One row less of the most frequent class is the least error that counts.
    frequent = np.flatnonzero(rows.y == np.bincount(rows.y).argmax())[0]
    wrong = jax.nn.one_hot((rows.y[frequent] + 1) % 3, 3)
    logits = jax.nn.one_hot(rows.y, 3).at[frequent].set(wrong)
    mean = np.asarray(goal.evidence(logits, rows.y)).mean(-1)
    error = 1 - goal.accuracy(mean, goal.reference(rows.y))
    assert error == pytest.approx(2 * goal.resolution(len(rows.y)))


def test_weights_are_one_on_average_in_whatever_form_they_come(rare):
    by_label = classes(rare, class_weight={"odd": 5, b"usual": 0.5})  # strange: 1
    digests = {by_label.digest()}
    for same in (
        [5, 1, 0.5],  # odd, strange, usual
        np.array([10, 2, 1]),
        " 10, 2,1 ",
        "odd:10,usual:1,strange:2",
        pandas.Series({"usual": 1.0, "odd": 10.0, "strange": 2.0}),
    ):
        digests.add(classes(rare, class_weight=same).digest())
    assert len(digests) == 1
    assert digests != {classes(rare).digest()}
    y = by_label.train.y
    mean = by_label.view.loss(jnp.zeros((len(y), 3)), y).mean()
    assert mean == pytest.approx(np.log(3), rel=1e-5)


def test_other_weights_need_no_other_program(rare):
    trained = []
    for weights in ((1, 2, 3), (3, 2, 1)):
        data = classes(rare, class_weight=weights)
        programs = population.Programs(data, jax.random.key(1))
        job = Job(MLP(2, (8,), 3), Hyperparameters(1e-2, 0, 64), KEY, 0, 1, 1)
        (one,) = population.train([job], programs)
        trained.append((signature(programs._view), one.val_loss))
    assert trained[0][0] == trained[1][0]
    assert trained[0][1] != trained[1][1]


@pytest.mark.parametrize(
    ("labels", "weights"),
    [
        ([3, 7], {3: 1, 7: 10}),
        ([3, 7], {3.0: 1, np.int64(7): 10}),
        ([0.0, 1.0], {0.0: 1, 1.0: 10}),
        ([False, True], {True: 10}),
        ([b"a", b"b"], {b"b": 10}),
    ],
)
def test_labels_are_told_by_their_value(labels, weights):
    x = np.arange(40, dtype=np.float32)[:, None]
    y = np.array(labels)[np.arange(40) % 2]
    data = from_arrays((x, y), task="classification", class_weight=weights)
    light, heavy = data.class_weights
    assert heavy == pytest.approx(10 * light)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weight": "even"}, "class_weight must be 'balanced', {label: weig"),
        ({"class_weight": (1, 2)}, "of the labels 'odd', 'strange', 'usual' in this"),
        ({"class_weight": {1.0, 2.0, 3.0}}, "in this order, got {1.0, 2.0, 3.0}"),
        ({"class_weight": (1, 2, 0)}, "of label 'usual' must be a finite number > 0"),
        ({"class_weight": {"odd": np.inf}}, "of label 'odd' must be a finite number"),
        ({"class_weight": "odd:2,usual"}, "has 'usual', which is no LABEL:WEIGHT"),
        ({"class_weight": "odd:2,odd:3"}, "has a label twice, got 'odd:2,odd:3'"),
        ({"class_weight": "odd:2,:3"}, "has '', which is no label; the labels are"),
        ({"class_weight": {"od": 1}}, "has 'od', which is no label; the labels are '"),
        ({"metric": "auc"}, "metric must be one of auto, f1, got 'auc'"),
        ({"loss": "huber"}, "loss is for numbers to predict, which this data has not"),
        ({"loss": "hinge"}, "loss must be one of auto, absolute_error, huber"),
    ],
    ids=str,
)
def test_a_goal_that_labels_cannot_have_is_refused(rare, options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        classes(rare, **options)


def test_a_function_is_no_name_of_a_loss():
    with pytest.raises(InputError, match=r"a function of your own is part of a goals"):
        inspect.unwrap(goals.make)(np.zeros(3, int), (0, 1), focal)


@pytest.mark.parametrize("name", ["metric", "class_weight"])
def test_a_goal_of_labels_is_refused_for_numbers(name):
    x = np.linspace(0, 1, 20, dtype=np.float32)
    value = {"metric": "f1", "class_weight": np.ones(2)}[name]
    with pytest.raises(InputError, match=f"{name} is for labels"):
        from_arrays((x, x), (x, x), **{name: value})


@pytest.mark.parametrize("loss", ["absolute_error", "huber"])
def test_outliers_move_robust_losses_less(loss):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (400, 1)).astype(np.float32)
    y = 3 * x[:, 0]
    spoiled = np.where(np.arange(400) % 10 == 0, 40, y).astype(np.float32)
    found = {}
    for name in ("auto", loss):
        data = from_arrays((x, spoiled), (x, y), loss=name)
        trained, history = trainer.train(
            jax.random.key(0), MLP(1, (), 1), Hyperparameters(3e-2, 0, 32), data,
            order_key=jax.random.key(1), epochs=20, keep_last=True,
        )  # fmt: skip
        outputs = network.apply(
            trained.params, MLP(1, (), 1), (x - data.mean) * data.scale, ()
        )
        predicted = np.asarray(outputs) / data.target_scale + data.target_mean
        found[name] = np.abs(predicted[:, 0] - y).mean()
        assert np.isfinite(history.val_loss).all()
    assert found[loss] < 0.5 * found["auto"]


@pytest.mark.parametrize("activation", ["tanh", "gelu"])  # in lanes, and exact
def test_populations_have_the_goal_that_a_network_alone_has(rare, activation):
    data = classes(rare, **BALANCED, metric="f1")
    training = Hyperparameters(1e-2, 1e-4, 64)
    order_key = jax.random.key(1)
    jobs = [
        Job(MLP(2, (n,), 3, activation), training, jax.random.key(n), 0, 2, 2)
        for n in (8, 12)
    ]
    outcomes = population.train(jobs, population.Programs(data, order_key))
    for job, outcome in zip(jobs, outcomes, strict=True):
        _, history = trainer.train(
            job.key, job.architecture, training, data, order_key=order_key, epochs=2
        )
        np.testing.assert_allclose(outcome.val_loss, history.val_loss, atol=1e-5)
        np.testing.assert_allclose(outcome.val_accuracy, history.val_accuracy)


def found_odd(outputs, labels):
    """Of a row of class 0: whether it is found; sums of truth values are counts."""
    guesses = outputs.argmax(-1)
    return (guesses == 0) & (jnp.broadcast_to(labels, guesses.shape) == 0)


def recall(mean, share):
    return mean / share


def share_of_odd(targets):
    return (targets == 0).mean()


OWN = goals.Goal("recall of odd", focal, found_odd, recall, share_of_odd)


def test_a_goal_of_ones_own_decides_a_search_and_its_store(rare, tmp_path):
    data = classes(rare)
    own = data._replace(goal=OWN)
    space = MLPSpace(2, 3, depth=(0, 1), width=(8, 16), batch_sizes=(64,))
    strategy = halving(space, candidates=4, rungs=(2, 4), reduction=2)
    with Store(tmp_path / "trials.sqlite", {}) as store:
        result = search(space, own, strategy=strategy, seed=0, store=store)
    winner = retrain(result, space, own, seed=0, epochs=6)
    guesses = np.asarray(winner.network(own.test.x)).argmax(-1)
    true = own.test.y == 0
    assert winner.test_accuracy == pytest.approx((guesses[true] == 0).mean())
    assert winner.history.val_loss[0] < 0.5 * np.log(3)  # focal losses are small
    assert folder.read(tmp_path).metric == "recall of odd"
    with (
        Store(tmp_path / "trials.sqlite", {}) as store,
        pytest.raises(InputError, match="rows of rare, or their goal, are not those"),
    ):
        search(space, data, strategy=strategy, seed=0, store=store)


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("loss", lambda o, t: goals.cross_entropy(o, t).mean(), "is float32 []; it m"),
        ("loss", goals.CLASSIFICATION.evidence, "is int32 [4]; it must be float32"),
        ("loss", lambda o, t: (focal(o, t),) * 2, "is float32 [4] and float32 [4]"),
        (
            "loss",
            goals.squared_error,
            "for numbers to predict, and the targets are int",
        ),
        ("evidence", lambda o, t: o, "is float32 [4, 3]; it must be [4], or with K"),
        ("evidence", lambda o, t: focal(o, t).sum(), "is float32 []; it must be [4]"),
        ("accuracy", lambda mean, _: mean[..., None], "has shape [1]; it must be []"),
    ],
)
def test_functions_that_return_other_shapes_are_refused(rare, name, function, message):
    data = classes(rare)
    data = data._replace(goal=dataclasses.replace(data.goal, **{name: function}))
    with pytest.raises(InputError, match=re.escape(message)):
        search(MLPSpace(2, 3), data, seed=0)


def test_an_accuracy_that_is_none_is_refused_when_it_is_found(rare):
    data = classes(rare)
    percent = dataclasses.replace(data.goal, accuracy=lambda mean, _: 100 * mean)
    with pytest.raises(InputError, match=r"accuracy is .*; it must be a number"):
        search(MLPSpace(2, 3, depth=(0, 0)), data._replace(goal=percent), seed=0)


def test_a_store_needs_functions_that_have_names(rare, tmp_path):
    data = classes(rare)
    nameless = data._replace(
        goal=dataclasses.replace(OWN, loss=lambda o, t: focal(o, t))
    )
    with (
        Store(tmp_path / "trials.sqlite", {}) as store,
        pytest.raises(InputError, match="define it as a function at the top of a mod"),
    ):
        search(MLPSpace(2, 3), nameless, seed=0, store=store)
    softer, sharper = (
        data._replace(goal=dataclasses.replace(OWN, loss=functools.partial(f, focal)))
        for f in (functools.partial(zip, gamma) for gamma in (1.0, 2.0))
    )
    assert softer.digest() != sharper.digest()


def test_goals_and_data_can_be_pickled(rare):
    data = classes(rare, **BALANCED)
    for one in (data, classes(rare), data._replace(goal=OWN)):
        again = pickle.loads(pickle.dumps(one))
        assert (again.goal, again.digest()) == (one.goal, one.digest())


def test_the_network_kept_is_that_of_the_epoch_that_scores_best(curve):
    """By the loss another than by R², where the two disagree."""
    space = MLPSpace(3, 2, depth=(1, 1), width=(8, 16), learning_rate=(0.05, 0.1))
    data = curve._replace(goal=dataclasses.replace(curve.goal, accuracy=reverse))
    strategy = halving(space, candidates=2, rungs=(1,), reduction=2)
    for performance, best in (("loss", np.argmin), ("error", np.argmax)):
        objective = Objective(performance)
        result = search(space, data, objective, strategy, seed=0)
        winner = retrain(result, space, data, objective, seed=0, epochs=8)
        kept = best(winner.history.val_loss)
        assert winner.best_val_loss == winner.history.val_loss[kept]
        trained = trainer.Trained(winner.network.params)
        again = trainer.evaluate(
            trained, winner.network.architecture, data.validation, data.view
        )
        assert again.loss == pytest.approx(winner.best_val_loss, rel=1e-5)


def reverse(mean, variance):
    """The worse, the better."""
    return np.asarray(-1 / (1 + mean.sum(-1)))
