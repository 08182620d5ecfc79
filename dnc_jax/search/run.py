"""The search loop: ask, train, score, store, tell."""

import math
import pathlib
import time
from collections.abc import Callable, Sequence

from dnc_jax.errors import InputError
from dnc_jax.search.constraints import NO_CONSTRAINTS, Constraints
from dnc_jax.search.objective import Objective
from dnc_jax.search.results import Callback, Callbacks, SearchResult, Winner
from dnc_jax.search.rungs import Rungs, keys
from dnc_jax.search.scoring import Scorer
from dnc_jax.search.space import Space
from dnc_jax.search.strategies import Strategy, halving
from dnc_jax.search.trials import Store, Trial
from dnc_jax.search.winner import retrain
from dnc_jax.training import processes
from dnc_jax.training.data import Dataset

__all__ = [
    "Callback",
    "Callbacks",
    "SearchResult",
    "Winner",
    "check",
    "retrain",
    "search",
]


def check(
    space: Space,
    data: Dataset,
    objective: Objective,
    strategy: Strategy,
    *,
    seed: int,
    constraints: Constraints = NO_CONSTRAINTS,
    read_joules: Callable[[], float] | None = None,
) -> None:
    """Whether `search` can begin with these arguments; nothing is written or trained.

    Raises:
      InputError: the objective is not for this data or machine, the seed is out of
        range, or the space yields no candidates.
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"seed must lie in [0, 2**32), got {seed}")
    strategy_key, candidate_key, _ = keys(seed)
    Scorer(
        space,
        data,
        objective,
        constraints,
        candidate_key,
        strategy.epochs,
        read_joules,
    )
    strategy.ask(strategy.init(strategy_key))


def search(
    space: Space,
    data: Dataset,
    objective: Objective | None = None,
    strategy: Strategy | None = None,
    *,
    seed: int,
    store: Store | None = None,
    folder: pathlib.Path | None = None,
    prior: Sequence[Trial] = (),
    constraints: Constraints = NO_CONSTRAINTS,
    max_seconds: float = math.inf,
    read_joules: Callable[[], float] | None = None,
    callback: Callback | None = None,
) -> SearchResult:
    """Runs `strategy` to its end, training each rung's candidates together.

    The same seed on the same machine gives the same trials, bit for bit, unless
    `max_seconds` cuts the search short. A search that was interrupted goes on, with
    its store and folder, where it stopped: it repeats the last epoch at most, or
    `under_way.SAVE_SECONDS`, and ends as if there had been no interruption.

    Args:
      space: where the strategy's candidates come from; complexity is relative to
        its largest network.
      data: the test split is not touched.
      objective: what is minimised; None is the validation error alone.
      strategy: who is asked for candidates; None is `halving(space)`.
      seed: of everything random.
      store: receives trials as soon as networks that train together end a rung.
      folder: of the store; networks under way are kept there.
      prior: trials of another search over the same data and validation rows. A
        candidate that it has trained as long, by the same schedule, is scored anew and
        not trained again.
      constraints: those that are measured; `constraints.limited(space)` sees to the
        others.
      max_seconds: the search ends after this time with the best so far.
      read_joules: energy that the machine has taken so far, such as that of a `Meter`;
        needed where objective or constraints ask for joules.
      callback: told of progress.

    Raises:
      InputError: as `check` does, or not one candidate was evaluated within
        `max_seconds`, or the store cannot be written.
      OSError: the folder cannot be written.
    """
    begin = time.perf_counter()
    callback = callback or Callback()
    strategy = strategy or halving(space)

    def out_of_time() -> bool:
        return time.perf_counter() - begin > max_seconds

    strategy_key, candidate_key, _ = keys(seed)
    rungs = Rungs(
        Scorer(
            space,
            data,
            objective or Objective(),
            constraints,
            candidate_key,
            strategy.epochs,
            read_joules,
        ),
        data,
        seed=seed,
        epochs=strategy.epochs,
        store=store,
        folder=folder,
        prior=prior,
        on_epoch=callback.on_epoch,
        should_stop=out_of_time,
    )
    state = strategy.init(strategy_key)
    trials: list[Trial] = []
    while evaluations := strategy.ask(state):
        callback.on_rung_start(evaluations)
        rung, resumed = rungs.run(evaluations)
        trials += rung
        complete = len(rung) == len(evaluations)
        if complete:
            scores = [t.score if t.status == "done" else math.inf for t in rung]
            state = strategy.tell(state, scores)
            rungs.keep({e.candidate_id for e in strategy.ask(state)})
        callback.on_rung_end(rung, resumed)
        if not complete or processes.any_of(out_of_time()):
            break
    else:
        complete = True
    if not trials:
        raise InputError(
            f"budget.seconds = {max_seconds:g} ended before any candidate was "
            "trained; allow more time or fewer candidates"
        )
    return SearchResult(
        trials,
        rungs.candidate_epochs,
        time.perf_counter() - begin,
        rungs.programs.compile_seconds / rungs.programs.workers,
        complete and not strategy.ask(state),
        rungs.flops,
        {str(shape): one for shape, one in rungs.programs.accounts.items()},
    )
