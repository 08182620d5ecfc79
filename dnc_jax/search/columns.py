"""Trials as columns: what plots, tables and data frames are made of."""

import math
from collections.abc import Sequence
from typing import Any

from dnc_jax.search.space import Candidate
from dnc_jax.search.trials import Trial, each

Value = int | float | str


def hyperparameters(candidate: Candidate) -> dict[str, Value]:
    """Everything that a search may vary, by name; lists entry by entry.

    >>> from dnc_jax.networks import MLP
    >>> from dnc_jax.training import Hyperparameters
    >>> candidate = Candidate(MLP(64, (20, 30), 10), Hyperparameters(0.01))
    >>> {k: v for k, v in hyperparameters(candidate).items() if "hidden" in k}
    {'hidden count': 2, 'hidden 1': 20, 'hidden 2': 30}
    """
    fields = candidate.to_json()
    fields |= fields.pop("architecture")
    sparsity = fields.pop("sparsity", ())
    values: dict[str, Value] = {}
    for name, value in fields.items():
        label = name.replace("_", " ")
        if isinstance(value, list | tuple):
            values[f"{label} count"] = len(value)
            values |= {f"{label} {i}": one for i, one in enumerate(value, 1)}
        elif value is not None:
            values[label] = value
    if any(sparsity):
        values["density"] = candidate.architecture.density
        for i, one in enumerate(sparsity, 1):
            values[f"density {i}"] = one["density"] if one else 1.0
            if one:
                values[f"family {i}"] = one["family"]
                values[f"block {i}"] = "{} x {}".format(*one["block"])
    return values


def varied(candidates: Sequence[Candidate]) -> dict[str, list[Value | None]]:
    """Hyperparameters that differ between candidates, one entry for each candidate.

    None stands where a candidate has no such hyperparameter: the second layer of a
    network with one.
    """
    rows = [hyperparameters(candidate) for candidate in candidates]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return {name: column for name, column in columns.items() if len(set(column)) > 1}


def table(trials: Sequence[Trial]) -> dict[str, list[Any]]:
    """All trials as columns of equal length: `pandas.DataFrame(table(trials))`.

    Hyperparameters bear the prefix `candidate.`; missing ones are None. `val_loss` and
    `val_accuracy` are the best of all epochs, each by itself.
    """
    rows = [
        {
            "candidate_id": trial.candidate_id,
            "rung": trial.rung,
            "epochs": trial.epochs,
            "status": trial.status,
            "score": trial.score if math.isfinite(trial.score) else None,
            "val_loss": min(trial.val_loss, default=None),
            "val_accuracy": max(trial.val_accuracy, default=None),
            **trial.complexity._asdict(),
            "schedule_epochs": trial.schedule_epochs,
            "seconds": trial.seconds,
            "joules": trial.joules,
            **{f"epoch_{term}": n for term, n in trial.epoch_cost._asdict().items()},
            "network": str(trial.candidate.architecture),
            **{
                f"candidate.{name.replace(' ', '_')}": value
                for name, value in hyperparameters(trial.candidate).items()
            },
        }
        for trial in each(trials)
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
