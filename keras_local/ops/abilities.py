"""Abilities of the active backend, so that no other module has to ask for a backend's name."""

from __future__ import annotations

import keras

_NAME = keras.backend.backend()

COMPILES = _NAME != "torch"
"""Whether a step may be compiled by XLA."""

SORTS_FAST_COMPILED = _NAME != "tensorflow"
"""Whether sorting on a CPU is about as fast with XLA as without it."""

SPARSE_GRADIENTS = _NAME == "tensorflow"
"""Whether a gradient may have only some rows of a weight."""

SEVERAL_STEPS_IN_A_GRAPH = _NAME == "tensorflow"
"""Whether `steps_per_execution` saves time."""

MODELS_IN_DATASETS = _NAME == "tensorflow"
"""Whether `tf.data.Dataset.map` can call a model."""

CONSTRAINTS_READ_WEIGHTS = _NAME != "jax"
"""Whether a constraint may read other weights than the one that the optimizer gives it."""

STRATEGIES = _NAME == "tensorflow"
"""Whether replicas are those of `tf.distribute`; otherwise a step sees the whole batch."""

WRITES_OTHER_FORMATS = _NAME == "tensorflow"
"""Whether a function can be written for LiteRT, ONNX Runtime and OpenVINO."""

FEEDS_FROM_PIPELINES = _NAME == "tensorflow"
"""Whether arrays reach a step through `tf.data`; else a generator in Python is as fast."""

WRITES_LEARNERS = _NAME == "tensorflow"
"""Whether a training step can be written to a file."""

OVERLAPS_STEPS = _NAME == "tensorflow"
"""Whether a loop runs what no later step waits for beside the next steps."""
