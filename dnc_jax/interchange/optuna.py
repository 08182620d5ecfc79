"""Optuna: trials written to a study, and its samplers as strategies."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dnc_jax.errors import InputError, check_whole, load_tool
from dnc_jax.search import Candidate, Choice, Integer, Space, Trial
from dnc_jax.search.columns import hyperparameters
from dnc_jax.search.dimensions import Dimension, is_active
from dnc_jax.search.strategies import Evaluation, Strategy
from dnc_jax.search.strategies.base import check_told
from dnc_jax.search.trials import longest
from dnc_jax.typing import Key

_TRIES = 1000  # asked of a sampler for each candidate that the space allows
# Samplers of Optuna 5 whose memory is not in the trials alone.
_FORGETFUL = {"BaseGASampler", "CmaEsSampler", "GridSampler", "QMCSampler"}


class Told(NamedTuple):
    """A point that a sampler proposed: as it did, and its score once known."""

    params: dict[str, Any]
    distributions: dict[str, Any]
    score: float = np.nan


class State(NamedTuple):
    """Where a search by a sampler stands."""

    seed: int
    told: tuple[Told, ...]
    asked: tuple[tuple[Told, Candidate], ...]


def to_study(trials: Sequence[Trial], name: str, storage: Any = None) -> Any:
    """A new Optuna study of these trials, one for each candidate, at its last rung.

    Values are scores, to be minimised; intermediate values validation errors by epoch.
    Candidates that were stopped before the last rung count as pruned, those that
    diverged, or exceed a limit that is measured, as failed.

    Args:
      trials: of a search.
      name: of the study, a new one.
      storage: as for `optuna.create_study`: a URL such as `sqlite:///trials.db`, which
        optuna-dashboard opens; None keeps the study in memory.

    Returns:
      The `optuna.Study`.

    Raises:
      InputError: Optuna is not installed, the study exists, or the storage cannot be
        used.
    """
    optuna = load_tool("optuna", "optuna")
    last = longest(trials)
    values = {i: hyperparameters(t.candidate) for i, t in last.items()}
    names = dict.fromkeys(key for row in values.values() for key in row)
    distributions = {
        key: _observed(optuna, [row[key] for row in values.values() if key in row])
        for key in names
    }
    try:
        study = optuna.create_study(study_name=name, storage=storage)
    except optuna.exceptions.DuplicatedStudyError as error:
        raise InputError(
            f"{storage} holds a study {name!r} already; use another storage or name"
        ) from error
    except Exception as error:  # of whichever library keeps the storage
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"no study can be kept in {storage}: {reason}; a file is named as "
            "sqlite:///trials.db"
        ) from error
    end = max((t.epochs for t in last.values()), default=0)
    states = optuna.trial.TrialState
    for number, trial in last.items():
        done = trial.status == "done"
        stopped = states.COMPLETE if trial.epochs == end else states.PRUNED
        study.add_trial(
            optuna.trial.create_trial(
                state=stopped if done else states.FAIL,
                value=trial.score if done else None,
                params=values[number],
                distributions={key: distributions[key] for key in values[number]},
                intermediate_values={
                    epoch: 1 - accuracy
                    for epoch, accuracy in enumerate(trial.val_accuracy, 1)
                },
                user_attrs={
                    "network": str(trial.candidate.architecture),
                    "epochs": trial.epochs,
                    **trial.complexity._asdict(),
                },
            )
        )
    return study


def sampled(
    space: Space,
    sampler: Callable[[int], Any],
    *,
    candidates: int = 64,
    batch: int = 8,
    epochs: int = 27,
) -> Strategy:
    """A strategy whose candidates an Optuna sampler proposes.

      sampled(space, lambda seed: optuna.samplers.TPESampler(seed=seed))

    Each is trained for all of its epochs. A sampler keeps what it knows to itself, a
    strategy must not; so a new one is made for every turn and told all of the past,
    and a search stays reproducible and can be resumed.

    Args:
      space: of named dimensions.
      sampler: makes a sampler from a seed.
      candidates: in all.
      batch: proposed before the scores of any of them are known.
      epochs: of each.

    Raises:
      InputError: Optuna is not installed, a count below 1, a sampler instead of what
        makes one, or, from `init`, a sampler that finds no candidate that the space
        allows, or that keeps what it knows in its study (QMC, genetic algorithms,
        CMA-ES, grids) and so would forget it.
    """
    optuna = load_tool("optuna", "optuna")
    candidates, batch, epochs = check_whole(
        1, candidates=candidates, batch=batch, epochs=epochs
    )

    if not callable(sampler):
        raise InputError(
            f"sampler must make a sampler from a seed, such as lambda seed: "
            f"{type(sampler).__name__}(seed=seed), got a {type(sampler).__name__}"
        )

    def propose(seed: int, told: tuple[Told, ...]) -> State:
        wanted = min(batch, candidates - len(told))
        own = sampler(seed + len(told))
        if {kind.__name__ for kind in type(own).__mro__} & _FORGETFUL:
            raise InputError(
                f"{type(own).__name__} keeps what it knows in its study, which is new "
                "for every batch here; TPESampler, GPSampler and RandomSampler do not"
            )
        study = _study(optuna, own, told)
        asked: list[tuple[Told, Candidate]] = []
        for _ in range(_TRIES * wanted):
            if len(asked) == wanted:
                break
            trial = study.ask()
            candidate = space.build(_suggest(trial, space))
            if space.allows(candidate):
                point = Told(trial.params, trial.distributions)
                asked.append((point, candidate))
        if not asked and not told:
            raise InputError(
                f"the sampler proposed {_TRIES * wanted} candidates and none is "
                "allowed; widen the space"
            )
        return State(seed, told, tuple(asked))

    def init(key: Key) -> State:
        return propose(int(jax.random.key_data(key)[-1]) % 2**31, ())

    def ask(state: State) -> list[Evaluation]:
        return [
            Evaluation(number, candidate, 0, 0, epochs)
            for number, (_, candidate) in enumerate(state.asked, len(state.told))
        ]

    def tell(state: State, scores: Sequence[float]) -> State:
        check_told(len(state.asked), scores)
        told = tuple(
            point._replace(score=float(score))
            for (point, _), score in zip(state.asked, scores, strict=True)
        )
        return propose(state.seed, state.told + told)

    return Strategy(init, ask, tell, epochs, candidates * epochs)


def _study(optuna: Any, sampler: Any, told: Sequence[Told]) -> Any:
    study = optuna.create_study(sampler=sampler)
    for point in told:
        finite = np.isfinite(point.score)
        states = optuna.trial.TrialState
        study.add_trial(
            optuna.trial.create_trial(
                state=states.COMPLETE if finite else states.FAIL,
                value=point.score if finite else None,
                params=point.params,
                distributions=point.distributions,
            )
        )
    return study


def _suggest(trial: Any, space: Space) -> dict[str, Any]:
    """Values of the active dimensions, rounded as the space rounds them."""
    values: dict[str, Any] = {}
    for name, one in space.dimensions.items():
        if is_active(one, values):
            values[name] = _suggest_one(trial, name, one)
    return values


def _suggest_one(trial: Any, name: str, one: Dimension) -> Any:
    if isinstance(one, Choice):
        # By their names, which tell 1 from "1": Optuna stores no tuples.
        known = {repr(value): value for value in one.values}
        return known[trial.suggest_categorical(name, list(known))]
    if isinstance(one, Integer):
        # Optuna's logarithmic integers know no step.
        step = 1 if one.log else one.step
        value = trial.suggest_int(name, one.low, one.high, log=one.log, step=step)
    else:
        value = trial.suggest_float(name, one.low, one.high, log=one.log)
    return one.decode(np.array([one.encode(value)]))[0]


def _observed(optuna: Any, values: Sequence[Any]) -> Any:
    """A distribution that holds these values."""
    if any(isinstance(value, str | bool) for value in values):
        return optuna.distributions.CategoricalDistribution(sorted(set(values)))
    if all(isinstance(value, int) for value in values):
        return optuna.distributions.IntDistribution(min(values), max(values))
    return optuna.distributions.FloatDistribution(min(values), max(values))
