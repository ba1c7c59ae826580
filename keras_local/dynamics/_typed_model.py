"""The attributes of a Keras model for type checkers and editors.

Keras has no type information. To a type checker a class that derives from `keras.Model` has every
attribute, also misspelt ones. Therefore type checkers see a class with the public attributes.
"""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:

    class Model:
        """The public attributes of `keras.Model`."""

        name: str
        dtype: str
        dtype_policy: Any
        compute_dtype: str
        variable_dtype: str
        trainable: bool
        built: bool
        compiled: bool
        stop_training: bool
        jit_compile: bool | str
        run_eagerly: bool
        steps_per_execution: int
        supports_masking: bool
        optimizer: Any
        loss: Any
        input_spec: Any
        path: str
        history: Any
        train_function: Any
        test_function: Any
        predict_function: Any
        losses: list[Any]
        layers: list[Any]
        metrics: list[Any]
        metrics_names: list[str]
        metrics_variables: list[Any]
        weights: list[Any]
        variables: list[Any]
        trainable_weights: list[Any]
        trainable_variables: list[Any]
        non_trainable_weights: list[Any]
        non_trainable_variables: list[Any]

        def __init__(self, **arguments: Any) -> None: ...
        def __call__(self, inputs: Any, training: bool | None = None) -> Any: ...
        def add_loss(self, loss: Any) -> None: ...
        def add_weight(
            self,
            shape: tuple[int, ...] | None = None,
            initializer: Any = None,
            dtype: Any = None,
            trainable: bool = True,
            autocast: bool = True,
            regularizer: Any = None,
            constraint: Any = None,
            aggregation: str | None = None,
            overwrite_with_gradient: bool = False,
            name: str | None = None,
        ) -> Any: ...
        def build(self, input_shape: Any) -> None: ...
        def build_from_config(self, config: dict[str, Any]) -> None: ...
        def compile(self, *arguments: Any, **keywords: Any) -> None: ...
        def compile_from_config(self, config: dict[str, Any]) -> None: ...
        def compute_loss(
            self,
            x: Any = None,
            y: Any = None,
            y_pred: Any = None,
            sample_weight: Any = None,
            training: bool = True,
        ) -> Any: ...
        def compute_metrics(
            self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
        ) -> dict[str, Any]: ...
        def compute_output_shape(self, input_shape: Any) -> Any: ...
        def count_params(self) -> int: ...
        def evaluate(self, *arguments: Any, **keywords: Any) -> Any: ...
        def export(
            self,
            filepath: str | PathLike[str],
            format: str = "tf_saved_model",
            verbose: bool | None = None,
            input_signature: Any = None,
            **keywords: Any,
        ) -> None: ...
        def fit(self, *arguments: Any, **keywords: Any) -> Any: ...
        @classmethod
        def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any: ...
        def get_build_config(self) -> dict[str, Any] | None: ...
        def get_compile_config(self) -> dict[str, Any] | None: ...
        def get_config(self) -> dict[str, Any]: ...
        def get_layer(self, name: str | None = None, index: int | None = None) -> Any: ...
        def get_metrics_result(self) -> dict[str, Any]: ...
        def get_weights(self) -> list[Any]: ...
        def load_weights(self, filepath: Any, skip_mismatch: bool = False) -> None: ...
        def make_predict_function(self, force: bool = False) -> Any: ...
        def make_test_function(self, force: bool = False) -> Any: ...
        def make_train_function(self, force: bool = False) -> Any: ...
        def predict(self, *arguments: Any, **keywords: Any) -> Any: ...
        def predict_on_batch(self, x: Any) -> Any: ...
        def predict_step(self, *arguments: Any) -> Any: ...
        def reset_metrics(self) -> None: ...
        def save(
            self,
            filepath: str | PathLike[str],
            overwrite: bool = True,
            zipped: bool | None = None,
            **keywords: Any,
        ) -> None: ...
        def save_weights(
            self,
            filepath: str | PathLike[str],
            overwrite: bool = True,
            max_shard_size: float | None = None,
        ) -> None: ...
        def set_weights(self, weights: Any) -> None: ...
        def stateless_call(self, *arguments: Any, **keywords: Any) -> Any: ...
        def summary(
            self,
            line_length: int | None = None,
            positions: Any = None,
            print_fn: Callable[..., Any] | None = None,
            expand_nested: bool = False,
            show_trainable: bool = False,
            layer_range: Any = None,
        ) -> None: ...
        def test_on_batch(self, *arguments: Any, **keywords: Any) -> Any: ...
        def test_step(self, *arguments: Any) -> Any: ...
        def to_json(self, **keywords: Any) -> str: ...
        def train_on_batch(self, *arguments: Any, **keywords: Any) -> Any: ...
        def train_step(self, *arguments: Any) -> Any: ...

else:
    Model = keras.Model
