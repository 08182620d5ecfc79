"""What a person sees in the terminal: progress while a search runs, then tables."""

import io
import math
import pathlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from dnc_jax.footprint import Energy
from dnc_jax.report.folder import BEST, Summary, error_name, shown
from dnc_jax.search.forecast import Forecast, Interval
from dnc_jax.search.results import Callback
from dnc_jax.search.space import Candidate
from dnc_jax.search.strategies import Evaluation
from dnc_jax.search.trials import Trial, front, ranking

WIDTH_WITHOUT_TERMINAL = 110
_WIDE = 100  # columns, in which a whole row of the best candidates has its place


def console(*, quiet: bool = False) -> Console:
    """A console for standard output: live on a terminal, plain lines in a file."""
    if sys.stdout is None:  # closed
        return Console(file=io.StringIO(), quiet=True)
    terminal = sys.stdout.isatty()
    width = None if terminal else WIDTH_WITHOUT_TERMINAL
    return Console(width=width, highlight=False, quiet=quiet)


def say(out: Console, text: str) -> None:
    """Prints lines as they are: in a file, a long one is not cut in two."""
    out.print(text, markup=False, soft_wrap=True)


class ProgressReport(Callback):
    """Progress of a search: a live bar on a terminal, a line a rung elsewhere.

    Use as a context manager around the search, whose `callback` it is.

    Args:
      out: of `console()`.
      candidate_epochs: that the bar ends with, of the strategy.
      metric: what accuracies are, of the data.
    """

    def __init__(
        self, out: Console, candidate_epochs: int, metric: str = "accuracy"
    ) -> None:
        self._out = out
        self._metric = metric
        self._begin = time.perf_counter()
        self._lock = threading.Lock()
        self._best: float | None = None
        self._rung, self._asked = "", 0
        self._epochs: dict[int, int] = {}  # trained so far, by candidate
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=out,
            disable=not out.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("search", total=candidate_epochs)

    def __enter__(self) -> "ProgressReport":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def on_forecast(self, forecast: Forecast) -> None:
        """Prints what the search will probably take."""
        say(self._out, str(forecast))

    def on_rung_start(self, evaluations: Sequence[Evaluation]) -> None:
        """Names the rung, or the rungs."""
        self._asked = len(evaluations)
        alive = Counter((e.rung, e.stop) for e in evaluations)
        self._rung = ", ".join(
            f"rung {rung}: {count} alive, to epoch {stop}"
            for (rung, stop), count in alive.items()
        )
        self._describe()

    def on_epoch(self, accuracies: Sequence[float]) -> None:
        """Moves the bar."""
        with self._lock:
            self._bar.advance(self._task, len(accuracies))

    def on_rung_end(self, trials: Sequence[Trial], resumed: bool, flops: int) -> None:
        """Notes the best score; prints a line where there is no bar."""
        scores = [t.score for t in trials if t.status == "done"]
        if scores:
            self._best = min(scores if self._best is None else [*scores, self._best])
        if resumed:
            before = self._epochs
            new = sum(len(t.val_loss) - before.get(t.candidate_id, 0) for t in trials)
            self._bar.advance(self._task, new)
        self._epochs |= {t.candidate_id: len(t.val_loss) for t in trials}
        self._describe()
        diverged = sum(t.status == "diverged" for t in trials)
        done = [t.best_val_accuracy for t in trials if t.status == "done"]
        accuracy = shown(max(done), self._metric) if done else "none"
        cut = f", cut after {len(trials)} of them" if len(trials) < self._asked else ""
        line = (
            f"[{time.perf_counter() - self._begin:6.1f} s] {self._rung}{cut}, best "
            f"score {_score(self._best)}, best validation {self._metric} {accuracy}"
            + (f", {diverged} diverged" if diverged else "")
            + (", from the store" if resumed else "")
        )
        say(self._out, line)

    def on_retrain_epoch(self, epoch: int, epochs: int, val_accuracy: float) -> None:
        """Shows the winner's training; a refit has no rows to validate on."""
        if epoch == 1 or self._rung:
            self._rung = ""
            self._bar.reset(self._task, total=epochs)
        validated = f", validation {shown(val_accuracy, self._metric)}"
        if math.isnan(val_accuracy):
            validated = ", with the validation rows too"
        self._bar.update(
            self._task,
            completed=epoch,
            description=f"winner: epoch {epoch}{validated}",
        )

    def _describe(self) -> None:
        text = f"{self._rung}, best score {_score(self._best)}"
        self._bar.update(self._task, description=text)


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"


def best_table(
    trials: Sequence[Trial],
    count: int = 5,
    metric: str = "accuracy",
    performance: str = "error",
    width: int = _WIDE,
) -> Table:
    """The best candidates of a search, one a row.

    Args:
      trials: of the search.
      count: of candidates, at most.
      metric: what accuracies are.
      performance: of the objective; the loss is shown where that decides.
      width: of the terminal; a narrow one has no place for how they were trained.
    """
    ranked = ranking(trials)
    best = ranked[:count]
    table = Table(title=f"Best {len(best)} of {len(ranked)} candidates")
    columns: dict[str, Callable[[Trial], str]] = {
        "lr": lambda t: f"{t.candidate.hyperparameters.learning_rate:.3g}",
        "decay": lambda t: f"{t.candidate.hyperparameters.weight_decay:.3g}",
        "batch": lambda t: str(t.candidate.hyperparameters.batch_size),
    }
    columns |= {
        "epochs": lambda t: str(t.epochs),
        f"val.\n{metric}": lambda t: shown(t.best_val_accuracy, metric),
        "val.\nloss": lambda t: f"{min(t.val_loss):.4g}",
        "parameters": lambda t: f"{t.complexity.parameters:,}",
        "FLOPs/ex.": lambda t: f"{t.complexity.flops_per_example:,}",
        "score": lambda t: f"{t.score:.3f}",
    }
    left_out = {"val.\nloss"} if performance == "error" else set[str]()
    if width < _WIDE:
        left_out |= {"lr", "decay", "batch", "FLOPs/ex."}
    columns = {name: of for name, of in columns.items() if name not in left_out}
    table.add_column("network", overflow="fold", min_width=14)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for trial in best:
        cells = (text(trial) for text in columns.values())
        table.add_row(str(trial.candidate.architecture), *cells)
    return table


def front_table(trials: Sequence[Trial], metric: str = "accuracy") -> Table:
    """The Pareto front of validation error against parameters, one network a row."""
    table = Table(title=f"Pareto front: {error_name(metric)} against parameters")
    for name in ("parameters", "error", "epochs"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("network", overflow="fold")
    for trial in front(trials):
        table.add_row(
            f"{trial.complexity.parameters:,}",
            shown(1 - trial.best_val_accuracy, metric),
            str(trial.epochs),
            str(trial.candidate.architecture),
        )
    return table


def show(
    out: Console,
    summary: Summary,
    trials: Sequence[Trial],
    workdir: pathlib.Path,
) -> None:
    """Prints what a search has found, from the contents of summary.json, and where."""
    metric, performance = summary["metric"], summary["performance"]
    out.print(best_table(trials, 5, metric, performance, out.width))
    out.print(front_table(trials, metric))
    for line in summary_lines(summary):
        say(out, line)
    if summary.get("resumed"):
        say(
            out,
            "  seconds, FLOPs and energy are those of the last run; timeline.jsonl has "
            "their sums over all runs, but for rungs that were cut off",
        )
    say(
        out,
        f"{workdir}: trials.sqlite, summary.json, report.html, and "
        f"dnc_jax.load('{workdir / BEST}')",
    )


def summary_lines(summary: Summary) -> list[str]:
    """What was found and what it took, from the contents of summary.json."""
    metric = summary["metric"]
    return [
        f"Winner, trained for {summary['train_epochs']} epochs: "
        f"{Candidate.from_json(summary['best'])}",
        f"  validation {metric} {shown(summary['best_val_accuracy'], metric)}, "
        f"test {metric} {shown(summary['test_accuracy'], metric)}, "
        + (
            ""
            if summary["performance"] == "error"
            else f"loss {summary['best_val_loss']:.4g} and {summary['test_loss']:.4g}, "
        )
        + f"score {summary['score']:.3f}",
        f"  {summary['parameters']:,} parameters, "
        f"{summary['flops_per_example']:,} FLOPs per example",
        f"  {summary['candidates']} candidates, "
        f"{summary['candidate_epochs']} candidate-epochs in "
        f"{summary['search_seconds']:.1f} s of search, of which "
        f"{summary['compile_seconds']:.1f} s compiling; "
        f"{summary['total_seconds']:.1f} s in all"
        + (
            " since it went on; what runs before took is not counted here"
            if summary.get("resumed")
            else ""
        )
        + ("" if summary["complete"] else "; the budget ended the search"),
        f"  {Energy.from_json(summary['energy'])}",
        *_footprint_lines(summary),
    ]


def _footprint_lines(summary: Summary) -> list[str]:
    """Whose the energy was, what it emitted, and whether the forecast was right."""
    lines, shares = [], summary["attribution"]
    if shares["joules"] is not None:
        lines.append(
            f"  of the search's {shares['joules']:,.0f} J, {shares['kind']}: "
            f"{shares['trials_joules']:,.0f} J training candidates, "
            f"{shares['overhead_joules']:,.0f} J overhead"
        )
    if emissions := summary["emissions"]:
        grams, intensity = emissions["grams_co2e"], emissions["intensity"]
        amount = "unavailable" if grams is None else f"{grams:,.3g} g, estimated"
        lines.append(
            f"  CO2e {amount}: {intensity['value']:g} g/kWh ({intensity['source']}), "
            f"PUE {emissions['pue']['value']:g} ({emissions['pue']['source']})"
        )
    forecast = summary["forecast"]
    if forecast and forecast["seconds_inside"] is not None:
        said = Interval(**forecast["seconds"])
        inside = "inside" if forecast["seconds_inside"] else "outside"
        lines.append(
            f"  forecast {said} s of search, took {forecast['seconds_taken']:,.3g} s: "
            f"{inside}"
        )
    return lines
