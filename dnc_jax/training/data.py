"""Data sets: read once, checked once, kept as they are stored (uint8 for images)."""

import hashlib
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnc_jax.errors import InputError, check_known, check_numbers, check_whole
from dnc_jax.networks import Architecture
from dnc_jax.training import arrays, goals, readers, rows
from dnc_jax.typing import Array, Scalar

TASKS = ("auto", "classification", "regression")
CHANNELS = ("last", "first")
_REGRESSION = "numbers to predict are task = 'regression'"
_TINY, _HUGE = (float(getattr(np.finfo(np.float32), end)) for end in ("tiny", "max"))


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
    augment: Scalar | None = None  # [] uint32, seed of crops and flips in training


class Dataset(NamedTuple):
    """A classification or regression problem.

    Attributes:
      name: for people.
      outputs: classes, or numbers to predict: the width of a network's last layer.
      train, validation, test: the rows; `test` is for one final evaluation.
      mean, scale: statistics of the training rows, one for each entry of the last
        axis: a feature of a table, a channel of an image [H, W, channels]; one for
        all where there is no such axis. A network sees `(x - mean) * scale`.
      labels: of the classes, as the data names them; empty in regression.
      target_mean, target_scale: of the training targets in regression; a network
        predicts `(y - target_mean) * target_scale`. Empty in classification.
      augment: crop and flip images at random in training, see `augmentation`.
      resident_bytes: of training rows that may lie on a device, and of a quarter as
        many bytes of validation rows; of more, parts are sent there one after another.
        0: half of an accelerator's free memory, or of a CPU's.
      goal: what training minimises and networks are compared by.
    """

    name: str
    outputs: int
    train: Split
    validation: Split
    test: Split
    mean: np.ndarray  # [channels] float32
    scale: np.ndarray  # [channels] float32
    labels: tuple[str, ...] = ()
    target_mean: tuple[float, ...] = ()
    target_scale: tuple[float, ...] = ()
    augment: bool = False
    resident_bytes: int = 0
    goal: goals.Goal = goals.CLASSIFICATION

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
        return View(self.mean, self.scale, self.goal)

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
        """
        digest = hashlib.blake2b(digest_size=16)
        for split in (self.train, self.validation, self.test):
            for array in split:
                digest.update(f"{array.shape} {array.dtype}".encode())
                if not isinstance(array, rows.FileRows):
                    digest.update(np.ascontiguousarray(array).data)
        if self.goal not in (goals.CLASSIFICATION, goals.REGRESSION):
            digest.update(str(self.goal).encode())
        return digest.hexdigest()

    @property
    def resolution(self) -> float:
        """Half an error in the validation rows: an error rate no smaller is known.

        In regression, whose errors are not counted, next to nothing.
        """
        return self.goal.resolution(len(self.validation.y))

    def __str__(self) -> str:
        rows = [len(split.y) for split in (self.train, self.validation, self.test)]
        kind = "classes"
        if self.task == "regression":
            kind = f"number{'s' * (self.outputs > 1)} to predict"
        text = (
            "{:,} training, {:,} validation and {:,} test rows of ".format(*rows)
            + f"{self.inputs} features, {self.outputs} {kind}"
        )
        if self.labels != tuple(map(str, range(len(self.labels)))):
            text += f" (0 is {self.labels[0]!r}, 1 is {self.labels[1]!r}"
            text += ", ...)" if self.outputs > 2 else ")"
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
    class_weights: goals.ClassWeights = "",
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
      task, loss, metric, class_weights, channels, augment, resident_bytes, seed,
        validation_fraction: as for `from_arrays`.

    Raises:
      InputError: unknown name, missing directory or unusable rows.
    """
    return from_arrays(
        *readers.read(name, data_dir=data_dir, test=test, target=target),
        name=name,
        task=task,
        loss=loss,
        metric=metric,
        class_weights=class_weights,
        channels=channels,
        augment=augment,
        resident_bytes=resident_bytes,
        seed=seed,
        validation_fraction=validation_fraction,
    )


def from_arrays(
    train: Split | tuple[Any, Any],
    test: Split | tuple[Any, Any],
    *,
    name: str = "arrays",
    task: str = "auto",
    loss: str = "auto",
    metric: str = "auto",
    class_weights: goals.ClassWeights = "",
    channels: str = "last",
    augment: bool = False,
    resident_bytes: int = 0,
    seed: int = 0,
    validation_fraction: float = 0.2,
) -> Dataset:
    """A data set from arrays `(x [N, ...], y [N])`; validation comes out of `train`.

    Args:
      train, test: rows, as arrays or data frames of numbers; y is [N] labels (integers
        or names), or [N] or [N, C] floats.
      name: for people.
      task: `classification`, `regression`, or `auto`: by the type of y.
      loss: that training minimises. Of numbers `auto` is the squared error, and
        `absolute_error` and `huber` heed outliers less; of labels it is cross-entropy.
      metric: that networks are compared by. Of labels `auto` is the accuracy, and `f1`
        the mean of the classes' F1; of numbers it is R².
      class_weights: what a row of each class counts, in the loss and the accuracy:
        `balanced` for as much in all as any other class, `{label: weight}` (1 for
        those left out), or weights in the order of the sorted labels, also as a text,
        `1,10`. Empty: alike.
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
    for part, split in (("train", train), ("test", test)):
        if not isinstance(split, tuple | list) or len(split) != 2:
            raise InputError(
                f"{name}, {part}: a pair (x, y) is needed, got a "
                f"{type(split).__name__}; from_arrays((x, y), (test_x, test_y))"
            )
    arrays.refuse_other_columns(train[0], test[0], name)
    (x, y), (test_x, test_y) = (
        arrays.checked(*split, f"{name}, {part}", channels)
        for split, part in ((train, "train"), (test, "test"))
    )
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
        y, test_y, labels = _classes(y, test_y, name)
        held_out = _stratified(y, validation_fraction, rng, name, labels)
    else:
        labels, held_out = (), _held_out(len(y), validation_fraction, rng, name)
    fit = np.setdiff1d(np.arange(len(y)), held_out)
    outputs, target_mean, target_scale = len(labels), (), ()
    if task == "regression":
        y, test_y, target_mean, target_scale = _standardised(y, test_y, fit, name)
        outputs = y.shape[1]
    if augment and x.ndim != 4:
        raise InputError(
            f"augment is for images [N, H, W, channels], and {name} has examples "
            f"of shape {x.shape[1:]}"
        )
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
        goal=goals.make(y[fit], labels, loss, metric, class_weights),
    )


def _classes(
    y: np.ndarray, test_y: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Labels as 0 .. k-1, [N] int32 of both splits, and what they stand for."""
    y, test_y = (
        labels.astype(np.int64) if _are_whole(labels) else labels
        for labels in (y, test_y)
    )
    for part, labels in (("train", y), ("test", test_y)):
        if labels.ndim != 1 or labels.dtype.kind not in "buiUS":
            raise InputError(
                f"{name}, {part}: labels must be integers or names, one for each "
                f"example, got {labels.dtype} of shape {labels.shape}; "
                + ("y.ravel() or, of one-hot rows, y.argmax(1); " * (labels.ndim == 2))
                + _REGRESSION
            )
    if (y.dtype.kind in "US") != (test_y.dtype.kind in "US"):
        raise InputError(
            f"{name}: labels are {y.dtype} in train and {test_y.dtype} in test; they "
            "must be numbers in both, or names in both"
        )
    # Names as h5py and some TFDS sets have them.
    y, test_y = (
        np.char.decode(part, "utf-8", "backslashreplace")
        if part.dtype.kind == "S"
        else part
        for part in (y, test_y)
    )
    known = np.unique(y)
    if len(known) < 2:
        raise InputError(
            f"{name}: all training labels are {known[0]}; classification needs at "
            "least two classes"
        )
    absent = np.setdiff1d(test_y, known)
    if len(absent):
        raise InputError(
            f"{name}: no training row has label {absent[0]}; every label of the test "
            f"rows must be present in train; {_REGRESSION}"
        )
    y, test_y = (np.searchsorted(known, labels) for labels in (y, test_y))
    return y.astype(np.int32), test_y.astype(np.int32), tuple(map(str, known))


def _are_whole(labels: np.ndarray) -> bool:
    """Whether these are integers written as floats."""
    if labels.dtype.kind != "f":
        return False
    return bool((np.isfinite(labels) & (labels == np.round(labels))).all())


def _stratified(
    y: np.ndarray,
    fraction: float,
    rng: np.random.Generator,
    name: str,
    labels: tuple[str, ...],
) -> np.ndarray:
    """Row numbers to validate on: the same share of every class."""
    held_out = np.sort(readers.stratified(y, fraction, rng))
    left = np.bincount(np.delete(y, held_out), minlength=len(labels))
    if not left.all():
        label = int(left.argmin())
        raise InputError(
            f"{name}: label {labels[label]} has {(y == label).sum()} training row(s), "
            f"and none is left when {fraction:g} of them validate; "
            + ("a smaller validation_fraction, or " * bool((y == label).sum() > 1))
            + f"more rows of it are needed; {_REGRESSION}"
        )
    return held_out


def _held_out(
    rows: int, fraction: float, rng: np.random.Generator, name: str
) -> np.ndarray:
    count = max(1, round(fraction * rows))
    if count >= rows:
        raise InputError(
            f"{name}: of {rows} training row(s) none is left when {fraction:g} of them "
            "validate; 2 or more are needed, or a smaller validation_fraction"
        )
    return np.sort(rng.permutation(rows)[:count])


def _standardised(
    y: np.ndarray, test_y: np.ndarray, fit: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray, tuple[float, ...], tuple[float, ...]]:
    """Targets [N, C] float32 of both splits in units of the rows `fit`, and these."""
    targets = []
    for part, values in (("train", y), ("test", test_y)):
        if values.dtype.kind not in "buif":
            raise InputError(
                f"{name}, {part}: targets of type {values.dtype}; regression needs "
                "numbers"
            )
        targets.append(values.reshape(len(values), -1).astype(np.float64))
        arrays.refuse_nan(targets[-1], f"{name}, {part}", "targets")
    if targets[0].shape[1] != targets[1].shape[1]:
        raise InputError(
            f"{name}: {targets[0].shape[1]} targets in train, {targets[1].shape[1]} "
            "in test; they must agree"
        )
    # Divided by the largest first: squares of tiny numbers would vanish.
    fitted = targets[0][fit]
    largest_of = np.abs(fitted).max(0, initial=0)
    unit = np.where(largest_of > 0, largest_of, 1.0)
    mean, spread = unit * (fitted / unit).mean(0), unit * (fitted / unit).std(0)
    if ((unit > _HUGE) | ((spread > 0) & (spread < _TINY))).any():
        raise InputError(
            f"{name}: targets up to {largest_of.max():g} that vary by {spread.min():g} "
            "are too large or too small for float32, in which networks compute; "
            "divide them by a constant"
        )
    # The mean of equal numbers is rounded, and so their spread is not quite zero.
    constant = spread <= 1e-12 * np.abs(mean)
    if constant.any():
        number = int(constant.argmax())
        raise InputError(
            f"{name}: target {number} is {mean[number]:g} in "
            "every training row; there is nothing to predict"
        )
    arrays.refuse_far(mean, spread, f"{name}: target")
    y, test_y = (((part - mean) / spread).astype(np.float32) for part in targets)
    return y, test_y, tuple(mean.tolist()), tuple((1 / spread).tolist())
