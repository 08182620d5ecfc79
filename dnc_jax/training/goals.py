"""What training minimises, and what networks are compared by.

A `Goal` is a few pure functions of a network's outputs and the targets. Labels have
cross-entropy and accuracy, numbers (standardised by `data.from_arrays`) the squared
error and R², the coefficient of determination; `data._replace(goal=...)` sets another.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnc_jax.errors import InputError, check_known
from dnc_jax.typing import Array

METRICS = ("auto", "f1")
_HUBER = 1.0  # standard deviations of a target, where squares end


def _nothing(targets: np.ndarray) -> None:
    del targets


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Goal:
    """What training minimises, and what networks are compared by.

    Programs are compiled for `loss` and `evidence`, and goals with the same two are
    equal. Define the functions once, at the top of a module: one that is made anew is
    compiled anew, and a work folder tells goals apart by the names of their functions.
    `outputs` are [..., B, C] of a network, or of many; `targets` [B] int32, indices
    into `Dataset.labels`, or [B, C] float32, standardised.

    Attributes:
      metric: what `accuracy` returns, for people.
      loss: of `(outputs, targets)`, traced: of each row, [..., B] float32. Below 0 it
        is for objectives of the error only, since scores are logarithms.
      evidence: of `(outputs, targets)`, traced: what `accuracy` is computed from, once
        it is summed over rows: numbers of each row, [..., B] or [..., K, B].
      accuracy: of the mean of the evidence over all rows, [...] or [..., K] in NumPy,
        and of `reference`: [...], more is better, 1 for a perfect network.
      reference: of the targets of all rows, in NumPy: what `accuracy` has to know.
      least: the least error (1 - accuracy) that a row can make, times the rows; half
        of it is told from 0. 0 where the error is any number.
    """

    metric: str = dataclasses.field(compare=False)
    loss: Callable[[jax.Array, Array], jax.Array]
    evidence: Callable[[jax.Array, Array], jax.Array]
    accuracy: Callable[[np.ndarray, Any], Any] = dataclasses.field(compare=False)
    reference: Callable[[np.ndarray], Any] = dataclasses.field(
        default=_nothing, compare=False
    )
    least: float = dataclasses.field(default=0.0, compare=False)

    def resolution(self, rows: int) -> float:
        """The least error over so many rows that is told from 0."""
        return max(0.5 * self.least / rows, 1e-9)

    def identity(self) -> str:
        """What tells this goal from others in another process.

        Raises:
          InputError: a function has no name of its own.
        """
        return "; ".join(
            f"{field.name} {_name(getattr(self, field.name))}"
            for field in dataclasses.fields(Goal)
        )


def _name(value: Any) -> str:
    """A value, or what it can be imported by."""
    if isinstance(value, functools.partial):
        given = [*value.args, *sorted(value.keywords.items())]
        return f"{_name(value.func)}({', '.join(map(_name, given))})"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_name, value))})"
    if isinstance(value, str | int | float | None):
        return repr(value)
    name = getattr(value, "__qualname__", "<unnamed>")
    if "<" in name:
        raise InputError(
            f"the goal has {value!r}, which cannot be told from others when a search "
            "or a training goes on; define it as a function at the top of a module "
            "(functools.partial gives it numbers), or keep no store and no folder"
        )
    return f"{value.__module__}.{name}"


def check(goal: Goal, outputs: int, targets: Array) -> None:
    """Whether the functions of a goal suit such targets.

    Args:
      goal: whose functions are tried.
      outputs: of a network.
      targets: [N] or [N, C].

    Raises:
      InputError: one returns another shape or type than it must, or is for other
        targets.
    """
    labels = jnp.issubdtype(targets.dtype, jnp.integer)
    if goal.loss in (squared_error if labels else cross_entropy,):
        raise InputError(
            f"the goal is for {'numbers to predict' if labels else 'labels'}, and the "
            f"targets are {targets.dtype}; data._replace(goal=goals."
            f"{'CLASSIFICATION' if labels else 'REGRESSION'})"
        )
    rows = outputs + 1  # of other lengths than what it may be mistaken for
    some = jax.ShapeDtypeStruct((rows, *targets.shape[1:]), targets.dtype)
    reference = goal.reference(np.asarray(targets))
    for networks in ((), (outputs + 2,)):
        made = jax.ShapeDtypeStruct((*networks, rows, outputs), jnp.float32)
        loss, evidence = (
            jax.tree.leaves(jax.eval_shape(function, made, some))
            for function in (goal.loss, goal.evidence)
        )
        if [(one.shape, one.dtype) for one in loss] != [((*networks, rows), "float32")]:
            raise InputError(
                f"the goal's loss of outputs {made.shape} is {_described(loss)}; it "
                f"must be float32 {[*networks, rows]}, a number for each row"
            )
        shape = evidence[0].shape if len(evidence) == 1 else ()
        numbers = shape[len(networks) : -1]
        if shape != (*networks, *numbers, rows) or len(numbers) > 1:
            raise InputError(
                f"the goal's evidence of outputs {made.shape} is "
                f"{_described(evidence)}; it must be {[*networks, rows]}, or with K "
                f"numbers for each row {[*networks, 'K', rows]}"
            )
        mean = np.zeros(shape[:-1])
        found = np.shape(goal.accuracy(mean, reference))
        if found != networks:
            raise InputError(
                f"the goal's accuracy of a mean {list(mean.shape)} has shape "
                f"{list(found)}; it must be {list(networks)}, a number for each network"
            )


def _described(leaves: Sequence[Any]) -> str:
    return " and ".join(f"{one.dtype} {list(one.shape)}" for one in leaves)


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
    targets = _of_all(targets, outputs)
    return optax.huber_loss(outputs, targets, delta=_HUBER).mean(axis=-1)


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
    return (logits.argmax(-1) == _of_all(labels, logits)).astype(jnp.int32)


def _hits_by_class(logits: jax.Array, labels: Array) -> jax.Array:
    """1 where the label is this one, and right: [..., C, B] int32."""
    of_class = jax.nn.one_hot(labels, logits.shape[-1], axis=0, dtype=jnp.int32)
    hits = jnp.expand_dims(_hits(logits, labels), -2)
    return hits * _of_all(of_class, logits)


def _hits_and_guesses(logits: jax.Array, labels: Array) -> jax.Array:
    """Of each class, where it is right and where it is predicted: [..., 2 C, B]."""
    classes = logits.shape[-1]
    guesses = jax.nn.one_hot(logits.argmax(-1), classes, axis=-2, dtype=jnp.int32)
    return jnp.concatenate([_hits_by_class(logits, labels), guesses], axis=-2)


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
    labels: Sequence[Any],
    loss: str = "auto",
    metric: str = "auto",
    class_weight: Any = "",
) -> tuple[Goal, tuple[float, ...]]:
    """The goal of a data set, and the weights of its classes.

    Args:
      targets: of the training rows.
      labels: of the classes, as the data has them, sorted; empty in regression.
      loss, metric, class_weight: as of `data.from_arrays`.

    Returns:
      The goal, and a weight for each class, on average 1 over the training rows; none
      where classes count alike.

    Raises:
      InputError: an unknown loss or metric, one of the other task, or weights that are
        not numbers > 0 of the classes.
    """
    for name, given in (("loss", loss), ("metric", metric)):
        if callable(given):
            raise InputError(
                f"{name} is a name; a function of your own is part of a goals.Goal: "
                "data._replace(goal=...)"
            )
    check_known(LOSSES, loss=loss)
    check_known(METRICS, metric=metric)
    weighted = not isinstance(class_weight, str) or class_weight != ""
    for name, given, task in (
        ("loss", loss != "auto" and len(labels), "numbers to predict"),
        ("metric", metric != "auto" and not len(labels), "labels"),
        ("class_weight", weighted and not len(labels), "labels"),
    ):
        if given:
            raise InputError(
                f"{name} is for {task}, which this data has not; leave it out"
            )
    if not len(labels):
        return dataclasses.replace(REGRESSION, loss=LOSSES[loss]), ()
    counts = np.bincount(targets, minlength=len(labels))
    weights: tuple[float, ...] = ()
    goal = CLASSIFICATION
    shares = functools.partial(_shares, len(labels))
    if weighted:
        relative = _relative_weights(class_weight, counts, labels)
        # Not `@`, which rounds as the processor does: a goal is told by its weights.
        mean = math.fsum(relative * counts) / len(targets)
        weights = tuple((relative / mean).tolist())
        goal = Goal(
            "weighted accuracy",
            cross_entropy,
            _hits_by_class,
            functools.partial(_weighted, weights),
            shares,
            least=min(weights),
        )
    if metric == "f1":
        # A wrong row of the most frequent class, of 2 precision * recall / their sum.
        least = len(targets) / (2 * len(labels) * counts.max())
        goal = Goal(
            "macro F1",
            cross_entropy,
            _hits_and_guesses,
            _macro_f1,
            shares,
            float(least),
        )
    return goal, weights


def _relative_weights(
    given: Any, counts: np.ndarray, labels: Sequence[Any]
) -> np.ndarray:
    """As they were given, over the largest: [C] float64."""
    names: Sequence[Any] = labels
    values: Any = given
    if isinstance(given, str):
        values = 1 / counts if given == "balanced" else given.split(",")
        if ":" in given:  # as a flag names labels
            names = list(map(str, labels))
            if unnamed := [pair for pair in values if ":" not in pair]:
                raise InputError(
                    f"class_weight has {unnamed[0]!r}, which is no LABEL:WEIGHT, got "
                    f"{given!r}; a label that is left out counts 1"
                )
            pairs = [pair.rsplit(":", 1) for pair in values]
            values = dict(pairs)
            if len(values) < len(pairs):
                raise InputError(
                    f"class_weight has a label twice, got {given!r}; one weight for "
                    "each is needed"
                )
    if hasattr(values, "items"):  # a dict, or a Series
        named = {
            name.decode() if isinstance(name, bytes) else name: weight
            for name, weight in values.items()
        }
        if unknown := [name for name in named if name not in names]:
            raise InputError(
                f"class_weight has {unknown[0]!r}, which is no label; the labels are "
                f"{_listed(labels)}"
            )
        values = [named.get(name, 1.0) for name in names]
    weights = np.zeros(0)
    with contextlib.suppress(TypeError, ValueError):
        weights = np.array([float(weight) for weight in values])
    if isinstance(given, set) or len(weights) != len(labels):
        raise InputError(
            f"class_weight must be 'balanced', {{label: weight}}, or a number for each "
            f"of the labels {_listed(labels)} in this order, got {_short(given)}"
        )
    for label, weight in zip(labels, weights, strict=True):
        if not 0 < weight < math.inf:
            raise InputError(
                f"class_weight of label {label!r} must be a finite number > 0, got "
                f"{weight:g} of {_short(given)}"
            )
    return weights / weights.max()


def _listed(labels: Sequence[Any]) -> str:
    return ", ".join(map(repr, labels[:10])) + ", ..." * (len(labels) > 10)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}..."
