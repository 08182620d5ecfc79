"""Gaussian processes over the unit cube, and what a point promises to improve."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_SQRT5 = math.sqrt(5)
# Mean and deviation of the logarithm; of a length, in one dimension.
_LENGTH = (math.sqrt(2), math.sqrt(3))
_NOISE = (-6.0, 1.5)
_JITTER = 1e-8  # keeps a matrix positive definite


class Posterior(NamedTuple):
    """What observations say: enough to predict anywhere, and to add an observation.

    Attributes:
      factor: Cholesky factor of the observations' covariance, noise on the diagonal.
      weights: the factor's inverse times the observations less their mean.
      mean: of the process.
    """

    factor: np.ndarray  # [n, n]
    weights: np.ndarray  # [n]
    mean: float


def posterior(covariance: np.ndarray, observed: np.ndarray, noise: float) -> Posterior:
    """The posterior of a process whose mean is that of what was observed.

    Args:
      covariance: of the observations without noise, [n, n]. One that has negative
        eigenvalues, as similarities of networks of many depths may, gets as much more
        noise as lifts them to zero.
      observed: [n].
      noise: variance.
    """
    from scipy.linalg import LinAlgError, cholesky, eigvalsh, solve_triangular

    mean = float(np.mean(observed))
    eye = np.eye(len(observed))
    try:
        factor = cholesky(covariance + noise * eye, lower=True)
    except LinAlgError:
        noise -= eigvalsh(covariance)[0]
        factor = cholesky(covariance + noise * eye, lower=True)
    weights = solve_triangular(factor, observed - mean, lower=True)
    return Posterior(factor, weights, mean)


def half(known: Posterior, cross: np.ndarray) -> np.ndarray:
    """The factor's inverse times a covariance of observations and points, [n, m]."""
    from scipy.linalg import solve_triangular

    return solve_triangular(known.factor, cross, lower=True)


def moments(
    known: Posterior, half: np.ndarray, prior: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation at some points, without noise.

    Args:
      known: the observations.
      half: of the points, [n, m].
      prior: variance of every point.

    Returns:
      Two arrays [m].
    """
    variance = prior - np.sum(half**2, axis=0)
    return known.mean + known.weights @ half, np.sqrt(np.maximum(variance, 0.0))


def observed(
    known: Posterior, column: np.ndarray, prior: float, value: float
) -> Posterior:
    """The posterior with one more observation, the process's mean as before.

    Args:
      known: the observations so far.
      column: `half` of the new one's point, [n].
      prior: variance of it, noise included.
      value: observed.
    """
    count = len(column)
    factor = np.zeros((count + 1, count + 1))
    factor[:count, :count] = known.factor
    factor[count, :count] = column
    factor[count, count] = math.sqrt(max(prior - column @ column, 1e-12))
    new = (value - known.mean - known.weights @ column) / factor[count, count]
    return Posterior(factor, np.append(known.weights, new), known.mean)


def expected_improvement(
    mean: np.ndarray, deviation: np.ndarray, best: float, margin: float = 0.0
) -> np.ndarray:
    """How much lower than `best - margin` a value is expected to be, [m].

    `gain * Phi(z) + deviation * phi(z)` with `gain = best - margin - mean` and
    `z = gain / deviation`; without deviation, the gain itself if there is any.

    Reference: D. Jones et al., "Efficient Global Optimization" (1998).
    """
    from scipy.special import ndtr

    gain = best - margin - mean
    certain = deviation <= 0
    z = gain / np.where(certain, 1.0, deviation)
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return np.where(
        certain, np.maximum(gain, 0.0), gain * ndtr(z) + deviation * density
    )


def log_expected_improvement(
    mean: np.ndarray, deviation: np.ndarray, best: float
) -> np.ndarray:
    """The logarithm of `expected_improvement`, also where that is 0 to rounding, [m].

    With u = -z, `z * Phi(z) + phi(z) = phi(u) * (1 - u * R(u))`, R being Mills' ratio,
    which `erfcx` gives for any u; far out `1 - u * R(u)` is 1 / u**2.

    Reference: S. Ament et al., "Unexpected Improvements to Expected Improvement for
    Bayesian Optimization" (2023).
    """
    from scipy.special import erfcx

    deviation = np.maximum(deviation, 1e-9)
    u = (mean - best) / deviation
    ratio = math.sqrt(math.pi / 2) * erfcx(np.maximum(u, -30) / math.sqrt(2))
    tail = np.where(u > 1e3, 1 / np.maximum(u, 1.0) ** 2, 1 - u * ratio)
    by_tail = np.log(np.maximum(tail, 1e-300)) - 0.5 * u**2
    by_tail -= 0.5 * math.log(2 * math.pi)
    return np.log(deviation) + np.where(u < -30, np.log(np.maximum(-u, 1.0)), by_tail)


def likeliest(
    kernel: Callable[[float], np.ndarray], values: np.ndarray, noise: float
) -> float:
    """The scale, from 0.3 to 30, with which a kernel makes values most probable.

    Args:
      kernel: gives the covariance, [n, n], for a scale.
      values: observed, [n].
      noise: variance.
    """
    from scipy.optimize import minimize_scalar

    # The kernel's amplitude is 1, so the values are taken to have variance 1.
    spread = float(np.std(values)) or 1.0

    def loss(log: float) -> float:
        known = posterior(kernel(math.exp(log)), values / spread, noise)
        surprise = 0.5 * known.weights @ known.weights
        return float(surprise + np.sum(np.log(np.diag(known.factor))))

    found = minimize_scalar(loss, bounds=(math.log(0.3), math.log(30)))
    return math.exp(float(found.x))


class Kernel(NamedTuple):
    """A Matern-5/2 kernel with a length of its own for each dimension.

    Attributes:
      ordered: which dimensions are numbers, [dimensions] bool; of the others it only
        matters whether they are equal.
      lengths: of the unit interval, [dimensions].
      amplitude: variance of the process.
      noise: variance of the observations.
    """

    ordered: np.ndarray
    lengths: np.ndarray
    amplitude: float
    noise: float

    def __call__(self, points: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Covariance, [n, m], of points [n, dimensions] and [m, dimensions]."""
        from scipy.spatial.distance import cdist

        near, far = (
            p[:, self.ordered] / self.lengths[self.ordered] for p in (points, others)
        )
        distance = cdist(near, far, "sqeuclidean")
        for dimension in np.flatnonzero(~self.ordered):
            differ = points[:, dimension, None] != others[:, dimension]
            distance += differ * self.lengths[dimension] ** -2
        return self.amplitude * _matern(distance)[0]


def fit(points: np.ndarray, values: np.ndarray, ordered: np.ndarray) -> Kernel:
    """The kernel that is most probable given the observations.

    Lengths are expected to be long, the longer the more dimensions there are, so that a
    few observations of many dimensions do not look like noise.

    Args:
      points: of the unit cube, [n, dimensions].
      values: observed, of mean 0 and variance 1, [n].
      ordered: as in `Kernel`.

    Reference: C. Hvarfner et al., "Vanilla Bayesian Optimization Performs Great in High
    Dimensions" (2024), for the prior of the lengths.
    """
    from scipy.optimize import minimize

    width = points.shape[1]
    apart = _apart(points, points, ordered)
    found = minimize(
        lambda logs: _surprise(logs, apart, values),
        _prior(width)[0],
        jac=True,
        method="L-BFGS-B",
        bounds=[(-3.0, 4.0)] * width + [(-5.0, 5.0), (-14.0, 0.0)],
        options={"maxiter": 60},
    )
    amplitude, noise = np.exp(found.x[width:])
    return Kernel(
        ordered, np.exp(found.x[:width]), float(amplitude), float(noise + _JITTER)
    )


def _prior(width: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of the logarithms of lengths, amplitude and noise."""
    centre = np.array([*[_LENGTH[0] + 0.5 * math.log(width)] * width, 0.0, _NOISE[0]])
    return centre, np.array([*[_LENGTH[1]] * width, 1.0, _NOISE[1]])


def _surprise(
    logs: np.ndarray, apart: np.ndarray, values: np.ndarray
) -> tuple[float, np.ndarray]:
    """Minus the logarithm of values' and prior's density, to a constant; its gradient.

    Args:
      logs: logarithms of lengths, amplitude and noise, [dimensions + 2].
      apart: as `_apart` gives it, [dimensions, n, n].
      values: observed, [n].
    """
    from scipy.linalg import cho_solve, cholesky

    width, eye = len(apart), np.eye(len(values))
    inverse = np.exp(-2 * logs[:width])
    amplitude, noise = np.exp(logs[width:])
    shape, slope = _matern(np.tensordot(inverse, apart, axes=1))
    factor = cholesky(amplitude * shape + (noise + _JITTER) * eye, lower=True)
    solved = cho_solve((factor, True), values)
    surplus = cho_solve((factor, True), eye) - np.outer(solved, solved)
    gradient = np.array(
        [
            *-np.tensordot(apart, surplus * slope * amplitude, axes=2) * inverse,
            0.5 * amplitude * np.sum(surplus * shape),
            0.5 * noise * np.trace(surplus),
        ]
    )
    centre, spread = _prior(width)
    away = (logs - centre) / spread
    surprise = 0.5 * values @ solved + np.sum(np.log(np.diag(factor)))
    return surprise + 0.5 * away @ away, gradient + away / spread


def _apart(points: np.ndarray, others: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Squared distance in each dimension, 0 or 1 where only equality matters."""
    differ = points.T[:, :, None] - others.T[:, None, :]
    return np.where(ordered[:, None, None], differ**2, differ != 0)


def _matern(squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The kernel's shape and its derivative by the squared distance."""
    distance = _SQRT5 * np.sqrt(squared)
    decay = np.exp(-distance)
    return (1 + distance + distance**2 / 3) * decay, -5 / 6 * (1 + distance) * decay
