"""JAX: custom gradients, adjoints by linear transposition, replicas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import keras
from jax.experimental.sparse import BCOO, JAXSparse
from keras import ops

if TYPE_CHECKING:
    from keras_local.ops.depthwise import DepthwiseConvolution
    from keras_local.ops.linear_maps import Convolution
    from keras_local.ops.locally_connected import Windows
    from keras_local.ops.transposed import TransposedConvolution


def with_gradient(
    forward: Callable[..., jax.Array],
    backward: Callable[..., Any],
    *tensors: Any,
    independent: int = 2,
) -> jax.Array:
    """Compute `forward(*tensors)` with `backward(upstream, outputs, *tensors)` as its gradient."""
    if is_sparse(tensors[0]):
        return _with_sparse(forward, backward, *tensors, independent=independent)

    @jax.custom_vjp
    def operation(*tensors: jax.Array) -> jax.Array:
        return forward(*tensors)

    def save(*tensors: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        outputs = forward(*tensors)
        return outputs, (outputs, *tensors)

    def gradient(saved: tuple[jax.Array, ...], upstream: jax.Array) -> tuple[jax.Array | None, ...]:
        return tuple(backward(upstream, *saved))

    operation.defvjp(save, gradient)
    return operation(*(jnp.asarray(tensor) for tensor in tensors))


def _with_sparse(
    forward: Callable[..., jax.Array],
    backward: Callable[..., Any],
    inputs: BCOO,
    *tensors: Any,
    independent: int,
) -> jax.Array:
    """Do the same as `with_gradient` for sparse inputs, with a gradient at stored entries."""

    def whole(values: jax.Array, places: jax.Array) -> BCOO:
        return BCOO((values, places), shape=inputs.shape)

    def of_entries(
        upstream: Any, outputs: Any, values: jax.Array, places: jax.Array, *others: jax.Array
    ) -> tuple[jax.Array | None, ...]:
        first, *rest = backward(upstream, outputs, whole(values, places), *others)
        if first is not None:
            first = first.at[tuple(places.T)].get(mode="fill", fill_value=0)
        return first, None, *rest

    return with_gradient(
        lambda values, places, *others: forward(whole(values, places), *others),
        of_entries,
        inputs.data,
        inputs.indices,
        *tensors,
        independent=independent,
    )


def is_sparse(tensor: Any) -> bool:
    """Return whether a tensor stores only some of its entries."""
    return isinstance(tensor, JAXSparse)


def after(tensor: jax.Array, others: Sequence[jax.Array]) -> jax.Array:
    """Return a tensor that exists only when all others have been computed.

    XLA takes an `optimization_barrier` away before it decides on an order. What it cannot know is
    that no number is both zero and not a number; subtracting zero changes no bit.
    """
    never = jnp.zeros((), bool)
    for other in others:
        first = jnp.ravel(other)[0]
        never = never | ((first != first) & (first == 0))
    return tensor - never.astype(tensor.dtype)


class _Scope(keras.StatelessScope):
    """Values of variables, and what calls add to the loss, while a step is traced."""

    current: ClassVar[_Scope | None] = None
    """The innermost of the scopes that are entered."""

    def __init__(self, values: Sequence[tuple[Any, Any]] = ()) -> None:
        super().__init__(values, collect_losses=True)

    def __enter__(self) -> _Scope:
        self._outer = _Scope.current
        _Scope.current = self
        super().__enter__()
        return self

    def __exit__(self, *arguments: Any) -> None:
        super().__exit__(*arguments)
        _Scope.current = self._outer


def in_state(model: Any, step: Callable[[Any], Any], arguments: tuple[Any, ...]) -> Any:
    """Make a step that reads and assigns variables, from the values of them that Keras passes."""
    state, data = arguments
    others, optimizer = model.non_trainable_variables, model.optimizer.variables
    groups: list[list[Any]] = [model.trainable_variables, others, optimizer]
    groups.append(model.metrics_variables)
    values: list[tuple[Any, Any]] = []
    for group, given in zip(groups, state, strict=True):
        values += zip(group, given, strict=True)
    with _Scope(values) as scope:
        logs = step(data)
    return logs, tuple([scope.get_current_value(each) for each in group] for group in groups)


def added_losses() -> list[jax.Array]:
    """Return what the calls of a block have added to the loss."""
    return [] if _Scope.current is None else list(_Scope.current.losses)


def of_block(
    forward: Callable[[Any], tuple[jax.Array, jax.Array | None, Any]],
    inputs: Any,
    variables: Sequence[Any],
) -> tuple[jax.Array, list[Any], Any]:
    """Return the outputs of a block, the gradients of its loss, and what else it returns."""
    known = {} if _Scope.current is None else _Scope.current.state_mapping
    values = [read(variable) for variable in variables]
    learns = False

    def learning(values: Sequence[jax.Array]) -> tuple[jax.Array, Any]:
        # What is traced here must not stay in a variable when the gradient has been taken.
        nonlocal learns
        given = dict(known)
        given.update((id(each), value) for each, value in zip(variables, values, strict=True))
        with _Scope() as scope:
            scope.state_mapping.update(given)
            outputs, loss, found = forward(inputs)
        state = scope.state_mapping.items()
        changed = {key: value for key, value in state if value is not given.get(key)}
        learns = loss is not None and len(values) > 0
        rest = outputs, getattr(outputs, "_keras_mask", None), found, changed
        return jnp.zeros(()) if loss is None else loss, rest

    (_, rest), gradients = jax.value_and_grad(learning, has_aux=True)(values)
    outputs, mask, found, changed = rest
    if mask is not None:
        outputs._keras_mask = mask
    known.update(changed)
    return outputs, gradients if learns else [None] * len(values), found


def updates_in_parts(optimizer: Any) -> bool:
    """Return that they go in one: the step of an optimizer is a function of its whole state."""
    return False


def apply_gradients(optimizer: Any, gradients: list[Any], variables: list[Any]) -> None:
    """Let an optimizer make a step; what has no gradient gets zeros, as in Keras' own step."""
    known = {id(each): value for each, value in zip(variables, gradients, strict=True)}
    own = list(optimizer._trainable_variables)
    values = [each.value for each in own]
    complete = [
        jnp.zeros_like(value) if known.get(id(each)) is None else known[id(each)]
        for each, value in zip(own, values, strict=True)
    ]
    others = list(optimizer.variables)
    state = [each.value for each in others]
    trained, state = optimizer.stateless_apply(state, complete, values)
    for each, value in zip([*own, *others], [*trained, *state], strict=True):
        each.assign(value)


def gradients(function: Callable[..., jax.Array], tensors: list[Any]) -> list[jax.Array]:
    """Differentiate a scalar function of tensors."""
    return list(jax.grad(lambda tensors: function(*tensors))(list(tensors)))


def scan(
    step: Callable[[Any, Any], tuple[Any, Any]],
    carry: tuple[jax.Array, ...],
    sequences: tuple[jax.Array, ...],
    like: Sequence[tuple[Any, Any]],
    reverse: bool = False,
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
    """Return the last carry and the stacked outputs of a step along the first axis."""
    carry, outputs = jax.lax.scan(step, tuple(carry), tuple(sequences), reverse=reverse)
    return carry, outputs


differentiable_scan = scan
"""Gradients return through every loop."""


def pull_back(
    function: Callable[..., Any], tensors: Sequence[jax.Array], upstream: Sequence[jax.Array]
) -> Sequence[jax.Array]:
    """Return the errors at the tensors for those at the several outputs of a function."""
    outputs, back = jax.vjp(lambda *tensors: tuple(function(*tensors)), *tensors)
    pairs = zip(upstream, outputs, strict=True)
    found: Sequence[jax.Array] = back(tuple(error.astype(each.dtype) for error, each in pairs))
    return found


def matmul(
    a: jax.Array, b: jax.Array, transpose_a: bool = False, transpose_b: bool = False
) -> jax.Array:
    """Multiply matrices; the compiler folds the transposes. The first may be sparse."""
    if is_sparse(a):
        return (a.T if transpose_a else a) @ (b.mT if transpose_b else b)
    return jnp.matmul(a.mT if transpose_a else a, b.mT if transpose_b else b)


def conv_input_gradient(
    linear_map: Convolution, upstream: jax.Array, kernel: jax.Array, inputs: jax.Array
) -> jax.Array:
    """Return the transpose of the convolution in its inputs."""
    return _transpose(lambda x: linear_map.apply(x, kernel), inputs, upstream)


def conv_kernel_gradient(
    linear_map: Convolution, inputs: jax.Array, upstream: jax.Array, kernel: jax.Array
) -> jax.Array:
    """Return the transpose of the convolution in its kernel."""
    return _transpose(lambda k: linear_map.apply(inputs, k), kernel, upstream)


def depthwise_input_gradient(
    linear_map: DepthwiseConvolution, upstream: jax.Array, kernel: jax.Array, inputs: jax.Array
) -> jax.Array:
    """Return the transpose of the depthwise convolution in its inputs."""
    return _transpose(lambda x: linear_map.apply(x, kernel), inputs, upstream)


def depthwise_kernel_gradient(
    linear_map: DepthwiseConvolution, inputs: jax.Array, upstream: jax.Array, kernel: jax.Array
) -> jax.Array:
    """Return the transpose of the depthwise convolution in its kernel."""
    return _transpose(lambda k: linear_map.apply(inputs, k), kernel, upstream)


def transposed_input_gradient(
    linear_map: TransposedConvolution, upstream: jax.Array, kernel: jax.Array, inputs: jax.Array
) -> jax.Array:
    """Return the transpose of the transposed convolution in its inputs."""
    return _transpose(lambda x: linear_map.apply(x, kernel), inputs, upstream)


def transposed_kernel_gradient(
    linear_map: TransposedConvolution, inputs: jax.Array, upstream: jax.Array, kernel: jax.Array
) -> jax.Array:
    """Return the transpose of the transposed convolution in its kernel."""
    return _transpose(lambda k: linear_map.apply(inputs, k), kernel, upstream)


def patches(inputs: jax.Array, windows: Windows) -> jax.Array:
    """Bring `(*space, c, batch)` to `(positions, taps * c, batch)`."""
    # The channels come last within the taps; the compiler makes this a part of the product.
    inputs = jnp.swapaxes(inputs, -1, -2)
    seen = jnp.concatenate([inputs[window] for window in windows.slices()], -1)
    seen = jnp.reshape(seen, (math.prod(windows.positions), *seen.shape[-2:]))
    return jnp.swapaxes(seen, -1, -2)


def patches_adjoint(upstream: jax.Array, windows: Windows) -> jax.Array:
    """Sum patches where they overlap: the transpose of `patches`."""
    channels = upstream.shape[1] // math.prod(windows.kernel_size)
    like = jax.ShapeDtypeStruct((*windows.sizes, channels, upstream.shape[-1]), upstream.dtype)
    return _transpose(lambda x: patches(x, windows), like, upstream)


def read(variable: Any) -> jax.Array:
    """Read a Keras variable."""
    value: jax.Array = variable.value
    return value


def read_in_place(variable: Any) -> jax.Array:
    """Return the variable's array: nothing writes into it."""
    return read(variable)


def top_k(values: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Return the k largest entries of each row, in descending order, and their places.

    If only some of the k are used, XLA would sort whole rows, which takes many times as long on a
    CPU. The barrier hides from it what is used.
    """
    return tuple(jax.lax.optimization_barrier(ops.top_k(values, k)))


def distinct(indices: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return each of the indices once, and for each entry its place among them.

    The length is constant: the last places repeat an index, and no entry has such a place.
    """
    values, places = jnp.unique(indices, size=indices.size, return_inverse=True)
    return values, places


def matrix_of_few(places: jax.Array, values: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Return a matrix, for `matmul`, that is zero but for the given entries."""
    return ops.scatter(places, values, shape)


def take_rows(variable: Any, rows: jax.Array) -> jax.Array:
    """Read rows of a variable."""
    return jnp.take(jnp.asarray(variable), rows, axis=0)


def write_rows(variable: Any, rows: jax.Array, values: jax.Array) -> None:
    """Write rows of a Keras variable."""
    variable.assign(variable.value.at[rows].set(values))


def assured(tensor: jax.Array, condition: jax.Array, message: str) -> jax.Array:
    """Return the tensor: a compiled step has no way to stop."""
    return tensor


def replica_sums(tensors: list[jax.Array]) -> list[jax.Array]:
    """Return the tensors: a data-parallel step sees the global batch."""
    return tensors


def eagerly(function: Callable[[], jax.Array]) -> jax.Array:
    """Compute a value outside the function that is being traced."""
    with jax.ensure_compile_time_eval():
        return function()


def holds_values(tensor: jax.Array) -> bool:
    """Return whether a tensor that was computed eagerly is more than a shape."""
    return True


def replica_count() -> int:
    """Return 1: a data-parallel step sees the global batch."""
    return 1


def guarded_step(
    model: Any, step: Callable[..., Any], arguments: tuple[Any, ...], kept: Sequence[Any]
) -> Any:
    """Make a training step, and undo it unless loss and weights are finite; see `ops.guarded`.

    The whole state is passed on, so that all of it is kept, not only `kept`.
    """
    state, *_ = arguments
    logs, (trainable, others, optimizer, metrics) = step(*arguments)
    finite = [jnp.isfinite(value).all() for value in trainable]
    healthy = jnp.stack([jnp.isfinite(logs["loss"]), *finite]).all()

    def kept_of(variables: Any, new: Any, old: Any) -> Any:
        # The state of a generator may be in the list twice, with one buffer, and JAX donates a
        # buffer only once. Keras reads the last one; the others are not read here, either.
        last = {id(variable): value for variable, value in zip(variables, old, strict=True)}
        pairs = zip(variables, new, strict=True)
        return [jnp.where(healthy, value, last[id(variable)]) for variable, value in pairs]

    total = model._loss_tracker.total
    metrics = [
        jnp.where(healthy, value, jnp.nan) if variable is total else value
        for variable, value in zip(model.metrics_variables, metrics, strict=True)
    ]
    logs = {**logs, "loss": jnp.where(healthy, logs["loss"], jnp.nan)}
    variables = model.trainable_variables, model.non_trainable_variables, model.optimizer.variables
    after = map(kept_of, variables, (trainable, others, optimizer), state[:3])
    return logs, (*after, metrics)


def known(condition: jax.Array) -> bool | None:
    """Return the value of a condition, None while it is traced."""
    return None if isinstance(condition, jax.core.Tracer) else bool(condition)


def call_if(condition: jax.Array, function: Callable[[], None]) -> bool:
    """Call a Python function from inside a compiled step, if a condition holds."""
    jax.lax.cond(condition, lambda: jax.debug.callback(function), lambda: None)
    return True


def in_strategy() -> bool:
    """Return False: only TensorFlow has `tf.distribute`."""
    return False


def replica_index() -> int:
    """Return 0: a data-parallel step sees the global batch."""
    return 0


def _transpose(
    function: Callable[[jax.Array], jax.Array], like: jax.Array, upstream: jax.Array
) -> jax.Array:
    shape = jax.ShapeDtypeStruct(jnp.shape(like), jnp.result_type(like))
    return jax.linear_transpose(function, shape)(upstream)[0]
