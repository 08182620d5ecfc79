"""The estimators as scikit-learn and its users see them."""

import numpy as np
import pandas
import pytest
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from sklearn.utils.estimator_checks import estimator_checks_generator

import dnc_jax
from dnc_jax import DncClassifier, DncRegressor, InputError, estimators
from dnc_jax.search.budget import Budget

TINY = {
    "candidates": 2,
    "rungs": (1,),
    "epochs": 30,
    "depth": (0, 0),
    "learning_rate": (0.05, 0.1),
    "random_state": 0,
}
# Those of scikit-learn's checks that fit often, on ever new shapes to compile for. They
# pass as well: sklearn.utils.estimator_checks.check_estimator(DncClassifier(**TINY)).
SLOW = {
    "check_classifier_data_not_an_array",
    "check_class_weight_classifiers",
    "check_classifiers_classes",
    "check_classifiers_train",
    "check_dict_unchanged",
    "check_dont_overwrite_parameters",
    "check_dtype_object",
    "check_estimators_dtypes",
    "check_estimators_fit_returns_self",
    "check_estimators_nan_inf",
    "check_estimators_overwrite_params",
    "check_estimators_pickle",
    "check_f_contiguous_array_estimator",
    "check_fit2d_1feature",
    "check_fit2d_predict1d",
    "check_fit_check_is_fitted",
    "check_fit_idempotent",
    "check_fit_score_takes_y",
    "check_methods_sample_order_invariance",
    "check_n_features_in",
    "check_n_features_in_after_fitting",
    "check_pipeline_consistency",
    "check_positive_only_tag_during_fit",
    "check_readonly_memmap_input",
    "check_regressor_data_not_an_array",
    "check_regressor_multioutput",
    "check_regressors_int",
    "check_regressors_no_decision_function",
    "check_regressors_train",
    "check_supervised_y_2d",
}


# The one needs an environment variable before SciPy is imported. The other gives
# __init__ values of wrong types, which only the type checks of this suite refuse.
INAPPLICABLE = {
    "check_array_api_input",
    "check_do_not_raise_errors_in_init_or_set_params",
}
CHECKS = [
    (estimator, check)
    for make in (DncClassifier, DncRegressor)
    for estimator, check in estimator_checks_generator(make(**TINY))
    if check.func.__name__ not in SLOW | INAPPLICABLE
]


@pytest.mark.parametrize(
    ("estimator", "check"),
    CHECKS,
    ids=[f"{type(one).__name__}-{check.func.__name__}" for one, check in CHECKS],
)
def test_an_estimator_keeps_to_the_rules_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def irises():
    x, y = load_iris(return_X_y=True)
    return x, load_iris().target_names[y]


@pytest.fixture(scope="module")
def classifier(irises):
    return DncClassifier(**TINY).fit(*irises)


def test_classes_may_have_names_and_their_probabilities_add_up(classifier, irises):
    x, names = irises
    assert list(classifier.classes_) == ["setosa", "versicolor", "virginica"]
    probabilities = classifier.predict_proba(x)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
    assert (classifier.classes_[probabilities.argmax(1)] == classifier.predict(x)).all()
    assert classifier.score(x, names) > 0.9
    assert classifier.n_features_in_ == 4


def test_a_rows_output_does_not_depend_on_the_others(classifier, irises):
    x, _ = irises
    many = np.tile(x, (2, 1))
    alone = np.concatenate([classifier.predict_proba(row[None]) for row in x[:3]])
    assert (classifier.predict_proba(many)[:3] == alone).all()


def test_the_seed_decides_the_network(classifier, irises, capsys):
    again = DncClassifier(**TINY, verbose=True).fit(*irises)
    assert "rung 0: " in capsys.readouterr().out
    x, _ = irises
    assert (again.predict_proba(x) == classifier.predict_proba(x)).all()


def test_the_weight_of_complexity_makes_networks_smaller(irises):
    wide = TINY | {"depth": (0, 1), "width": (100, 100), "candidates": 6}
    model = DncClassifier(**wide, w_c=10.0).fit(*irises)
    assert model.network_.architecture.hidden == ()
    hidden = {t.candidate.architecture.hidden for t in model.result_.trials}
    assert hidden == {(), (100,)}


def test_the_search_is_told_its_seconds_and_its_activations(irises, monkeypatch):
    budgets = []

    def search(*arguments, budget, **more):
        budgets.append(budget)
        return dnc_jax.search(*arguments, budget=budget, **more)

    monkeypatch.setattr(estimators, "search", search)
    asked = TINY | {"depth": (1, 1), "activations": ["tanh"], "budget_seconds": 600.0}
    model = DncClassifier(**asked).fit(*irises)
    assert budgets == [Budget(seconds=600.0)]
    assert model.network_.architecture.activation == "tanh"


def test_a_regressor_predicts_in_the_units_of_its_targets_in_a_pipeline():
    x = np.linspace(-1, 1, 200)[:, None]
    y = np.stack([1000 + 50 * x[:, 0] ** 2, 2 * x[:, 0]], 1)
    many = make_pipeline(PolynomialFeatures(2), DncRegressor(**TINY))
    assert many.fit(x, y).score(x, y) > 0.9
    assert many.predict(x).shape == (200, 2)


def test_targets_far_from_zero_are_predicted_as_exactly():
    x = np.linspace(-1, 1, 200)[:, None]
    near, far = (
        DncRegressor(**TINY).fit(x, x[:, 0] + offset).predict(x) - offset
        for offset in (0.0, 1e9)
    )
    np.testing.assert_allclose(far, near, atol=1e-3)


def test_the_network_of_an_estimator_knows_its_classes_and_columns(classifier):
    assert classifier.network_.labels == tuple(classifier.classes_)
    assert classifier.network_.columns == ()
    frame = pandas.DataFrame({"age": np.arange(40.0), "size": np.arange(40) % 7})
    fitted = DncRegressor(**TINY).fit(frame, frame["age"] / 3)
    assert fitted.network_.columns == ("age", "size")
    assert fitted.network_.predict(frame) == pytest.approx(fitted.predict(frame))


def test_an_impossible_parameter_is_named(irises):
    with pytest.raises(InputError, match=r"^candidates must be a whole number >= 1"):
        DncClassifier(**TINY | {"candidates": 0}).fit(*irises)
    with pytest.raises(InputError, match=r"^seconds must be .* got -1"):
        DncClassifier(**TINY, budget_seconds=-1).fit(*irises)
    with pytest.raises(InputError, match=r"^activations must be one of .*'sine'"):
        DncClassifier(**TINY, activations=("sine",)).fit(*irises)
    with pytest.raises(NotFittedError):
        DncClassifier().predict(irises[0])
