"""JAX: custom gradients, adjoints by linear transposition, replicas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
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


def after(tensor: Any, others: Any) -> Any:
    """Return the tensor: XLA finds the order itself, and eager code has one."""
    return tensor


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


def differentiable_scan(
    step: Callable[[Any, Any], tuple[Any, Any]],
    carry: tuple[jax.Array, ...],
    sequences: tuple[jax.Array, ...],
    like: Sequence[tuple[Any, Any]],
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
    """Do the same: gradients return through every loop."""
    return scan(step, carry, sequences, like)


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

    If only some of the k are used, XLA would sort whole rows, which takes up to 80 times as long on
    a CPU. The barrier hides from it what is used.
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


def replica_sum(tensor: jax.Array) -> jax.Array:
    """Return the tensor: a data-parallel step sees the global batch."""
    return tensor


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
