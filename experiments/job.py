"""The main job, from data to saved network, which several launch files share."""

import contextlib
import json
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from dnc_jax import report
from dnc_jax.errors import InputError
from dnc_jax.footprint import Assumed, Meter, carbon, find
from dnc_jax.report import terminal
from dnc_jax.report.folder import BEST, SUMMARY, TRIALS
from dnc_jax.report.live import Reporter
from dnc_jax.report.summary import tidy
from dnc_jax.search import Constraints, Objective, Space, Store, Trial, make_space
from dnc_jax.search.budget import Budget
from dnc_jax.search.forecast import calibration
from dnc_jax.search.problem import Problem
from dnc_jax.search.results import Callback, Callbacks
from dnc_jax.search.run import check, search
from dnc_jax.search.rungs import refuse_other_rows, shared
from dnc_jax.search.strategies import make
from dnc_jax.search.trials import read, read_fact
from dnc_jax.search.winner import retrain
from dnc_jax.training import (
    checkpoints,
    compilation,
    machine,
    processes,
    resources,
)
from dnc_jax.training.costs import CostModel
from experiments import checks, launch, profiling


class Described(NamedTuple):
    """What a config describes, checked."""

    problem: Problem
    budget: Budget
    grid: carbon.Grid | None
    assumed: Assumed | None


def describe(config: launch.Config, space: Space | None = None) -> Described:
    """Reads the data and makes everything else that `config` describes.

    Args:
      config: of a search.
      space: instead of the one that `config.space` describes.

    Raises:
      InputError: an impossible value.
    """
    out = launch.console()
    objective = checks.call(Objective, config, "objective")
    grid = launch.grid(config)
    if config.budget.grams_co2e and not grid:
        raise InputError(
            "budget.grams_co2e needs to know whose grid it is: energy.region, such "
            "as FR, or energy.intensity, in grams a kWh"
        )
    budget = checks.call(Budget, config, "budget", grid=grid)
    assumed = launch.assumed_power(config)
    terminal.say(out, f"dnc_jax: reading {config.data.name}")
    data = launch.load_data(config)
    terminal.say(out, str(data))
    constraints = checks.call(Constraints, config, "constraints")
    space = space or checks.call(make_space, config, "space", data)
    with checks.named("constraints", config.constraints):
        space = constraints.limited(space)
    strategy = checks.call(make, config, "search", space)
    problem = Problem(space, data, objective, strategy, constraints, config.seed)
    return Described(problem, budget, grid, assumed)


def run(
    config: launch.Config,
    workdir: pathlib.Path,
    *,
    forks: Sequence[pathlib.Path] = (),
    space: Space | None = None,
    recorded: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Searches, retrains the winner, saves and reports; goes on where it stopped.

    Args:
      config: of the search.
      workdir: receives everything.
      forks: work folders of searches over the same data whose trials are taken over.
      space: instead of the one that `config.space` describes.
      recorded: what else decides the outcome, stored with the config: a work folder
        with another is refused.

    Raises:
      InputError: an impossible value, or a work folder with another search.
    """
    begin = time.perf_counter()
    problem, budget, grid, assumed = describe(config, space)
    digest = problem.data.digest() if forks else ""
    prior = [trial for folder in forks for trial in _prior(folder, config, digest)]
    if processes.is_first():
        launch.check_folder(workdir)
        checkpoints.check_place(workdir / BEST)
    cost_model = _cost_model(workdir)
    watts = assumed.watts if assumed else 0.0
    meter = Meter(find(), idle_seconds=config.energy.idle_seconds, assumed=assumed)
    asked: dict[str, Any] = {
        **problem._asdict(),
        "meter": meter,
        "calibration": calibration(_others(workdir.parent), watts, cost_model),
        "cost_model": cost_model,
    }
    begun = processes.from_first(workdir.exists())
    check(**asked, budget=None if begun else budget)
    asked |= {"budget": budget, "prior": prior}
    if not processes.is_first():
        # It trains its share; process 0 reads, writes and reports.
        if not processes.from_first(None):
            search(**asked)
        return
    out = launch.console()
    terminal.say(out, f"results go to {workdir}")
    workdir.mkdir(parents=True, exist_ok=True)
    recorded = {**config.to_dict(), **recorded}
    with Store(workdir / TRIALS, recorded, free=("budget",)) as store:
        path = workdir / SUMMARY
        found = _finished(path)
        if found:
            if not store.trials():
                raise InputError(
                    f"{path} tells of a search that {TRIALS} knows nothing of; move "
                    f"{workdir} away, or name another --workdir"
                )
            refuse_other_rows(store, problem.data.name, problem.data.digest())
        if found and store.changed and not found["complete"]:
            terminal.say(out, f"{workdir}: another budget, so the search goes on")
            path.unlink()
            found = None
        elif found and not (workdir / BEST).exists():
            raise InputError(
                f"{workdir} holds this search, finished, but {BEST}/ is gone; without "
                f"{SUMMARY} the same command trains the winner again, and counts "
                "seconds and energy anew"
            )
        processes.from_first(found is not None)
        if found:
            tidy(workdir, found)  # it may have been killed just before
            terminal.say(out, f"{workdir} holds this search, finished:")
            terminal.show(out, found, store.trials(), workdir)
            return
        with meter, _progress(problem, workdir, meter) as callback:
            result = search(**asked, store=store, folder=workdir, callback=callback)
            winner = retrain(
                result,
                problem.space,
                problem.data,
                problem.objective,
                seed=config.seed,
                epochs=config.train.epochs,
                refit=config.train.refit,
                folder=workdir,
                callback=callback,
            )
        summary = report.summarise(
            result,
            winner,
            problem.data,
            problem.objective,
            seed=config.seed,
            energy=meter.energy(result.flops + winner.flops),
            grid=grid,
            total_seconds=time.perf_counter() - begin,
        )
        report.finish(workdir, winner, summary)
        terminal.show(out, summary, result.trials, workdir)


def _finished(path: pathlib.Path) -> report.Summary | None:
    """What the search came to, if it has ended.

    Raises:
      InputError: the file is damaged, or of something else than a search.
    """
    if not path.exists():
        return None
    summary = launch.read_json(path)
    if missing := report.Summary.__required_keys__ - summary.keys():
        raise InputError(
            f"{path} is of something else than a search, or of another version (it has "
            f"no {min(missing)}); name another --workdir"
        )
    return cast(report.Summary, summary)


def _cost_model(workdir: pathlib.Path) -> CostModel:
    """Constants for plans, the same in all processes; a search under way has its own.

    Measured, once on each machine, where compiled programs are kept.
    """
    constants = resources.cost_model()
    if processes.is_first() and not (workdir / TRIALS).exists():
        said = "measuring how fast this machine is"
        constants = machine.cost_model(
            compilation.folder(), lambda: terminal.say(launch.console(), said)
        )
    return CostModel(**processes.from_first(constants._asdict()))


@contextlib.contextmanager
def _progress(
    problem: Problem, workdir: pathlib.Path, meter: Meter
) -> Iterator[Callback]:
    """Tells the terminal and report.html while the search runs."""
    reporter = Reporter(workdir, lambda: meter.energy().joules)
    with (
        terminal.ProgressReport(
            launch.console(), problem.strategy.candidate_epochs, problem.data.metric
        ) as progress,
        profiling.Trace(workdir) as trace,
    ):
        yield Callbacks(progress, reporter, trace)


def _prior(folder: pathlib.Path, config: launch.Config, digest: str) -> list[Trial]:
    """Trials of the search in `folder`, which saw the same rows.

    Raises:
      InputError: there is no search, or of other data or another seed, which chooses
        the validation rows.
    """
    stored, trials = stored_search(folder)
    wanted = json.loads(json.dumps(config.to_dict()))
    for name in ("data", "seed"):
        if stored.get(name) != wanted[name]:
            raise InputError(
                f"{folder}: the {name} of that search is {stored.get(name)}, of this "
                f"one {wanted[name]}; trials of other data say nothing about this"
            )
    rows = read_fact(folder / TRIALS, "rows") if processes.is_first() else None
    if trials and processes.from_first(rows) != digest:
        raise InputError(
            f"{folder}: the rows of {config.data.name}, or their goal, are not those "
            "of that search, whose trials say nothing about these"
        )
    return trials


def stored_search(folder: pathlib.Path) -> tuple[dict[str, Any], list[Trial]]:
    """Config and trials of the search in `folder`, which process 0 reads for all.

    Raises:
      InputError: there is no search.
    """
    config, trials = {}, []
    if processes.is_first():
        config, trials = read(folder / TRIALS)
    return json.loads(processes.from_first(json.dumps(config))), shared(trials)


def _others(folder: pathlib.Path) -> Iterator[Any]:
    """What earlier runs beside this one left; a damaged file is passed over."""
    for path in sorted(folder.glob(f"*/{SUMMARY}")):
        with contextlib.suppress(OSError, ValueError):
            yield json.loads(path.read_text())
