"""The process against its textbook formulas; Deep-n-Cheap's kernel by hand."""

import math

import numpy as np
import pytest
from scipy import integrate, optimize, stats
from sklearn.gaussian_process.kernels import Matern

from dnc_jax.networks import CNN, MLP
from dnc_jax.search import (
    Candidate,
    Choice,
    CNNSpace,
    CustomSpace,
    Integer,
    MLPSpace,
    Real,
    similarity,
)
from dnc_jax.search import gaussian_process as gp
from dnc_jax.search.stages import stages
from dnc_jax.search.strategies import model
from dnc_jax.training import Hyperparameters

RNG = np.random.default_rng(0)
POINTS, OTHERS = RNG.random((12, 3)), RNG.random((7, 3))
VALUES = np.sin(6 * POINTS[:, 0]) + POINTS[:, 1]
KERNEL = gp.Kernel(np.array([True, True, False]), np.array([0.3, 0.8, 2.0]), 1.5, 1e-3)


# The process


def test_the_posterior_is_the_textbooks():
    covariance = KERNEL(POINTS, POINTS)
    known = gp.posterior(covariance, VALUES, KERNEL.noise)
    cross = KERNEL(POINTS, OTHERS)
    mean, deviation = gp.moments(known, gp.half(known, cross), KERNEL.amplitude)
    inverse = np.linalg.inv(covariance + KERNEL.noise * np.eye(12))
    centre = VALUES.mean()
    np.testing.assert_allclose(
        mean, centre + cross.T @ inverse @ (VALUES - centre), atol=1e-9
    )
    variance = KERNEL.amplitude - np.diag(cross.T @ inverse @ cross)
    np.testing.assert_allclose(deviation**2, variance, atol=1e-9)


def test_similarities_that_are_no_covariance_get_the_noise_that_makes_them_one():
    similar = np.array([[1, 0.9, 0], [0.9, 1, 0.9], [0, 0.9, 1]])
    known = gp.posterior(similar, np.array([1.0, 2.0, 4.0]), 1e-4)
    lift = 0.9 * np.sqrt(2) - 1
    expected = similar + (lift + 1e-4) * np.eye(3)
    np.testing.assert_allclose(known.factor @ known.factor.T, expected, atol=1e-6)


def test_an_observation_more_is_as_if_it_had_been_there_from_the_start():
    points, values = POINTS - 0.0, VALUES - VALUES.mean()
    whole = gp.posterior(KERNEL(points, points), values, KERNEL.noise)
    part = gp.posterior(KERNEL(points[:-1], points[:-1]), values[:-1], KERNEL.noise)
    column = gp.half(part, KERNEL(points[:-1], points[-1:]))[:, 0]
    prior = KERNEL.amplitude + KERNEL.noise
    grown = gp.observed(part, column, prior, float(values[-1]))
    np.testing.assert_allclose(grown.factor, whole.factor, atol=1e-9)
    again = grown.factor @ grown.weights
    np.testing.assert_allclose(again, values - part.mean, atol=1e-9)


@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_the_expected_improvement_is_the_integral_that_it_stands_for(margin):
    for mean, deviation in ((0.5, 0.2), (-1.0, 1.0), (2.0, 0.7)):
        density = stats.norm(mean, deviation).pdf
        exact, _ = integrate.quad(
            lambda y, density=density: (1.0 - margin - y) * density(y),
            -20,
            1.0 - margin,
        )
        found = gp.expected_improvement(
            np.array([mean]), np.array([deviation]), 1.0, margin
        )
        assert found[0] == pytest.approx(exact, rel=1e-6, abs=1e-9)


def test_without_uncertainty_the_improvement_is_what_it_is():
    mean, none = np.array([0.5, 2.0]), np.zeros(2)
    assert gp.expected_improvement(mean, none, 1.0).tolist() == [0.5, 0.0]


def test_the_logarithm_of_the_improvement_is_exact_and_falls_where_that_is_zero():
    mean, deviation = np.linspace(-40, 30, 200), np.ones(200)
    log = gp.log_expected_improvement(mean, deviation, 0.0)
    plain = gp.expected_improvement(mean, deviation, 0.0)
    near = plain > 1e-100
    np.testing.assert_allclose(log[near], np.log(plain[near]), rtol=1e-6, atol=1e-9)
    assert (np.diff(log) < 0).all()
    far = gp.log_expected_improvement(np.array([999.0, 1001.0]), np.ones(2), 0.0)
    z = np.array([999.0, 1001.0])
    limit = -0.5 * z**2 - 2 * np.log(z) - 0.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(far, limit, rtol=1e-6)


def test_the_gradient_of_the_fit_leads_to_the_lengths_that_the_values_have():
    points = np.random.default_rng(1).random((60, 3))
    values = np.sin(7 * points[:, 0])
    values = (values - values.mean()) / values.std()
    kernel = gp.fit(points, values, np.ones(3, bool))
    assert kernel.lengths[0] < 0.3 * min(kernel.lengths[1:])
    assert kernel.noise < 0.05
    assert gp.fit(points, values, np.ones(3, bool)).lengths.tolist() == (
        kernel.lengths.tolist()
    )


def test_the_kernel_is_the_libraries_where_all_dimensions_are_numbers():
    ordered, lengths = np.ones(3, bool), np.array([0.3, 0.8, 2.0])
    ours = gp.Kernel(ordered, lengths, 1.5, 1e-3)(POINTS, OTHERS)
    theirs = 1.5 * Matern(lengths, nu=2.5)(POINTS, OTHERS)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    # Of other dimensions it matters whether two values differ, not by how much.
    mixed = gp.Kernel(np.array([True, True, False]), lengths, 1.5, 1e-3)
    apart = np.where([[True]], 1.0, 0.0)
    far, near = POINTS[:1] * [1, 1, 0], POINTS[:1] * [1, 1, 0] + [0, 0, 0.5]
    one = 1.5 * Matern(2.0, nu=2.5)(0 * apart, apart)
    np.testing.assert_allclose(mixed(far, near), one, rtol=1e-12)


def test_what_a_fit_minimises_is_the_density_and_the_gradient_is_its_own():
    ordered = np.array([True, True, False])
    points = np.round(POINTS, 1)
    apart = gp._apart(points, points, ordered)
    centre, spread = gp._prior(3)
    assert centre == pytest.approx([math.sqrt(2) + 0.5 * math.log(3)] * 3 + [0, -6])
    assert spread == pytest.approx([math.sqrt(3)] * 3 + [1, 1.5])

    def density(logs):
        kernel = gp.Kernel(ordered, np.exp(logs[:3]), np.exp(logs[3]), 0.0)
        covariance = kernel(points, points) + (np.exp(logs[4]) + 1e-8) * np.eye(12)
        normal = stats.multivariate_normal(np.zeros(12), covariance)
        return normal.logpdf(VALUES) + stats.norm(centre, spread).logpdf(logs).sum()

    some = [centre, centre - 0.7, np.array([-1.0, 0.5, 0.2, 0.3, -3.0])]
    losses = [gp._surprise(logs, apart, VALUES)[0] for logs in some]
    told = [-density(logs) for logs in some]
    np.testing.assert_allclose(np.diff(losses), np.diff(told), rtol=1e-6)
    for logs in some:
        wrong = optimize.check_grad(
            lambda at: gp._surprise(at, apart, VALUES)[0],
            lambda at: gp._surprise(at, apart, VALUES)[1],
            logs,
        )
        assert wrong < 1e-3 * (1 + np.abs(gp._surprise(logs, apart, VALUES)[1]).max())


def test_the_likeliest_scale_grows_with_the_roughness():
    x = np.linspace(0, 1, 20)

    def kernel(scale):
        return similarity.of_numbers(x[:, None], x, 0, 1, 1, scale)

    smooth, rough = (
        gp.likeliest(kernel, np.sin(rate * x), 1e-4) for rate in (3.0, 20.0)
    )
    assert 0.3 <= smooth < rough <= 30


def test_the_likeliest_scale_is_that_of_the_greatest_density_in_any_unit():
    x = np.linspace(0, 1, 12)
    values = np.sin(9 * x)
    whitened = (values - values.mean()) / values.std()

    def kernel(scale):
        return similarity.of_numbers(x[:, None], x, 0, 1, 1, scale)

    def density(scale):
        covariance = kernel(scale) + 1e-2 * np.eye(12)
        return stats.multivariate_normal(np.zeros(12), covariance).logpdf(whitened)

    most = max(density(scale) for scale in np.geomspace(0.3, 30, 60))
    for unit in (0.1, 30.0):
        assert density(gp.likeliest(kernel, unit * values, 1e-2)) >= most


def test_a_variance_below_0_by_rounding_is_none():
    known = gp.posterior(np.ones((1, 1)), np.zeros(1), 0.0)
    _, deviation = gp.moments(known, np.array([[1.0 + 1e-6]]), 1.0)
    assert deviation.tolist() == [0.0]


def test_a_fit_tells_values_with_noise_from_those_without():
    rng = np.random.default_rng(1)
    points = rng.random((60, 2))
    exact = np.sin(7 * points[:, 0])
    noises = []
    for values in (exact, exact + rng.normal(0, 0.5, 60)):
        levelled = (values - values.mean()) / values.std()
        noises.append(gp.fit(points, levelled, np.ones(2, bool)).noise)
    assert noises[0] < 1e-4
    assert 0.1 < noises[1] < 0.7


def test_bad_scores_are_pressed_together_and_good_ones_are_not():
    levelled = model.levelled(np.array([-2.0, -1.0, 0.0, 1.0, 100.0, math.inf]))
    assert levelled.mean() == pytest.approx(0)
    assert levelled.std() == pytest.approx(1)
    assert levelled[4] == levelled[5]
    steps = np.diff(levelled)
    assert steps[0] == pytest.approx(steps[1])
    assert steps[3] < 10 * steps[0]
    assert model.levelled(np.array([3.0, 3.0])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("graded", [False, True])
def test_what_is_believed_of_a_point_is_as_if_it_had_been_observed(graded):
    # The lower ones of the values were reached with half of the training.
    low = np.median(VALUES) > VALUES
    spent = np.where(low & graded, 0.5, 1.0)
    process = model._Process(POINTS, VALUES, np.ones(3, bool), spent, graded)
    process.look(np.concatenate([OTHERS, POINTS[[VALUES.argmin()]]]))
    assert process._best == min(VALUES[~low] if graded else VALUES)
    kernel, known = process._kernel, process._posterior
    mean, _ = gp.moments(known, process._half, kernel.amplitude)
    process.believe(7)
    full, seen = np.ones((8, 1)), spent[:, None]
    looked = np.hstack([process.points, full]) if graded else process.points
    points = np.hstack([POINTS, seen]) if graded else POINTS
    told = np.concatenate([points, looked[7:]])
    whole = gp.posterior(kernel(told, told), np.append(VALUES, mean[7]), kernel.noise)
    np.testing.assert_allclose(process._posterior.factor, whole.factor, atol=1e-8)
    half = gp.half(whole, kernel(told, looked))
    np.testing.assert_allclose(process._half, half, atol=1e-6)
    assert process._best == pytest.approx(min(mean[7], *VALUES[~(low & graded)]))


def test_of_too_many_scores_the_model_is_told_the_longest_trained_and_best(monkeypatch):
    told = []
    fit = gp.fit

    def kept(points, values, ordered):
        told.extend(points.tolist())
        return fit(points, values, ordered)

    monkeypatch.setattr(model, "_MOST", 5)
    monkeypatch.setattr(model, "_DRAWN", 8)
    monkeypatch.setattr(gp, "fit", kept)
    space = CustomSpace({"x": Real(0.0, 1.0)}, lambda x: x)
    points = np.arange(9)[:, None] / 10
    scores = np.array([0.1, 0.2, 9.0, 8.0, 7.0, 6.0, 0.3, 5.0, 4.0])
    spent = np.array([0.5, 0.5, 1, 1, 1, 1, 0.5, 0.5, 0.5])
    rng = np.random.default_rng(0)
    model.proposed(space, points, scores, set(), 1, rng, spent)
    assert sorted(told) == [[0.0, 0.5], *([x / 10, 1.0] for x in (2, 3, 4, 5))]


def test_the_model_proposes_no_candidate_twice_and_none_that_is_known():
    space = CustomSpace({"x": Integer(1, 9)}, lambda x: x)
    scores = np.array([3.0, 1.0])
    points = space.encode([{"x": 2}, {"x": 6}])
    known = {2, 6}
    found = model.proposed(space, points, scores, known, 9, np.random.default_rng(0))
    assert sorted(space.candidates(np.array(found))) == [1, 3, 4, 5, 7, 8, 9]
    assert known == set(range(1, 10))


class Upper(CustomSpace):
    def allows(self, candidate):
        return candidate > 0.5


def test_nothing_is_expected_of_what_the_space_does_not_allow():
    space = Upper({"x": Real(0.0, 1.0)}, lambda x: x)
    process = model._Process(
        np.array([[0.6], [0.9]]),
        np.array([-1.0, 1.0]),
        np.ones(1, bool),
        np.ones(2),
        False,
    )
    process.look(np.array([[0.1], [0.7], [0.2]]))
    assert model._first_new(space, process, np.array([0, 2, 1]), set()) == 1
    assert np.isneginf(process.gain()).tolist() == [True, False, True]


def test_a_neighbour_differs_in_one_dimension_a_number_also_by_far():
    space = CustomSpace(
        {"x": Real(0.0, 1.0), "kind": Choice(("a", "b", "c"))}, lambda x, kind: x
    )
    points = np.repeat(space.encode([{"x": 0.1, "kind": "b"}]), 50, axis=0)
    moved = model.neighbours(space, points, np.random.default_rng(0))
    assert ((moved != points[0]).sum(axis=1) <= 1).all()
    assert len(np.unique(moved[:, 1])) == 3
    numbers = moved[moved[:, 0] != 0.1, 0]
    assert numbers.min() >= 0
    assert numbers.max() > 0.9
    assert np.mean(numbers < 0.4) > 0.5


# Deep-n-Cheap's kernel


def test_numbers_at_the_ends_of_their_range_are_at_distance_3():
    one, other = np.array([20.0]), np.array([400.0])
    assert similarity.of_numbers(one, other, 20, 400)[0] == pytest.approx(
        math.exp(-4.5)
    )
    quarter = similarity.of_numbers(np.array([0.0]), np.array([0.25]), 0, 1, root=2)
    assert quarter[0] == pytest.approx(math.exp(-0.5 * 1.5**2))
    assert similarity.of_numbers(one, one, 20, 20)[0] == 1


def test_channels_are_alike_layer_by_layer_and_a_missing_layer_is_as_far_as_can_be():
    limits = [(16, 64), (16, 128), (16, 256), (16, 512), (16, 512)]
    ones, others = [(16, 30, 60)], [(40, 58, 120, 200)]
    by_hand = [
        math.exp(-0.5 * (3 * (24 / 48)) ** 2),
        math.exp(-0.5 * (3 * (28 / 112) ** (1 / 2)) ** 2),
        math.exp(-0.5 * (3 * (60 / 240) ** (1 / 3)) ** 2),
        math.exp(-0.5 * 3**2),
    ]
    found = similarity.of_layers(ones, others, limits)
    assert found.ravel() == pytest.approx([np.mean(by_hand)])
    np.testing.assert_allclose(
        similarity.of_layers(others, ones, limits), found.T, rtol=1e-12
    )
    assert similarity.of_layers(ones, ones, limits).tolist() == [[1.0]]


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_networks_at_opposite_ends_are_as_far_as_the_scale_says(scale):
    farthest = pytest.approx([math.exp(-0.5 * scale**2)])
    limits = [(16, 64), (16, 128)]
    layers = similarity.of_layers([(16,)], [(64, 30)], limits, scale)
    assert layers.ravel() == farthest
    hidden = similarity.of_hidden([()], [(400, 400)], (0, 2), 400, scale)
    assert hidden.ravel() == farthest


def test_later_layers_have_the_fourth_root_and_limits_that_double_up_to_the_most():
    space = CNNSpace((32, 32, 3), 10)
    alike = stages(space).alike
    base = (20, 30, 40, 50, 60, 70)
    one, other = (
        Candidate(CNN((32, 32, 3), (*base, last), 10), Hyperparameters())
        for last in (80, 142)
    )
    seventh = math.exp(-0.5 * (3 * (62 / (512 - 16)) ** (1 / 4)) ** 2)
    expected = (6 + seventh) / 7
    assert alike([one], [other], 3.0).ravel() == pytest.approx([expected])


def test_perceptrons_are_alike_by_all_their_nodes_and_by_their_layers():
    space = MLPSpace(784, 10, depth=(0, 2))
    one, other = (
        Candidate(MLP(784, hidden, 10), Hyperparameters())
        for hidden in ((100,), (200, 100))
    )
    nodes = math.exp(-0.5 * (3 * (200 / 800) ** 0.5) ** 2)
    layers = math.exp(-0.5 * (3 * 1 / 2) ** 2)
    found = stages(space).alike([one], [other, one], 3.0)
    assert found.ravel() == pytest.approx([(nodes + layers) / 2, 1.0])


def test_training_is_alike_by_logarithms_and_a_decay_of_0_is_the_least():
    space = MLPSpace(784, 10)
    one, other = (
        Candidate(MLP(784, (), 10), Hyperparameters(rate, decay, batch))
        for rate, decay, batch in ((1e-3, 0.0, 32), (1e-2, 1e-4, 128))
    )
    terms = [1 / 4, 2 / 3, 96 / 480]
    expected = np.mean([math.exp(-0.5 * (3 * share) ** 2) for share in terms])
    found = stages(space).alike_training([one], [other], 3.0)
    assert found.ravel() == pytest.approx([expected])
