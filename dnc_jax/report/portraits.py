"""Figures of one network and of what it took: layers, patterns, errors, programs."""

import dataclasses
import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dnc_jax.networks import Architecture
from dnc_jax.report.folder import is_share
from dnc_jax.report.plots import COLOURS
from dnc_jax.sparse import Pattern

_PICTURE = 160  # cells of a pattern's picture, on its longer side
_NUMBERS = 20  # classes up to which a confusion matrix shows its counts


def layers(architecture: Architecture) -> go.Figure:
    """The network as its layers, joined by junctions as dark as they are dense.

    A layer's height grows with the logarithm of its nodes.
    """
    figure = _blank()
    sizes = architecture.sizes
    heights = [0.15 + np.log2(size) / np.log2(max(*sizes, 2)) for size in sizes]
    whole = dataclasses.replace(architecture, sparsity=()).edges
    # Bound once: the property counts all junctions at each access.
    for i, (kept, edges) in enumerate(zip(architecture.edges, whole, strict=True)):
        density = kept / edges
        left, right = heights[i] / 2, heights[i + 1] / 2
        figure.add_scatter(
            x=[i + 0.12, i + 0.88, i + 0.88, i + 0.12],
            y=[left, right, -right, -left],
            fill="toself",
            mode="none",
            fillcolor=f"rgba(0, 114, 178, {0.08 + 0.42 * density:.3f})",
            hoverinfo="text",
            hoveron="fills",
            text=f"{kept:,} weights of {edges:,}",
        )
        figure.add_annotation(
            x=i + 0.5,
            y=0,
            text=f"{kept:,}<br>{density:.3g}" if density < 1 else f"{kept:,}",
            showarrow=False,
        )
    for i, (size, height) in enumerate(zip(sizes, heights, strict=True)):
        figure.add_shape(
            type="rect",
            x0=i - 0.1,
            x1=i + 0.1,
            y0=-height / 2,
            y1=height / 2,
            fillcolor=COLOURS[1] if 0 < i < len(sizes) - 1 else COLOURS[2],
            line={"width": 0},
        )
        figure.add_annotation(
            x=i, y=-height / 2, yanchor="top", text=f"{size:,}", showarrow=False
        )
    figure.update_yaxes(range=[-0.8, 0.65])
    return figure


def connections(pattern: Pattern) -> go.Figure:
    """Which inputs (down) are joined to which outputs (across), as a picture.

    Where there are more nodes than can be drawn, a cell is the kept fraction of many.
    """
    sources, outputs = pattern.edge_list()
    grid = (pattern.blocks_in, pattern.blocks_out)
    cells = [min(side, _PICTURE) for side in grid]
    ranges = [(0, side) for side in grid]
    kept, *_ = np.histogram2d(sources, outputs, bins=cells, range=ranges)
    whole = np.outer(
        *(
            np.histogram(np.arange(side), count, (0, side))[0]
            for side, count in zip(grid, cells, strict=True)
        )
    )
    figure = _blank()
    figure.add_heatmap(
        z=np.round(kept / whole, 3),
        x0=pattern.n_out / cells[1] / 2,
        dx=pattern.n_out / cells[1],
        y0=pattern.n_in / cells[0] / 2,
        dy=pattern.n_in / cells[0],
        zmin=0,
        colorscale=[[0, "rgba(0, 114, 178, 0)"], [1, "rgba(0, 114, 178, 1)"]],
        showscale=False,
        hovertemplate="input %{y:.0f}, output %{x:.0f}: %{z} kept<extra></extra>",
    )
    figure.update_layout(
        xaxis={"visible": True, "title": f"{pattern.n_out:,} outputs"},
        yaxis={
            "visible": True,
            "title": f"{pattern.n_in:,} inputs",
            "autorange": "reversed",
        },
    )
    return figure


def history(
    curves: Mapping[str, Sequence[float]], metric: str = "accuracy"
) -> go.Figure:
    """Losses and validation accuracy of one training, by epoch.

    Args:
      curves: `history` of summary.json: train_loss, val_loss and val_accuracy.
      metric: what val_accuracy is.
    """
    figure = _blank()
    for (name, axis), colour in zip(
        (("train_loss", "y"), ("val_loss", "y"), ("val_accuracy", "y2")),
        COLOURS,
        strict=False,
    ):
        figure.add_scatter(
            x=list(range(1, len(curves[name]) + 1)),
            y=list(curves[name]),
            yaxis=axis,
            name=name.replace("accuracy", metric).replace("_", " "),
            line={"color": colour, "dash": "dot" if axis == "y2" else "solid"},
        )
    figure.update_layout(
        showlegend=True,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        xaxis={"visible": True, "title": "epoch"},
        yaxis={"visible": True, "title": "loss", "type": "log"},
        yaxis2={
            "title": f"validation {metric}",
            "overlaying": "y",
            "side": "right",
            "showgrid": False,
            "tickformat": ".1%" if is_share(metric) else "~g",
            "tickmode": "auto",
            "nticks": 6,
        },
        margin={"r": 70},
    )
    return figure


def confusion_matrix(
    counts: Sequence[Sequence[int]] | np.ndarray, labels: Sequence[Any] = ()
) -> go.Figure:
    """Test examples by true class (down) and predicted class (across).

    Args:
      counts: [C, C] integers.
      labels: C names of the classes; their numbers, where none are given.
    """
    matrix = np.asarray(counts)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    # Plotly reads tags.
    names = [html.escape(str(name)) for name in labels or range(len(matrix))]
    figure = _blank()
    figure.add_heatmap(
        # The root keeps a few errors among many hits from being white.
        z=np.round(np.sqrt(shares), 3),
        x=names,
        y=names,
        customdata=matrix,
        text=np.where(matrix > 0, matrix.astype(str), "")
        if len(matrix) <= _NUMBERS
        else None,
        texttemplate="%{text}" if len(matrix) <= _NUMBERS else None,
        zmin=0,
        zmax=1,
        colorscale=[[0, "rgba(0, 114, 178, 0)"], [1, "rgba(0, 114, 178, 0.85)"]],
        showscale=False,
        hovertemplate="true %{y}, predicted %{x}: %{customdata}<extra></extra>",
    )
    figure.update_layout(
        xaxis={"visible": True, "title": "predicted", "type": "category"},
        yaxis={
            "visible": True,
            "title": "true",
            "type": "category",
            "autorange": "reversed",
        },
    )
    return figure


def programs(accounts: Mapping[str, Mapping[str, Any]]) -> go.Figure:
    """Seconds that each compiled program of a search took, compiling and running.

    Args:
      accounts: `programs` of summary.json.
    """
    names = sorted(
        accounts,
        key=lambda n: accounts[n]["compile_seconds"] + accounts[n]["run_seconds"],
    )
    figure = _blank()
    for (field, label), colour in zip(
        (("compile_seconds", "compiling"), ("run_seconds", "running")),
        (COLOURS[1], COLOURS[0]),
        strict=True,
    ):
        figure.add_bar(
            y=names,
            x=[accounts[name][field] for name in names],
            customdata=[
                [accounts[name]["networks"], accounts[name]["runs"]] for name in names
            ],
            orientation="h",
            name=label,
            marker={"color": colour},
            hovertemplate=f"{label} %{{x:.2f}} s<br>%{{customdata[0]}} networks in "
            "%{customdata[1]} runs<extra>%{y}</extra>",
        )
    figure.update_layout(
        barmode="stack",
        showlegend=True,
        xaxis={"visible": True, "title": "seconds of a core"},
        yaxis={"visible": True, "automargin": True},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )
    return figure


def _blank() -> go.Figure:
    """A figure without axes, unless they are made visible."""
    figure = go.Figure()
    figure.update_layout(
        template="plotly_white",
        showlegend=False,
        xaxis={"visible": False},
        yaxis={"visible": False},
        margin={"l": 60, "r": 20, "t": 40, "b": 50},
    )
    return figure
