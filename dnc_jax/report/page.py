"""report.html: a search in one file that a browser opens without a network."""

import functools
import json
import math
import pathlib
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio

from dnc_jax.errors import InputError
from dnc_jax.files import new_file
from dnc_jax.footprint import Energy, carbon
from dnc_jax.report import plots, portraits
from dnc_jax.report.folder import Run, error_name, is_share, read, shown
from dnc_jax.search import Trial
from dnc_jax.search.columns import hyperparameters
from dnc_jax.search.trials import front, longest, ranking

REPORT = "report.html"
_DIGITS = 5  # of curves: more cannot be seen


def write(workdir: str | pathlib.Path) -> pathlib.Path:
    """Writes report.html of the search in `workdir`, whole or not at all.

    Returns:
      Its path.

    Raises:
      InputError: there is no search.
    """
    run = read(workdir)
    path = run.folder / REPORT
    # A search and `experiments.report` may write at a time.
    content = render(run).encode()
    with new_file(path) as file:
        file.write(content)
    return path


def save_images(workdir: str | pathlib.Path, kind: str) -> pathlib.Path:
    """Saves each figure of the report on its own, for papers, by kaleido.

    Args:
      workdir: of a search.
      kind: png, svg or pdf.

    Returns:
      The folder of the images, `figures` in the work folder.

    Raises:
      InputError: there is no search, or kaleido or a Chrome is missing.
    """
    run = read(workdir)
    folder = run.folder / "figures"
    drawn = figures(run)
    folder.mkdir(exist_ok=True)
    paths: list[str | pathlib.Path] = [folder / f"{name}.{kind}" for name in drawn]
    try:
        pio.write_images(list(drawn.values()), paths, width=800, height=500, scale=2)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"images need `pip install 'dnc_jax[images]'` and a Chrome or Chromium "
            f"({' '.join(str(error).split())})"
        ) from error
    return folder


def render(run: Run, version: str | None = None) -> str:
    """The report as HTML.

    Args:
      run: what to show.
      version: of the data, for a server: the page asks it for `version` and loads
        itself again when that has changed. None for a file.
    """
    import jinja2
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    loader = jinja2.PackageLoader("dnc_jax.report")
    # Everything is escaped but our own files and JSON without a "<".
    environment = jinja2.Environment(loader=loader, autoescape=True)
    drawn = figures(run)
    data = {
        "figures": {name: _plain(figure) for name, figure in drawn.items()},
        "trials": _trials(run),
    }
    return environment.get_template("report.html").render(
        **_words(run, drawn),
        version=version,
        data=Markup(json.dumps(data, allow_nan=False).replace("<", "\\u003c")),
        plotly=Markup(get_plotlyjs()),
        css=Markup(loader.get_source(environment, "report.css")[0]),
        script=Markup(loader.get_source(environment, "report.js")[0]),
    )


def figures(run: Run) -> dict[str, go.Figure]:
    """Every figure that this search has the data for, by name."""
    summary = run.summary or {}
    result = {
        f"pareto-{cost}": plots.pareto(run, cost, run.summary)
        for cost in plots.costs(run)
    }
    result |= {
        f"best-{clock}": plots.best_over_time(run, clock) for clock in _clocks(run)
    }
    result |= {
        "curves": plots.learning_curves(run),
        "parallel": plots.parallel_coordinates(run),
    }
    if run.winner:
        # Not before: growing forests would slow the search down.
        result["importance"] = plots.importance(run)
        result["layers"] = portraits.layers(run.winner.architecture)
        result |= {
            f"pattern-{i}": portraits.connections(pattern)
            for i, pattern in enumerate(run.patterns())
            if pattern
        }
    if curves := summary.get("history"):
        result["history"] = portraits.history(curves, run.metric)
    if counts := summary.get("confusion"):
        labels = summary.get("labels", ())
        result["confusion"] = portraits.confusion_matrix(counts, labels)
    if accounts := summary.get("programs"):
        result["programs"] = portraits.programs(accounts)
    return result


def _clocks(run: Run) -> list[plots.Clock]:
    measured = any(moment.joules is not None for moment in run.timeline)
    return [clock for clock in plots.CLOCKS if clock != "joules" or measured]


def _plain(figure: go.Figure) -> dict[str, Any]:
    """As JSON without plotly's template: the page has one for all, light or dark."""
    plain = json.loads(pio.to_json(figure) or "{}")
    plain["layout"].pop("template", None)
    return plain


def _words(run: Run, drawn: dict[str, go.Figure]) -> dict[str, Any]:
    """What the template writes as text."""
    summary = run.summary
    energy = Energy.from_json(summary["energy"]) if summary else None
    return {
        "title": f"{run.folder.resolve().name}: a search{_on(run)}",
        "status": _status(run),
        "cards": _cards(run),
        "pareto": [(f"pareto-{cost}", plots.COSTS[cost]) for cost in plots.costs(run)],
        "clocks": [(f"best-{clock}", plots.CLOCKS[clock]) for clock in _clocks(run)],
        "measured": "best-joules" in drawn,
        "front": [
            {
                "candidate_id": t.candidate_id,
                "parameters": t.complexity.parameters,
                "error": shown(1 - t.best_val_accuracy, run.metric),
                "network": str(t.candidate.architecture),
            }
            for t in front(run.trials)
        ],
        "winner": run.winner,
        "patterns": [
            (name, f"Junction {int(name.split('-')[1]) + 1}")
            for name in drawn
            if name.startswith("pattern-")
        ],
        "drawn": drawn,
        "energy": energy,
        "energy_rows": _energy_rows(energy) if energy else [],
        **_emissions((summary or {}).get("emissions")),
        "summary": summary or {},
        "metric": run.metric,
        "error_name": error_name(run.metric),
        "share": is_share(run.metric),
    }


def _on(run: Run) -> str:
    """The data, where the config, which may be anyone's, names it."""
    data = run.config.get("data")
    name = data.get("name") if isinstance(data, dict) else None
    return f" on {name}" if name else ""


def _status(run: Run) -> str:
    seconds = run.timeline[-1].seconds if run.timeline else 0.0
    done = f"{len(run.trials)} trials, {len(run.timeline)} rungs in {seconds:.1f} s"
    if run.summary is None:
        return f"The search is running: {done}. Load this page again for more."
    ended = "" if run.summary["complete"] else "; a budget ended the search"
    return f"The search is finished: {done}{ended}."


def _cards(run: Run) -> list[tuple[str, str]]:
    """The figures that matter most, of the winner or, before it, of the best so far."""
    candidates = ("candidates", f"{len({t.candidate_id for t in run.trials}):,}")
    if run.summary is None:
        best = ranking(run.trials)[:1]
        return [
            *(
                (
                    f"best validation {run.metric}",
                    shown(t.best_val_accuracy, run.metric),
                )
                for t in best
            ),
            *(("its parameters", f"{t.complexity.parameters:,}") for t in best),
            candidates,
        ]
    metric = run.metric
    run_of = ", last run" if run.summary.get("resumed") else ""
    figure = functools.partial(shown, metric=metric)
    formats = {
        "test_accuracy": (f"test {metric}", figure),
        "best_val_accuracy": (f"validation {metric}", figure),
        "parameters": ("parameters", "{:,}".format),
        "flops_per_example": ("FLOPs per example", "{:,}".format),
        "score": ("score", "{:.3f}".format),
        "search_seconds": (f"seconds of search{run_of}", "{:.1f}".format),
        "total_seconds": (f"seconds in all{run_of}", "{:.1f}".format),
    }
    known = [
        (name, form(run.summary[key]))
        for key, (name, form) in formats.items()
        if key in run.summary
    ]
    return [*known, candidates]


def _energy_rows(energy: Energy) -> list[tuple[str, str]]:
    rows = [(p.counter, f"{p.joules:,.0f} J, {p.kind}") for p in energy.parts]
    if energy.joules is not None:
        rows.append(("search and winner", f"{energy.joules:,.0f} J"))
    if energy.band_joules:
        low, high = energy.band_joules
        rows.append(("between", f"{low:,.0f} J and {high:,.0f} J"))
    if energy.dynamic_joules is not None:
        rows.append(("above idling", f"{energy.dynamic_joules:,.0f} J"))
    rows += [("not counted", part) for part in energy.missing]
    if energy.flops is not None:
        rows.append(("FLOPs of training", f"{energy.flops:.3g}"))
    rows.append(("processor time", f"{energy.cpu_seconds:.0f} s"))
    rows.append(("wall clock of search and winner", f"{energy.seconds:.0f} s"))
    return rows


def _emissions(emissions: dict[str, Any] | None) -> dict[str, Any]:
    """CO2e with its factors, and familiar things that emit as much."""
    if not emissions:
        return {"co2e_rows": [], "equivalents": []}
    grams = emissions["grams_co2e"]
    amount = "" if grams is None else f"{grams:,.3g} g, "
    rows = [
        ("CO2e", amount + emissions["kind"]),
        ("grams for a kWh", str(carbon.Factor(**emissions["intensity"]))),
        ("PUE of the data centre", str(carbon.Factor(**emissions["pue"]))),
    ]
    things = carbon.equivalents(grams) if grams else []
    return {
        "co2e_rows": rows,
        "equivalents": [(f"{count:,.2g}", thing) for thing, count in things],
    }


def _trials(run: Run) -> dict[int, dict[str, Any]]:
    """What a click shows, by candidate."""
    candidates: dict[int, list[Trial]] = {}
    for trial in run.trials:
        candidates.setdefault(trial.candidate_id, []).append(trial)
    result = {}
    for number, last in longest(run.trials).items():
        fields = hyperparameters(last.candidate) | last.complexity._asdict()
        result[number] = {
            "network": str(last.candidate.architecture),
            "curve": [round(value, _DIGITS) for value in last.val_accuracy],
            "rungs": [_rung(t, run.metric) for t in candidates[number]],
            "fields": [
                (name.replace("_", " "), _text(value)) for name, value in fields.items()
            ],
        }
    return result


def _rung(trial: Trial, metric: str) -> list[str]:
    return [
        str(trial.rung),
        str(trial.epochs),
        shown(trial.best_val_accuracy, metric),
        f"{trial.score:.3f}" if math.isfinite(trial.score) else trial.status,
        f"{trial.seconds:.2f}",
    ]


def _text(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
