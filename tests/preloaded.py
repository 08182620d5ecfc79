"""What the processes of `launches` are forked with: imports, and tables read once."""

import orbax.checkpoint  # noqa: F401
import plotly.graph_objects as go
import plotly.io as pio
import sklearn.datasets
import sklearn.ensemble  # noqa: F401
from plotly.offline import get_plotlyjs

import experiments.job  # noqa: F401

# Plotly imports a module for each kind of trace and reads its validators at the first.
figure = go.Figure([go.Scatter(), go.Heatmap(), go.Parcoords(), go.Bar()])
figure.update_layout(template="plotly_white", xaxis={}, yaxis={}, legend={}, margin={})
pio.to_json(figure)
get_plotlyjs()
