"""Figures of a search, as plotly figures."""

from collections.abc import Sequence

import plotly.graph_objects as go

from dnc_jax.search.run import Winner
from dnc_jax.search.trials import Trial, front, ranking


def pareto(trials: Sequence[Trial], winner: Winner | None = None) -> go.Figure:
    """Validation error against parameters: every candidate, the front, the winner.

    Args:
      trials: of a search.
      winner: after its full-length training; drawn as a star.
    """
    ranked, best = ranking(trials), front(trials)
    figure = go.Figure()
    figure.add_scatter(
        x=[t.complexity.parameters for t in ranked],
        y=[100 * (1 - t.best_val_accuracy) for t in ranked],
        text=[f"{t.candidate}<br>{t.epochs} epochs" for t in ranked],
        mode="markers",
        name=f"{len(ranked)} candidates",
        marker={
            "color": [t.epochs for t in ranked],
            "colorscale": "Viridis",
            "reversescale": True,
            "colorbar": {"title": "epochs"},
            "size": 9,
            "opacity": 0.75,
        },
    )
    figure.add_scatter(
        x=[t.complexity.parameters for t in best],
        y=[100 * (1 - t.best_val_accuracy) for t in best],
        text=[str(t.candidate) for t in best],
        mode="lines+markers",
        name="Pareto front",
        line={"color": "#d55e00", "shape": "hv"},
        marker={"size": 8},
    )
    if winner:
        figure.add_scatter(
            x=[winner.trial.complexity.parameters],
            y=[100 * (1 - winner.best_val_accuracy)],
            text=[str(winner.trial.candidate)],
            mode="markers",
            name="winner, full length",
            marker={"symbol": "star", "size": 18, "color": "#cc0033"},
        )
    figure.update_layout(
        xaxis={"title": "parameters", "type": "log"},
        yaxis={"title": "validation error (%)", "type": "log"},
        template="plotly_white",
        legend={"orientation": "h", "y": 1.08},
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
    )
    return figure
