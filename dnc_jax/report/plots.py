"""Figures of a search, as plotly figures: `pareto(result).show()`.

Each takes whatever has trials: what `dnc_jax.search.run.search` returns, or a work
folder read by `dnc_jax.report.read`. `best_over_time` alone needs the latter, which
knows when rungs ended.
"""

import dataclasses
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import plotly.graph_objects as go

from dnc_jax.errors import check_known
from dnc_jax.report.folder import Run, Summary, error_name, is_share
from dnc_jax.search import Candidate, Trial
from dnc_jax.search.columns import Value, varied
from dnc_jax.search.trials import cost_of, front, longest, ranking

# Okabe and Ito's, told apart with any kind of colour vision, on white and on black.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
LINE, WINNER = "#d55e00", "#cc3377"
CostName = Literal["parameters", "flops_per_example", "epoch_joules", "joules"]
Clock = Literal["seconds", "joules", "flops"]
COSTS: dict[CostName, str] = {
    "parameters": "parameters",
    "flops_per_example": "FLOPs per example",
    "epoch_joules": "joules of an epoch, measured alone",
    "joules": "joules of training, modelled",
}
CLOCKS: dict[Clock, str] = {
    "seconds": "seconds of search",
    "joules": "joules",
    "flops": "FLOPs of training",
}
_FOREST, _FOLDS, _SHUFFLES, _FEWEST = 50, 3, 3, 12
_LOG = {"type": "log", "dtick": "D2"}  # ticks at 1, 2 and 5 of each decade
_ABSENT = 0.0  # where a candidate lacks a number: a layer that is not there has 0 nodes


@runtime_checkable
class Search(Protocol):
    """Anything that holds trials, and knows what their accuracies are."""

    @property
    def trials(self) -> Sequence[Trial]:
        """All of them, of every rung."""
        ...

    @property
    def metric(self) -> str:
        """What their accuracies are, for people."""
        ...


class _Error(NamedTuple):
    """1 minus the metric on validation rows, as a figure shows it on a log axis."""

    title: str
    unit: str
    scale: float
    least: float  # where a perfect score is drawn

    @classmethod
    def of(cls, search: Search, trials: Sequence[Trial]) -> "_Error":
        share = is_share(search.metric)
        unit, scale = (" %", 100.0) if share else ("", 1.0)
        title = html.escape(error_name(search.metric)) + " (%)" * share
        errors = {1 - value for t in trials for value in t.val_accuracy if value < 1}
        return cls(title, unit, scale, scale / 2 * min(errors, default=0.01))

    def __call__(self, accuracy: float) -> float:
        return self.scale * (1 - accuracy) if accuracy < 1 else self.least

    def label(self, candidate: Candidate, accuracy: float) -> str:
        drawn = "" if accuracy < 1 else "<br>no error at all, drawn as so little"
        return _label(candidate) + drawn

    @property
    def hover(self) -> str:
        return f"%{{y:.3g}}{self.unit}"


def pareto(
    search: Search,
    cost: CostName = "parameters",
    summary: Summary | None = None,
) -> go.Figure:
    """Validation error against cost: every candidate, the front, the winner.

    Dense networks are circles and sparse ones diamonds, coloured by the epochs that
    they were trained for.

    Args:
      search: its trials.
      cost: of the horizontal axis. `epoch_joules` are measured on the network alone,
        where the objective or a constraint asks for them; `joules` are its share of
        the energy of the rungs up to this one, where energy is counted.
      summary: contents of summary.json; adds the winner after its full length, where
        that has the cost.

    Raises:
      InputError: an unknown cost.
    """
    title = _known("cost", cost, COSTS)
    trials = _so_far(search.trials) if cost == "joules" else search.trials
    ranked = [t for t in ranking(trials) if cost_of(t, cost) is not None]
    error = _Error.of(search, ranked)
    figure = _figure(title, error.title, log=True)
    epochs = sorted({t.epochs for t in ranked})
    for sparse, symbol in ((False, "circle"), (True, "diamond")):
        kind = [t for t in ranked if bool(t.candidate.architecture.sparsity) == sparse]
        for trained in epochs:
            _points(
                figure,
                [t for t in kind if t.epochs == trained],
                cost,
                error,
                name=f"{'sparse, ' if sparse else ''}{_count(trained, 'epoch')}",
                mode="markers",
                marker={
                    "symbol": symbol,
                    "size": 9,
                    "opacity": 0.8,
                    "color": _colour(epochs, trained),
                },
            )
    _points(
        figure,
        front(ranked, cost),
        cost,
        error,
        name="Pareto front",
        mode="lines+markers",
        line={"color": LINE, "shape": "hv", "width": 2},
        marker={"size": 14, "symbol": "circle-open", "line": {"width": 2.5}},
    )
    spent = dict(summary or {}).get(cost)
    if summary and spent is not None:
        winner = Candidate.from_json(summary["best"])
        figure.add_scatter(
            x=[spent],
            customdata=[t.candidate_id for t in ranked if t.candidate == winner][:1],
            y=[error(summary["best_val_accuracy"])],
            text=[error.label(winner, summary["best_val_accuracy"])],
            hovertemplate=f"winner, full length: {error.hover}<br>%{{text}}"
            "<extra></extra>",
            mode="markers",
            name="winner, full length",
            marker={"symbol": "star", "size": 18, "color": WINNER},
        )
    return figure


def learning_curves(search: Search) -> go.Figure:
    """Validation error by epoch, one line a candidate, coloured by where it stopped."""
    last = longest(search.trials)
    error = _Error.of(search, search.trials)
    figure = _figure("epoch", error.title, log=True)
    epochs = sorted({t.epochs for t in last.values()})
    for stopped in epochs:
        lines = [t for t in last.values() if t.epochs == stopped]
        # One trace with gaps: a thousand traces would take a browser seconds.
        x: list[float | None] = []
        y: list[float | None] = []
        text: list[str | None] = []
        for trial in lines:
            count = len(trial.val_accuracy)
            x += [*range(1, count + 1), None]
            y += [*map(error, trial.val_accuracy), None]
            text += [
                *(error.label(trial.candidate, v) for v in trial.val_accuracy),
                None,
            ]
        figure.add_scatter(
            x=x,
            y=y,
            text=text,
            hovertemplate=f"epoch %{{x}}: {error.hover}<br>%{{text}}<extra></extra>",
            mode="lines+markers" if stopped == 1 else "lines",
            name=f"{len(lines)} stopped after {_count(stopped, 'epoch')}",
            line={"width": 1.5, "color": _colour(epochs, stopped)},
            opacity=0.85,
        )
    return figure


def parallel_coordinates(search: Search) -> go.Figure:
    """Every candidate as a line through its hyperparameters and its error.

    Drag along an axis to keep only what passes there.
    """
    ranked = ranking(search.trials)
    error = _Error.of(search, ranked)
    errors = [math.log10(error(t.best_val_accuracy)) for t in ranked]
    axes = [
        _axis(name, column)
        for name, column in varied([t.candidate for t in ranked]).items()
    ]
    axes.append(_log_axis(error.title.replace("validation", "val."), errors))
    figure = go.Figure(
        go.Parcoords(
            dimensions=axes,
            line={
                "color": errors,
                "colorscale": "Viridis",
                "reversescale": True,
                "showscale": False,
            },
            labelangle=-20,
            labelside="bottom",
        )
    )
    figure.update_layout(
        template="plotly_white", margin={"l": 60, "r": 60, "t": 30, "b": 90}
    )
    return figure


def importance(search: Search) -> go.Figure:
    """How much each hyperparameter matters: permutation importance on a forest.

    Candidates are compared where most of them stand side by side, at the same number
    of epochs, by the rank of their score; one that diverged is last. A forest learns
    the ranks from the hyperparameters; a bar is the part of R² that is lost on
    candidates it has not seen when that hyperparameter is shuffled among them.

    Reference: L. Breiman, "Random Forests" (2001), section 10.
    """
    from scipy.stats import rankdata

    figure = _figure("loss of R² when shuffled", None)
    figure.update_layout(margin={"l": 130})
    counts: dict[int, int] = {}
    for trial in search.trials:
        counts[trial.epochs] = counts.get(trial.epochs, 0) + 1
    epochs = max(counts, key=lambda n: (counts[n], -n), default=0)
    trials = {t.candidate_id: t for t in search.trials if t.epochs == epochs}
    columns = varied([t.candidate for t in trials.values()])
    if len(trials) < _FEWEST or not columns:
        figure.update_layout(title=f"needs {_FEWEST} candidates that differ")
        return figure
    x = np.array([_numbers(column) for column in columns.values()]).T
    y = rankdata([t.score for t in trials.values()]) / len(trials)
    r2, drops = _permutation_importance(x, y)
    order = np.argsort(drops.mean(0))
    figure.add_bar(
        x=drops.mean(0)[order],
        y=[html.escape(list(columns)[i]) for i in order],
        error_x={"type": "data", "array": drops.std(0)[order]},
        orientation="h",
        marker={"color": COLOURS[0]},
        hovertemplate="%{y}: %{x:.3f}<extra></extra>",
    )
    figure.update_layout(
        title=f"R² = {r2:.2f} on candidates not seen<br>"
        f"{len(trials)} candidates at {_count(epochs, 'epoch')}",
        margin={"t": 80},
    )
    return figure


def best_over_time(run: Run, by: Clock = "seconds") -> go.Figure:
    """The best score so far, a point a rung, against time, energy or work.

    Empty where `by` is energy and none was measured.

    Raises:
      InputError: `by` is unknown.
    """
    figure = _figure(_known("by", by, CLOCKS), "best score so far")
    scores = {(t.candidate_id, t.rung): t for t in run.trials if t.status == "done"}
    best: Trial | None = None
    x, y, text = [], [], []
    for moment in run.timeline:
        ended = [scores[one] for one in moment.trials if one in scores]
        best = min(
            [best, *ended] if best else ended, key=lambda t: t.score, default=None
        )
        when = getattr(moment, by)
        if best and when is not None:
            x.append(when)
            y.append(best.score)
            text.append(_label(best.candidate))
    figure.add_scatter(
        x=x,
        y=y,
        text=text,
        mode="lines+markers",
        line={"shape": "hv", "color": COLOURS[0]},
        marker={"size": 9},
        hovertemplate=f"%{{y:.3f}} after %{{x:.3~s}} {CLOCKS[by]}<br>%{{text}}"
        "<extra></extra>",
        name="best score",
    )
    return figure


def _known(name: str, value: Any, titles: Mapping[Any, str]) -> str:
    """The title of what an argument names."""
    check_known(titles, **{name: value})
    return titles[value]


def _permutation_importance(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean R² on held-out folds, and [folds, features] what shuffling costs of it."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold

    scores, drops = [], []
    for train, test in KFold(_FOLDS, shuffle=True, random_state=0).split(x):
        forest = RandomForestRegressor(_FOREST, random_state=0).fit(x[train], y[train])
        scores.append(forest.score(x[test], y[test]))
        result: Any = permutation_importance(
            forest, x[test], y[test], n_repeats=_SHUFFLES, random_state=0
        )
        drops.append(result.importances_mean)
    return float(np.mean(scores)), np.array(drops)


def _points(
    figure: go.Figure,
    trials: Sequence[Trial],
    cost: str,
    error: _Error,
    **style: Any,
) -> None:
    x = "%{x:.3~s} J" if "joules" in cost else "%{x:,}"
    if trials:
        figure.add_scatter(
            x=[cost_of(t, cost) for t in trials],
            y=[error(t.best_val_accuracy) for t in trials],
            text=[error.label(t.candidate, t.best_val_accuracy) for t in trials],
            customdata=[t.candidate_id for t in trials],
            hovertemplate=f"{error.hover} with {x}<br>%{{text}}<extra></extra>",
            **style,
        )


def costs(search: Search) -> list[CostName]:
    """Those that any trial has."""
    return [c for c in COSTS if any(cost_of(t, c) is not None for t in search.trials)]


def _so_far(trials: Sequence[Trial]) -> list[Trial]:
    """With the joules of all rungs up to each; None where one is not known."""
    spent: dict[int, float] = {}
    result = []
    for trial in sorted(trials, key=lambda t: t.rung):
        taken = math.nan if trial.joules is None else trial.joules
        total = spent.get(trial.candidate_id, 0.0) + taken
        spent[trial.candidate_id] = total
        known = None if math.isnan(total) else total
        result.append(dataclasses.replace(trial, joules=known))
    return result


def _figure(x: str, y: str | None, *, log: bool = False) -> go.Figure:
    figure, scale = go.Figure(), _LOG if log else {"type": "linear"}
    figure.update_layout(
        xaxis={"title": x, **scale},
        yaxis={"title": y, **(scale if y else {})},
        template="plotly_white",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        margin={"l": 60, "r": 20, "t": 60, "b": 50},
        hovermode="closest",
    )
    if log:
        figure.update_xaxes(tickformat="~s")
    return figure


def _axis(name: str, column: Sequence[Value | None]) -> dict[str, Any]:
    """One dimension of parallel coordinates; logarithmic where values span decades."""
    label = html.escape(name)
    if any(isinstance(value, str) for value in column):
        known = sorted({str(value) for value in column})
        return {
            "label": label,
            "values": [known.index(str(value)) for value in column],
            "tickvals": list(range(len(known))),
            "ticktext": [html.escape(value) for value in known],
        }
    values = _numbers(column)
    positive = [value for value in values if value > 0]
    if positive and max(positive) >= 30 * min(positive):
        # Zero has no logarithm; it gets a place of its own, below the least.
        floor = math.log10(min(positive)) - 0.5
        logs = [math.log10(value) if value > 0 else floor for value in values]
        return _log_axis(label, logs, floor if min(values) == 0 else None)
    return {"label": label, "values": values}


def _log_axis(
    label: str, logs: Sequence[float], zero: float | None = None
) -> dict[str, Any]:
    ends = [value for value in logs if value != zero] or [0.0]
    ticks = [
        math.log10(digit) + decade
        for decade in range(math.floor(min(ends)), math.ceil(max(ends)) + 1)
        for digit in (1, 3)
    ]
    ticks = [tick for tick in ticks if min(ends) - 0.1 <= tick <= max(ends) + 0.1]
    text = [f"{float(f'{10**tick:.1g}'):g}" for tick in ticks]
    if zero is not None:
        ticks, text = [zero, *ticks], ["0", *text]
    return {"label": label, "values": logs, "tickvals": ticks, "ticktext": text}


def _numbers(column: Sequence[Value | None]) -> list[float]:
    """Choices by their place in the alphabet, what is absent as `_ABSENT`."""
    known = sorted({value for value in column if isinstance(value, str)})
    return [
        float(known.index(value)) if isinstance(value, str) else float(value or _ABSENT)
        for value in column
    ]


def _colour(steps: Sequence[int], step: int) -> str:
    return COLOURS[list(steps).index(step) % len(COLOURS)]


def _label(candidate: Candidate) -> str:
    return html.escape(str(candidate))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"
