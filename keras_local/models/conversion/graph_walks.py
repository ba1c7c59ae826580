"""Functions that find the layers below others, which also layers use."""

from __future__ import annotations

from keras_local.layers.graph_walks import calls_of as calls_of
from keras_local.layers.graph_walks import has_graph as has_graph
from keras_local.layers.graph_walks import parts as parts
from keras_local.layers.graph_walks import (
    without_trained_weights_below as without_trained_weights_below,
)
