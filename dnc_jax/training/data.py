"""Data sets: read once, checked once, kept as they are stored (uint8 for images)."""

import hashlib
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnc_jax.errors import InputError, check_known, check_numbers, check_whole
from dnc_jax.networks import Architecture
from dnc_jax.training import arrays, goals, readers, rows, targets
from dnc_jax.typing import Array, Scalar

TASKS = ("auto", "classification", "regression")
CHANNELS = ("last", "first")
_TINY = float(np.finfo(np.float32).tiny)


class Split(NamedTuple):
    """Rows of one split: in memory or in files, or the same on device."""

    x: Any  # [N, ...] uint8 or float32: an array, or `rows.FileRows`
    y: Array  # [N] int32, 0 .. outputs - 1, or [N, C] float32, standardised


def joined(one: Split, other: Split) -> Split:
    """The rows of both, one after another."""
    return Split(*(rows.joined(*pair) for pair in zip(one, other, strict=True)))


class View(NamedTuple):
    """How networks see the rows of a data set, and what is asked of them."""

    mean: Array  # [channels] float32, as in `Dataset`
    scale: Array  # [channels] float32, as in `Dataset`
    goal: goals.Goal = goals.CLASSIFICATION  # as in `Dataset`
    class_weights: Array | None = None  # [C] float32, as in `Dataset`
    augment: Scalar | None = None  # [] uint32, seed of crops and flips in training

    def loss(self, outputs: jax.Array, targets: Array) -> jax.Array:
        """Of each row, [..., B]: the goal's, times the weight of the row's class."""
        values = self.goal.loss(outputs, targets)
        if self.class_weights is None:
            return values
        weights = jnp.asarray(self.class_weights)[targets]
        return values * jnp.expand_dims(weights, tuple(range(values.ndim - 1)))


class Dataset(NamedTuple):
    """A classification or regression problem.

    Attributes:
      name: for people.
      outputs: classes, or numbers to predict: the width of a network's last layer.
      train, validation, test: the rows; `test` is for one final evaluation.
      mean, scale: statistics of the training rows, one for each entry of the last
        axis: a feature of a table, a channel of an image [H, W, channels]; one for
        all where there is no such axis. A network sees `(x - mean) * scale`.
      labels: of the classes, whole numbers, truth values or names as the data has
        them, sorted; empty in regression.
      target_mean, target_scale: of the training targets in regression; a network
        predicts `(y - target_mean) * target_scale`. Empty in classification.
      augment: crop and flip images at random in training, see `augmentation`.
      resident_bytes: of training rows that may lie on a device, and of a quarter as
        many bytes of validation rows; of more, parts are sent there one after another.
        0: half of an accelerator's free memory, or of a CPU's.
      goal: what training minimises and networks are compared by.
      class_weights: what a row of each class counts in the loss, on average 1; empty:
        alike.
      columns: names of the features, where a data frame or a `.csv` file has them.
    """

    name: str
    outputs: int
    train: Split
    validation: Split
    test: Split
    mean: np.ndarray  # [channels] float32
    scale: np.ndarray  # [channels] float32
    labels: tuple[Any, ...] = ()
    target_mean: tuple[float, ...] = ()
    target_scale: tuple[float, ...] = ()
    augment: bool = False
    resident_bytes: int = 0
    goal: goals.Goal = goals.CLASSIFICATION
    class_weights: tuple[float, ...] = ()
    columns: tuple[str, ...] = ()

    @property
    def inputs(self) -> int:
        """Features of one example after flattening."""
        return int(np.prod(self.train.x.shape[1:]))

    @property
    def rows(self) -> tuple[int, int]:
        """Of the training and the validation split."""
        return len(self.train.y), len(self.validation.y)

    @property
    def view(self) -> View:
        """Of rows that are evaluated; `trainer.view_of` gives that of training."""
        weights = self.class_weights
        return View(
            self.mean,
            self.scale,
            self.goal,
            np.array(weights, np.float32) if weights else None,
        )

    @property
    def task(self) -> str:
        """`classification` or `regression`."""
        return "regression" if self.target_mean else "classification"

    @property
    def metric(self) -> str:
        """What `val_accuracy` and `test_accuracy` are, for people."""
        return self.goal.metric

    def digest(self) -> str:
        """What tells these rows and their goal from others.

        Of examples in files only their shape, of a goal the names of its functions.

        Raises:
          InputError: a function of the goal has no name of its own.
        """
        digest = hashlib.blake2b(digest_size=16)
        for split in (self.train, self.validation, self.test):
            for array in split:
                digest.update(f"{array.shape} {array.dtype}".encode())
                if not isinstance(array, rows.FileRows):
                    digest.update(np.ascontiguousarray(array).data)
        digest.update(f"{self.goal.identity()} {self.class_weights}".encode())
        return digest.hexdigest()

    @property
    def resolution(self) -> float:
        """Half an error in the validation rows: an error rate no smaller is known.

        In regression, whose errors are not counted, next to nothing.
        """
        return self.goal.resolution(len(self.validation.y))

    def __repr__(self) -> str:
        """Its size; thousands of rows would say less."""
        return f"<Dataset {self.name}: {self}>"

    def __str__(self) -> str:
        rows = [len(split.y) for split in (self.train, self.validation, self.test)]
        kind = "classes"
        if self.task == "regression":
            kind = f"number{'s' * (self.outputs > 1)} to predict"
        text = (
            "{:,} training, {:,} validation and {:,} test rows of ".format(*rows)
            + f"{self.inputs} features, {self.outputs} {kind}"
        )
        if self.labels != tuple(range(len(self.labels))):
            text += f" ({', '.join(map(str, self.labels[:10]))}"
            text += ", ...)" if self.outputs > 10 else ")"
        return text


def normalise(x: Array, mean: Array, scale: Array) -> jax.Array:
    """Flattens and normalises a batch: [B, ...] of any dtype to [B, D] float32."""
    x = jnp.asarray(x).astype(jnp.float32)
    shape = (x.shape[0], math.prod(x.shape[1:]))  # a batch may have no rows
    channels = x.reshape(shape[0], shape[1] // len(mean), len(mean))
    centred = (channels - jnp.expand_dims(mean, (0, 1))) * jnp.expand_dims(
        scale, (0, 1)
    )
    return centred.reshape(shape)


def check_sizes(what: str, network: Architecture, data: Dataset) -> None:
    """Whether a network takes the examples of a data set and answers as it asks.

    Raises:
      InputError: it does not; `what` says whose it is.
    """
    sizes = (network.inputs, network.outputs)
    if sizes != (data.inputs, data.outputs):
        raise InputError(
            f"{what} has {sizes[0]} inputs and {sizes[1]} outputs, the data has "
            f"{data.inputs} and {data.outputs}; make_space(data) gives a space for it"
        )


def load(
    name: str,
    *,
    data_dir: str = "",
    test: str = "",
    target: str = "",
    task: str = "auto",
    loss: str = "auto",
    metric: str = "auto",
    class_weight: Any = "",
    channels: str = "last",
    augment: bool = False,
    resident_bytes: int = 0,
    seed: int = 0,
    validation_fraction: float = 0.2,
) -> Dataset:
    """Reads a data set and splits validation rows from its training rows.

    Args:
      name: `digits` (embedded in scikit-learn; a fixed fifth of each class is
        the test split), an `.npz` file with the arrays `xtr ytr xte yte`, a folder with
        these as `.npy` files or shards of them, a `.csv` file with a header, or the
        name of a TFDS image-classification set prepared in `data_dir`.
      data_dir: a TFDS data directory; empty means ~/tensorflow_datasets.
      test: a second `.csv` file with the test rows; empty: a fixed fifth of the rows,
        in classification of every class.
      target: the column of a `.csv` file to predict; empty: the last one.
      task, loss, metric, class_weight, channels, augment, resident_bytes, seed,
        validation_fraction: as for `from_arrays`.

    Raises:
      InputError: unknown name, missing directory or unusable rows.
    """
    found = readers.read(name, data_dir=data_dir, test=test, target=target)
    if found.channels_last and channels == "first":
        raise InputError(
            f"channels = 'first' is for arrays of your own; the images of {name} have "
            "their channels last"
        )
    return from_arrays(
        found.train,
        found.test,
        name=name,
        task=task,
        loss=loss,
        metric=metric,
        class_weight=class_weight,
        channels=channels,
        augment=augment,
        resident_bytes=resident_bytes,
        seed=seed,
        validation_fraction=validation_fraction,
    )._replace(columns=found.columns)


def from_arrays(
    train: Split | tuple[Any, Any],
    test: Split | tuple[Any, Any] | None = None,
    *,
    name: str = "arrays",
    task: str = "auto",
    loss: str = "auto",
    metric: str = "auto",
    class_weight: Any = "",
    channels: str = "last",
    augment: bool = False,
    resident_bytes: int = 0,
    seed: int = 0,
    validation_fraction: float = 0.2,
) -> Dataset:
    """A data set from arrays `(x [N, ...], y [N])`; validation comes out of `train`.

    Args:
      train, test: rows, as arrays or data frames of numbers; y is [N] labels (integers
        or names), or [N] or [N, C] floats. Without test rows a fixed fifth of the
        training rows, in classification of every class, takes their place.
      name: for people.
      task: `classification`, `regression`, or `auto`: by the type of y.
      loss: that training minimises. Of numbers `auto` is the squared error, and
        `absolute_error` and `huber` heed outliers less; of labels it is cross-entropy.
      metric: that networks are compared by. Of labels `auto` is the accuracy, and `f1`
        the mean of the classes' F1; of numbers it is R².
      class_weight: what a row of each class counts, in the loss and, of the metric
        `auto`, in the accuracy: `balanced` for so much that each class counts alike
        over the training rows, `{label: weight}` (1 for those left out), or weights in
        the order of the sorted labels, also as a text, `1,10`. Empty: rows count alike.
      channels: `last` for images [N, H, W, channels], `first` for [N, channels, H, W].
      augment: crop (with a border of 4) and flip images at random in training.
      resident_bytes: as in `Dataset`.
      seed: chooses the validation rows.
      validation_fraction: of the training rows; in classification, class by class.

    Raises:
      InputError: no rows, unequal lengths, NaN or infinite values, y that does not suit
        the task, fewer than two classes, a class of the test rows that is not in the
        training rows, a class with too few training rows to split, a constant target
        or one far from 0 for its spread, examples of train and test that are of
        other types, shapes or columns, a fraction outside (0, 1), a negative seed or
        number of bytes, an unknown loss or metric or one of the other task, weights
        that are not numbers > 0 of the classes.
    """
    check_numbers(validation_fraction=validation_fraction)
    if not 0 < validation_fraction < 1:
        raise InputError(
            f"validation_fraction must lie in (0, 1), got {validation_fraction}"
        )
    check_whole(0, seed=seed, resident_bytes=resident_bytes)
    check_known(TASKS, task=task)
    check_known(CHANNELS, channels=channels)
    for part, split in (("train", train), ("test", train if test is None else test)):
        if not isinstance(split, tuple | list) or len(split) != 2:
            raise InputError(
                f"{name}, {part}: a pair (x, y) is needed, got a "
                f"{type(split).__name__}; from_arrays((x, y), (test_x, test_y))"
            )
    if test is not None:
        arrays.refuse_other_columns(train[0], test[0], name)
    x, y = arrays.checked(*train, f"{name}, train", channels)
    if test is None:
        tested = targets.every_fifth(y)
        kept = np.setdiff1d(np.arange(len(y)), tested)
        if not len(kept):
            raise InputError(f"{name}: one row; two are needed, for one of them tests")
        (test_x, test_y), (x, y) = (
            (rows.only(x, part), y[part]) for part in (tested, kept)
        )
    else:
        test_x, test_y = arrays.checked(*test, f"{name}, test", channels)
    if x.shape[1:] != test_x.shape[1:]:
        raise InputError(
            f"{name}: a training example has shape {x.shape[1:]}, a test "
            f"example {test_x.shape[1:]}; they must agree"
        )
    x, test_x = arrays.of_one_type(x, test_x, name)
    if task == "auto":
        task = "regression" if y.dtype.kind == "f" else "classification"
    # The constant keeps this draw apart from `default_rng(seed)`.
    rng = np.random.default_rng([seed, 0x5B117])
    if task == "classification":
        y, test_y, labels = targets.classes(y, test_y, name)
        held_out = targets.stratified(y, validation_fraction, rng, name, labels)
    else:
        labels = ()
        held_out = targets.held_out_rows(len(y), validation_fraction, rng, name)
    fit = np.setdiff1d(np.arange(len(y)), held_out)
    outputs, target_mean, target_scale = len(labels), (), ()
    if task == "regression":
        y, test_y, *units = targets.standardised(y, test_y, fit, name)
        target_mean, target_scale = units
        outputs = y.shape[1]
    if augment and x.ndim != 4:
        raise InputError(
            f"augment is for images [N, H, W, channels], and {name} has examples "
            f"of shape {x.shape[1:]}"
        )
    goal, weights = goals.make(y[fit], labels, loss, metric, class_weight)
    training = rows.only(x, fit)
    mean, spread = rows.moments(training)
    return Dataset(
        name=name,
        outputs=outputs,
        train=Split(training, y[fit]),
        validation=Split(rows.only(x, held_out), y[held_out]),
        test=Split(test_x, test_y),
        mean=mean.astype(np.float32),
        scale=(1 / np.where(spread > _TINY, spread, 1)).astype(np.float32),
        labels=labels,
        target_mean=target_mean,
        target_scale=target_scale,
        augment=augment,
        resident_bytes=resident_bytes,
        goal=goal,
        class_weights=weights,
        columns=tuple(map(str, getattr(train[0], "columns", ()))),
    )
