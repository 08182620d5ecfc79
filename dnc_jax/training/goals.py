"""What training minimises, and what networks are compared by.

A `Goal` is a few pure functions of a network's outputs and the targets. Labels have
cross-entropy and accuracy, numbers (standardised by `data.from_arrays`) the squared
error and R², the coefficient of determination; `data._replace(goal=...)` sets another.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnc_jax.errors import InputError, check_known
from dnc_jax.typing import Array

METRICS = ("auto", "f1")
ClassWeights: TypeAlias = str | Mapping[Any, float] | Sequence[float]
_HUBER = 1.0  # standard deviations of a target, where squares end


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Goal:
    """What training minimises, and what networks are compared by.

    Functions are compared by identity, and programs are compiled for them: define them
    once, at the top of a module. `outputs` are [..., B, C] of a network, or of many;
    `targets` [B] int32 labels or [B, C] float32, standardised.

    Attributes:
      metric: what `accuracy` returns, for people.
      loss: of `(outputs, targets)`, traced: of each row, [..., B].
      evidence: of `(outputs, targets)`, traced: what `accuracy` is computed from, once
        it is summed over rows: numbers of each row, [..., B] or [..., K, B].
      accuracy: of the mean of the evidence over all rows, [...] or [..., K] in NumPy,
        and of `reference`: [...], more is better, 1 for a perfect network.
      reference: of the targets of all rows, in NumPy: what `accuracy` has to know.
      least: the least error (1 - accuracy) of a row, 1 where errors are counted; half
        of it is told from 0. 0 where the error is any number.
    """

    metric: str
    loss: Callable[[jax.Array, Array], jax.Array]
    evidence: Callable[[jax.Array, Array], jax.Array]
    accuracy: Callable[[np.ndarray, Any], np.ndarray]
    reference: Callable[[np.ndarray], Any] = lambda targets: None
    least: float = 0.0

    def resolution(self, rows: int) -> float:
        """The least error over so many rows that is told from 0."""
        return max(0.5 * self.least / rows, 1e-9)

    def __str__(self) -> str:
        """What tells this goal from others: the names of its functions."""
        return "; ".join(
            f"{name} {_name(getattr(self, name))}"
            for name in (field.name for field in dataclasses.fields(Goal))
        )


def _name(value: Any) -> str:
    if isinstance(value, functools.partial):
        return f"{_name(value.func)}{value.args}{value.keywords}"
    if callable(value):
        return f"{value.__module__}.{getattr(value, '__qualname__', value)}"
    return str(value)


def check(goal: Goal, outputs: int, targets: Array) -> None:
    """Whether the functions of a goal suit such targets.

    Args:
      goal: whose loss and evidence are traced.
      outputs: of a network.
      targets: [N] or [N, C].

    Raises:
      InputError: one returns another shape or type than it must.
    """
    rows = outputs + 1  # of other lengths than what it may be mistaken for
    some = jax.ShapeDtypeStruct((rows, *targets.shape[1:]), targets.dtype)
    for networks in ((), (outputs + 2,)):
        made = jax.ShapeDtypeStruct((*networks, rows, outputs), jnp.float32)
        loss, evidence = (
            jax.eval_shape(function, made, some)
            for function in (goal.loss, goal.evidence)
        )
        if loss.shape != (*networks, rows) or loss.dtype != jnp.float32:
            raise InputError(
                f"the goal's loss of outputs {made.shape} is {loss.dtype} of shape "
                f"{loss.shape}; it must be float32 of shape {(*networks, rows)}, a "
                "number for each row"
            )
        around = evidence.shape[: len(networks)], evidence.shape[-1:]
        if around != (networks, (rows,)) or not 1 <= evidence.ndim - len(networks) <= 2:
            raise InputError(
                f"the goal's evidence of outputs {made.shape} has shape "
                f"{evidence.shape}; it must be {(*networks, rows)}, or with K numbers "
                f"for each row {(*networks, 'K', rows)}"
            )


def cross_entropy(logits: jax.Array, labels: Array) -> jax.Array:
    """Negative log-likelihood of each row in nats: [..., B, C] and [B] to [..., B]."""
    # By a product: optax's function, which picks by index, takes 15 to 50 % longer with
    # its gradient for 128 rows of 10 classes, 15 % less for 100 (jax 0.10.2, a CPU).
    log_probabilities = jax.nn.log_softmax(logits)
    hits = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return -jnp.sum(log_probabilities * _of_all(hits, logits), axis=-1)


def squared_error(outputs: jax.Array, targets: Array) -> jax.Array:
    """Of each row, averaged over C: [..., B, C] and [B, C] to [..., B]."""
    return _squared_errors(outputs, targets).mean(axis=-1)


def absolute_error(outputs: jax.Array, targets: Array) -> jax.Array:
    """Of each row, averaged over C, as `squared_error`."""
    return jnp.abs(outputs - _of_all(targets, outputs)).mean(axis=-1)


def huber(outputs: jax.Array, targets: Array) -> jax.Array:
    """Of each row, averaged over C; linear beyond one standard deviation.

    Reference: P. Huber, "Robust estimation of a location parameter" (1964).
    """
    targets = jnp.broadcast_to(_of_all(targets, outputs), outputs.shape)
    return optax.huber_loss(outputs, targets, delta=_HUBER).mean(axis=-1)


def _weighted_cross_entropy(
    weights: tuple[float, ...], logits: jax.Array, labels: Array
) -> jax.Array:
    hits = jax.nn.one_hot(labels, len(weights), dtype=logits.dtype)
    of_rows = hits @ jnp.asarray(weights, logits.dtype)
    return cross_entropy(logits, labels) * _of_all(of_rows, logits)


def _of_all(targets: Array, outputs: jax.Array) -> jax.Array:
    """Targets of the rows for outputs of one network or of many."""
    return jnp.expand_dims(jnp.asarray(targets), tuple(range(outputs.ndim - 2)))


def _squared_errors(outputs: jax.Array, targets: Array) -> jax.Array:
    """Of each number: [..., B, C]."""
    return jnp.square(outputs - _of_all(targets, outputs))


def _errors(outputs: jax.Array, targets: Array) -> jax.Array:
    """The squared error of each number: [..., C, B]."""
    return _squared_errors(outputs, targets).swapaxes(-1, -2)


def _hits(logits: jax.Array, labels: Array) -> jax.Array:
    """1 where the label is right: [..., B] int32."""
    labels = jnp.expand_dims(labels, tuple(range(logits.ndim - 2)))
    return (logits.argmax(-1) == labels).astype(jnp.int32)


def _hits_by_class(logits: jax.Array, labels: Array) -> jax.Array:
    """1 where the label is this one, and right: [..., C, B] int32."""
    classes = jnp.arange(logits.shape[-1], dtype=jnp.int32)
    of_class = jnp.equal(classes[:, None], jnp.asarray(labels)[None, :])
    hits = jnp.expand_dims(_hits(logits, labels), -2)
    return hits * _of_all(of_class.astype(jnp.int32), logits)


def _hits_and_guesses(logits: jax.Array, labels: Array) -> jax.Array:
    """Of each class, where it is right and where it is predicted: [..., 2 C, B]."""
    guesses = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1], dtype=jnp.int32)
    parts = (_hits_by_class(logits, labels), guesses.swapaxes(-1, -2))
    return jnp.concatenate(parts, axis=-2)


def _mean(mean: np.ndarray, reference: None) -> np.ndarray:
    del reference
    return mean


def _shares(classes: int, targets: np.ndarray) -> np.ndarray:
    """Of the classes among the rows: [C]."""
    return np.bincount(targets, minlength=classes) / len(targets)


def _weighted(
    weights: tuple[float, ...], mean: np.ndarray, shares: np.ndarray
) -> np.ndarray:
    return np.asarray(mean @ np.array(weights) / (shares @ np.array(weights)))


def _macro_f1(mean: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Of classes that are neither there nor predicted it says nothing."""
    hits, guesses = np.split(mean, 2, axis=-1)
    both = guesses + shares
    f1 = 2 * hits / np.where(both > 0, both, 1)
    return np.asarray(f1.sum(axis=-1) / (both > 0).sum(axis=-1))


def _variance(targets: np.ndarray) -> np.ndarray:
    """Of each target over the rows, [C] float64.

    Where a target is the same in all rows, R² is not defined, and the variance of the
    training rows, 1, takes its place: networks can still be compared.
    """
    varies = np.ptp(targets, axis=0) > 0
    return np.where(varies, targets.astype(np.float64).var(axis=0), 1.0)


def _r2(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """R²: 1 - mean squared error / variance, averaged over the C targets.

    Below 0 where the mean of the targets would have been the better prediction.
    """
    return np.asarray((1 - mean / variance).mean(axis=-1))


LOSSES = {
    "auto": squared_error,
    "absolute_error": absolute_error,
    "huber": huber,
}
CLASSIFICATION = Goal("accuracy", cross_entropy, _hits, _mean, least=1.0)
REGRESSION = Goal("R²", squared_error, _errors, _r2, _variance)


def make(
    targets: np.ndarray,
    labels: tuple[str, ...],
    loss: str = "auto",
    metric: str = "auto",
    class_weights: ClassWeights = "",
) -> Goal:
    """The goal of a data set, with the arguments of `data.from_arrays`.

    Args:
      targets: of the training rows.
      labels: of the classes, sorted; empty in regression.
      loss, metric, class_weights: as there.

    Raises:
      InputError: an unknown loss or metric, one of the other task, or weights that are
        not numbers > 0 of the classes.
    """
    check_known(LOSSES, loss=loss)
    check_known(METRICS, metric=metric)
    if not labels:
        for name, value, none in (
            ("metric", metric, "auto"),
            ("class_weights", class_weights, ""),
        ):
            if value != none:
                raise InputError(
                    f"{name} is for labels, and there are numbers to predict; leave "
                    f"it {none!r}"
                )
        return dataclasses.replace(REGRESSION, loss=LOSSES[loss])
    if loss != "auto":
        raise InputError(
            f"loss = {loss!r} is for numbers to predict, and there are labels; leave "
            "it 'auto', for cross-entropy"
        )
    counts = np.bincount(targets, minlength=len(labels))
    weights = _weights(class_weights, counts, labels)
    # Best 1 on average, as learning rates are for that.
    weights = weights * counts.sum() / (weights @ counts)
    return classification(tuple(weights.tolist()), metric)


def _weights(
    given: ClassWeights, counts: np.ndarray, labels: tuple[str, ...]
) -> np.ndarray:
    """As they were given, [C] float64."""
    if isinstance(given, str):
        if given in ("", "balanced"):
            return 1 / counts if given else np.ones(len(labels))
        given = given.split(",")  # pyright: ignore[reportAssignmentType]
    if isinstance(given, Mapping):
        named = {str(label): weight for label, weight in given.items()}
        if unknown := named.keys() - set(labels):
            raise InputError(
                f"class_weights has no use for label {min(unknown)!r}; the labels are "
                f"{', '.join(labels[:10])}{', ...' * (len(labels) > 10)}"
            )
        given = [named.get(label, 1.0) for label in labels]
    try:
        weights = np.array([float(weight) for weight in given])
    except (TypeError, ValueError):
        weights = np.array([math.nan])
    if not ((weights > 0) & np.isfinite(weights)).all() or len(weights) != len(labels):
        raise InputError(
            f"class_weights must be 'balanced', or a number > 0 for each of the "
            f"{len(labels)} classes, got {given!r}"
        )
    return weights


@functools.cache
def classification(weights: tuple[float, ...], metric: str = "auto") -> Goal:
    """A goal for classes that do not count alike.

    Args:
      weights: what a row of each class counts in the loss and, with the metric `auto`,
        in the accuracy.
      metric: one of `METRICS`.
    """
    goal = CLASSIFICATION
    shares = functools.partial(_shares, len(weights))
    if len(set(weights)) > 1:
        goal = Goal(
            "weighted accuracy",
            functools.partial(_weighted_cross_entropy, weights),
            _hits_by_class,
            functools.partial(_weighted, weights),
            shares,
            least=min(weights),
        )
    if metric == "f1":
        goal = dataclasses.replace(
            goal,
            metric="macro F1",
            evidence=_hits_and_guesses,
            accuracy=_macro_f1,
            reference=shares,
        )
    return goal
