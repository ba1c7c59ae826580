"""Figures of weights and of training, drawn with matplotlib.

Each function returns a `matplotlib.figure.Figure` and has no global effects: it opens no window,
does not use the `pyplot` state and needs no display. Save a figure by `figure.savefig("name.png")`;
a notebook shows it. The functions need `pip install keras-local[plots]`.
"""

from keras_local.plots.curves import alignment as alignment
from keras_local.plots.curves import learning_curves as learning_curves
from keras_local.plots.curves import trajectories as trajectories
from keras_local.plots.fields import receptive_fields as receptive_fields
from keras_local.plots.units import norm_histogram as norm_histogram
from keras_local.plots.units import win_counts as win_counts

__all__ = [
    "alignment",
    "learning_curves",
    "norm_histogram",
    "receptive_fields",
    "trajectories",
    "win_counts",
]
