"""The metric that collects losses and accuracies of all blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_local.ops.backend import Tensor


class BlockLogs(keras.metrics.Metric):
    """Metric of the mean loss of each block, and of the accuracy of each block that predicts.

    Args:
        blocks: Names of the blocks.
        predicting: Names of those that predict classes.
        name: Name of the metric; the entries of its result have names of their own.
        dtype: Precision.
    """

    def __init__(
        self,
        blocks: Sequence[str],
        predicting: Sequence[str],
        name: str = "block_logs",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.keys = [f"{block}/loss" for block in blocks]
        self.keys += [f"{block}/accuracy" for block in predicting]
        shape = (len(self.keys),)
        self.totals = self.add_variable(shape, "zeros", name="totals")
        self.samples = self.add_variable((), "zeros", name="samples")

    def update_state(self, values: Sequence[Tensor], samples: Any) -> None:
        """Add a batch.

        Args:
            values: One mean over the batch for each entry of the result.
            samples: Size of the batch.
        """
        samples = ops.cast(samples, self.dtype)
        stacked = ops.stack([ops.cast(value, self.dtype) for value in values])
        self.totals.assign(self.totals + samples * stacked)
        self.samples.assign(self.samples + samples)

    def result(self) -> dict[str, Tensor]:
        """Return the means by name, `"<block>/loss"` and `"<block>/accuracy"`."""
        means = ops.divide_no_nan(self.totals, self.samples)
        return {key: means[place] for place, key in enumerate(self.keys)}
