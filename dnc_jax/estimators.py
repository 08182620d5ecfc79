"""A search as estimators of scikit-learn: `fit`, `predict`, `score`."""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MultiOutputMixin,
    RegressorMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from dnc_jax.errors import InputError
from dnc_jax.search.budget import Budget
from dnc_jax.search.objective import Objective
from dnc_jax.search.results import Callback
from dnc_jax.search.run import search
from dnc_jax.search.spaces import make_space
from dnc_jax.search.strategies import halving
from dnc_jax.search.winner import retrain
from dnc_jax.training import data

_BATCH = 256  # of one shape: no row's output depends on how many come with it


class _Searched(BaseEstimator):
    """What classifier and regressor share: parameters, the search, the outputs."""

    def __init__(
        self,
        *,
        w_c: float = 0.0,
        candidates: int = 27,
        rungs: Sequence[int] = (3, 9, 27),
        epochs: int = 50,
        depth: tuple[int, int] = (0, 2),
        width: tuple[int, int] = (16, 256),
        activations: Sequence[str] = ("relu", "tanh", "sigmoid"),
        densities: Sequence[float] = (1.0,),
        learning_rate: tuple[float, float] = (1e-4, 1e-1),
        loss: str = "auto",
        metric: str = "auto",
        class_weight: Any = None,
        budget_seconds: float = 0.0,
        validation_fraction: float = 0.2,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.w_c = w_c
        self.candidates = candidates
        self.rungs = rungs
        self.epochs = epochs
        self.depth = depth
        self.width = width
        self.activations = activations
        self.densities = densities
        self.learning_rate = learning_rate
        self.loss = loss
        self.metric = metric
        self.class_weight = class_weight
        self.budget_seconds = budget_seconds
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.verbose = verbose

    def _search(self, x: Any, y: Any, task: str) -> None:
        seed = int(check_random_state(self.random_state).randint(2**31))
        arrays = data.from_arrays(
            (x, y),
            # Whoever fits keeps test rows back; nothing reads the result on this one.
            (x[:1], y[:1]),
            name=type(self).__name__,
            task=task,
            loss=self.loss,
            metric=self.metric,
            class_weight="" if self.class_weight is None else self.class_weight,
            seed=seed,
            validation_fraction=self.validation_fraction,
        )._replace(columns=tuple(getattr(self, "feature_names_in_", ())))
        space = make_space(
            arrays,
            depth=_listed(self.depth),
            width=_listed(self.width),
            activations=_listed(self.activations),
            densities=_listed(self.densities),
            learning_rate=_listed(self.learning_rate),
        )
        objective = Objective(w_c=self.w_c)
        strategy = halving(space, candidates=self.candidates, rungs=_listed(self.rungs))
        budget = Budget(seconds=self.budget_seconds)
        with self._told(strategy.candidate_epochs, arrays.metric) as progress:
            self.result_ = search(
                space,
                arrays,
                objective,
                strategy,
                seed=seed,
                budget=budget,
                callback=progress,
            )
            self.network_ = retrain(
                self.result_,
                space,
                arrays,
                objective,
                seed=seed,
                epochs=self.epochs,
                refit=True,
                callback=progress,
            ).network

    def _told(
        self, candidate_epochs: int, metric: str
    ) -> contextlib.AbstractContextManager[Callback]:
        """Whom search and training tell how they go."""
        if not self.verbose:
            return contextlib.nullcontext(Callback())
        # Brings plotly, which nobody else who fits has to import.
        from dnc_jax.report.terminal import ProgressReport, console

        return ProgressReport(console(), candidate_epochs, metric)

    def _outputs(self, x: Any) -> np.ndarray:
        """Of the network for each row, standardised in regression: [N, C] float32."""
        check_is_fitted(self)
        x = np.asarray(validate_data(self, x, reset=False), np.float32)
        rows = -(-len(x) // _BATCH) * _BATCH
        padded = np.pad(x, ((0, rows - len(x)), (0, 0)))
        batches = padded.reshape(-1, _BATCH, x.shape[1])
        parts = [np.asarray(self.network_.standardised(batch)) for batch in batches]
        return np.concatenate(parts)[: len(x)]


def _listed(values: Any) -> Any:
    """As a tuple; what is no list is left to whoever refuses it by its name."""
    return tuple(values) if isinstance(values, list | tuple | np.ndarray) else values


class DncClassifier(ClassifierMixin, _Searched):
    """A classifier of tables: searches for an MLP that is good and cheap.

    `fit` compares candidates on validation rows that it takes out of the training
    rows, then trains the best at full length on all of them. It works wherever an
    estimator of scikit-learn does: in pipelines, cross-validation, grid search.

    Args:
      w_c: weight of a network's parameters against its error, 0 (error alone) to 10.
      candidates: networks that the search begins with.
      rungs: epochs after which only the better third goes on.
      epochs: of the best network's full-length training.
      depth: least and most hidden layers.
      width: least and most nodes of a hidden layer.
      activations: to choose from, those of `dnc_jax.networks.MLP`.
      densities: kept fractions of a layer's weights to choose from; 1 is dense.
      learning_rate: least and largest.
      loss, metric: that training minimises and candidates are compared by, as in
        `data.from_arrays`.
      class_weight: what a row of each class counts, in the loss and, of the metric
        `auto`, in the accuracy: `balanced`, `{label: weight}`, or None, alike.
      budget_seconds: after which the search ends with the best so far; the full-length
        training comes after. 0 is no cap.
      validation_fraction: of the rows, for the comparison.
      random_state: an int gives the same network every time.
      verbose: whether to print how the search goes: a bar on a terminal, else a line
        for each rung.

    Attributes:
      classes_: labels, sorted.
      n_features_in_: columns of the training rows.
      network_: the `dnc_jax.Network`, for `dnc_jax.save` and `dnc_jax.export`.
      result_: the `dnc_jax.SearchResult`, for `dnc_jax.report`.

    >>> from sklearn.datasets import load_iris
    >>> x, y = load_iris(return_X_y=True)
    >>> model = DncClassifier(candidates=2, rungs=(3,), depth=(0, 0), random_state=0)
    >>> model.fit(x, y).predict_proba(x).shape
    (150, 3)
    """

    def fit(self, X: Any, y: Any) -> "DncClassifier":  # noqa: N803
        """Searches, and trains the best network.

        Args:
          X: [N, D] numbers.
          y: [N] labels: integers or names.

        Raises:
          ValueError: as scikit-learn's estimators do.
          InputError: fewer than two classes, a class of one row, or a parameter that
            is impossible.
        """
        x, y = validate_data(self, X, y, ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        self._search(x, y, "classification")
        return self

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Probabilities [N, C] of the classes, in the order of `classes_`."""
        return softmax(self._outputs(X), axis=1)

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The most probable class of each row: [N]."""
        best = self._outputs(X).argmax(1)
        return self.classes_[best]


class DncRegressor(MultiOutputMixin, RegressorMixin, _Searched):
    """A regressor of tables: searches for an MLP that is good and cheap.

    As `DncClassifier`, with the same parameters; the error is 1 - R².

    Attributes:
      n_features_in_: columns of the training rows.
      network_: the `dnc_jax.Network`, for `dnc_jax.save` and `dnc_jax.export`; called
        itself, it predicts in float32.
      result_: the `dnc_jax.SearchResult`, for `dnc_jax.report`.
    """

    def fit(self, X: Any, y: Any) -> "DncRegressor":  # noqa: N803
        """Searches, and trains the best network.

        Args:
          X: [N, D] numbers.
          y: [N] or [N, C] numbers.

        Raises:
          ValueError: as scikit-learn's estimators do.
          InputError: a constant target, or a parameter that is impossible.
        """
        x, y = validate_data(
            self, X, y, multi_output=True, y_numeric=True, ensure_min_samples=2
        )
        targets = y.reshape(len(y), -1)
        if (constant := (targets == targets[0]).all(axis=0)).any():
            number = int(constant.argmax())
            raise InputError(
                f"target {number} is {targets[0, number]:g} in every row; there is "
                "nothing to predict"
            )
        self._one = y.ndim == 1
        # Targets may lie too far from 0 for float32, in which networks compute.
        near = y.mean(axis=0)
        self._search(x, y - near, "regression")
        mean = tuple((np.array(self.network_.target_mean) + near).tolist())
        self.network_ = dataclasses.replace(self.network_, target_mean=mean)
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """In the units of the targets: [N] or [N, C] float64, as `fit` had them."""
        outputs = self._outputs(X).astype(np.float64)
        outputs = outputs / self.network_.target_scale + self.network_.target_mean
        return outputs[:, 0] if self._one else outputs
