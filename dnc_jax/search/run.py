"""The search loop: ask, train, score, store, tell."""

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any

from dnc_jax.errors import InputError, check_kind
from dnc_jax.footprint import Meter
from dnc_jax.search.budget import CAPS, Budget, Spending
from dnc_jax.search.constraints import NO_CONSTRAINTS, Constraints
from dnc_jax.search.forecast import Calibration, Forecast, forecast
from dnc_jax.search.objective import Objective
from dnc_jax.search.problem import Problem, keys
from dnc_jax.search.results import Callback, SearchResult
from dnc_jax.search.rungs import Rungs
from dnc_jax.search.scoring import Scorer
from dnc_jax.search.space import Space
from dnc_jax.search.strategies import Strategy, halving
from dnc_jax.search.trials import Store, Trial
from dnc_jax.training import processes
from dnc_jax.training.costs import CostModel
from dnc_jax.training.data import Dataset
from dnc_jax.typing import FilePath


def check(
    space: Space,
    data: Dataset,
    objective: Objective,
    strategy: Strategy,
    *,
    seed: int,
    constraints: Constraints = NO_CONSTRAINTS,
    budget: Budget | None = None,
    meter: Meter | None = None,
    calibration: Calibration | None = None,
    cost_model: CostModel | None = None,
) -> None:
    """Whether `search` can begin with these arguments; nothing is written or trained.

    Several processes have to call it together.

    Raises:
      InputError: the objective is not for this data or machine, the seed is out of
        range, the space yields no candidates, or the budget ends before the first rung
        or caps energy that nobody counts.
    """
    problem = Problem(space, data, objective, strategy, constraints, seed)
    _refuse_other_kinds(**problem._asdict(), budget=budget, meter=meter)
    own, meter = _counted_here(budget or Budget(), meter)
    Scorer(problem, meter)
    own.check_counted(meter)
    state = strategy.init(keys(seed).strategy)
    strategy.ask(state)
    if budget and any(getattr(budget, cap) for cap in CAPS):  # else no rehearsal
        expected = forecast(
            strategy, state, data, calibration, cost_model, measured=problem.measured
        )
        _refuse_together(own, expected)


def search(
    space: Space,
    data: Dataset,
    objective: Objective | None = None,
    strategy: Strategy | None = None,
    *,
    seed: int,
    store: Store | None = None,
    folder: FilePath | None = None,
    prior: Sequence[Trial] = (),
    constraints: Constraints = NO_CONSTRAINTS,
    budget: Budget | None = None,
    meter: Meter | None = None,
    calibration: Calibration | None = None,
    cost_model: CostModel | None = None,
    callback: Callback | None = None,
) -> SearchResult:
    """Runs `strategy` to its end, training each rung's candidates together.

    The same seed and `cost_model` on the same machine give the same trials, bit for
    bit, unless a budget of time or energy cuts the search short, or measured seconds or
    joules count. A search that was interrupted goes on, with its store and folder,
    where it stopped: it repeats the last epoch at most, or `under_way.SAVE_SECONDS`,
    and ends as if there had been no interruption; but budgets of time and energy count
    from each start.

    Args:
      space: where the strategy's candidates come from; complexity is relative to
        its largest network.
      data: the test split is not touched.
      objective: what is minimised; None is the validation error alone.
      strategy: who is asked for candidates; None is `halving(space)`.
      seed: of everything random.
      store: receives trials as soon as networks that train together end a rung.
      folder: of the store; networks under way are kept there.
      prior: trials of another search over the same data, validation rows and goal. A
        candidate that it has trained as long, by the same schedule, is scored anew and
        not trained again.
      constraints: those that are measured; `constraints.limited(space)` sees to the
        others.
      budget: caps at which the search ends with the best so far.
      meter: already entered; its energy is capped and divided among the trials, and
        read where objective or constraints ask for joules. Of several processes the
        first counts.
      calibration: from earlier searches on this machine, for the forecast.
      cost_model: constants by which networks are grouped, as `machine.cost_model`
        measures them; those in the store go before.
      callback: told of progress.

    Returns:
      What was found and what it took, see `SearchResult`.

    Raises:
      InputError: as `check` does, or not one candidate was, or can be, evaluated within
        the budget, or the store cannot be written.
      OSError: the folder cannot be written.
    """
    begin = time.perf_counter()
    callback = callback or Callback()
    if strategy is None:
        check_kind(*_KINDS["space"], space=space)
        strategy = halving(space)
    problem = Problem(
        space, data, objective or Objective(), strategy, constraints, seed
    )
    _refuse_other_kinds(
        **problem._asdict(),
        store=store,
        budget=budget,
        meter=meter,
        callback=callback,
    )
    budget, meter = _counted_here(budget or Budget(), meter)
    spending = Spending(budget, meter)
    rungs = Rungs(
        problem,
        store=store,
        folder=folder,
        meter=meter,
        prior=prior,
        cost_model=cost_model,
        on_epoch=callback.on_epoch,
        should_stop=lambda: bool(spending.reached()),
    )
    state = strategy.init(keys(seed).strategy)
    expected = None
    if rungs.anew:
        programs = rungs.programs
        expected = forecast(
            strategy,
            state,
            data,
            calibration,
            programs.cost,
            programs.resources,
            problem.measured,
        )
        _refuse_together(budget, expected)
        callback.on_forecast(expected)
    trials: list[Trial] = []
    planned = 0
    while evaluations := strategy.ask(state):
        planned += sum(e.stop - e.start for e in evaluations)
        if spending.exceeded_by(planned):
            ended_by, complete = "candidate_epochs", False
            break
        callback.on_rung_start(evaluations)
        rung, resumed = rungs.run(evaluations)
        trials += rung
        complete = len(rung) == len(evaluations)
        if complete:
            scores = [t.score if t.status == "done" else math.inf for t in rung]
            state = strategy.tell(state, scores)
            rungs.keep({e.candidate_id for e in strategy.ask(state)})
        callback.on_rung_end(rung, resumed, rungs.flops)
        ended_by = _agreed(spending.reached())
        if ended_by or not complete:
            break
    else:
        ended_by, complete = None, True
    if not trials:
        raise InputError(
            f"budget.{ended_by} = {getattr(budget, str(ended_by)):g} ended before any "
            "candidate was trained; allow more, or fewer candidates"
        )
    complete = complete and not strategy.ask(state)
    return SearchResult(
        trials=trials,
        candidate_epochs=rungs.candidate_epochs,
        search_seconds=time.perf_counter() - begin,
        compile_seconds=rungs.programs.seconds.compiling,
        complete=complete,
        flops=rungs.flops,
        programs={str(shape): one for shape, one in rungs.programs.accounts.items()},
        forecast=expected,
        attribution=rungs.ledger.attribution(),
        ended_by=None if complete else ended_by,
        metric=data.metric,
    )


# What an argument has to be, and how one is made.
_KINDS: dict[str, tuple[type, str]] = {
    "space": (Space, "make_space(data)"),
    "data": (Dataset, "from_arrays((x, y), (test_x, test_y))"),
    "objective": (Objective, "Objective(w_c=0.1)"),
    "strategy": (Strategy, "halving(space)"),
    "store": (Store, 'Store("trials.sqlite", {})'),
    "constraints": (Constraints, "Constraints(max_seconds_per_epoch=1.0)"),
    "budget": (Budget, "Budget(seconds=60)"),
    "meter": (Meter, "Meter(find()), entered"),
    "callback": (Callback, "MyCallback() of a class that derives from it"),
}


def _refuse_other_kinds(**arguments: Any) -> None:
    """Refuses arguments of another kind; None stands for those that are optional.

    Raises:
      InputError: names the argument, its kind and an example.
    """
    for name, (kind, example) in _KINDS.items():
        if name not in arguments:  # of this function
            continue
        value = arguments[name]
        if value is not None or name not in ("store", "budget", "meter"):
            check_kind(kind, example, **{name: value})


def _counted_here(budget: Budget, meter: Meter | None) -> tuple[Budget, Meter | None]:
    """What this process has to count and to cap; process 0 counts energy for all."""
    if processes.is_first():
        return budget, meter
    return dataclasses.replace(budget, watt_hours=0.0, grams_co2e=0.0), None


def _refuse_together(budget: Budget, expected: Forecast) -> None:
    """`budget.check` by the forecast of process 0, in every process.

    Forecasts differ where one process has seen searches before and another has not.
    """
    refusal = ""
    if processes.is_first():
        try:
            budget.check(expected)
        except InputError as error:
            refusal = str(error)
    refusal = processes.from_first(refusal)
    if refusal:
        raise InputError(refusal)


def _agreed(cap: str | None) -> str | None:
    """The cap that any process has reached, the same in all of them."""
    flags = processes.any_of(1 << CAPS.index(cap) if cap else 0)
    return next((name for i, name in enumerate(CAPS) if flags >> i & 1), None)
