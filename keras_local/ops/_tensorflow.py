"""TensorFlow: custom gradients, convolution adjoints, replicas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import tensorflow as tf

from keras_local.ops._tensorflow_graphs import added_losses as added_losses
from keras_local.ops._tensorflow_graphs import after as after
from keras_local.ops._tensorflow_graphs import apply_gradients as apply_gradients
from keras_local.ops._tensorflow_graphs import assured as assured
from keras_local.ops._tensorflow_graphs import differentiable_scan as differentiable_scan
from keras_local.ops._tensorflow_graphs import gradients as gradients
from keras_local.ops._tensorflow_graphs import in_state as in_state
from keras_local.ops._tensorflow_graphs import of_block as of_block
from keras_local.ops._tensorflow_graphs import pull_back as pull_back
from keras_local.ops._tensorflow_graphs import scan as scan
from keras_local.ops._tensorflow_graphs import updates_in_parts as updates_in_parts

if TYPE_CHECKING:
    from keras_local.ops.depthwise import DepthwiseConvolution
    from keras_local.ops.linear_maps import Convolution
    from keras_local.ops.locally_connected import Windows
    from keras_local.ops.transposed import TransposedConvolution

    Map = TypeVar("Map", Convolution, DepthwiseConvolution)


def with_gradient(
    forward: Callable[..., tf.Tensor],
    backward: Callable[..., Any],
    *tensors: Any,
    independent: int = 2,
) -> tf.Tensor:
    """Compute `forward(*tensors)` with `backward(upstream, outputs, *tensors)` as its gradient.

    If `forward` returns a tuple, `upstream` and `outputs` are tuples as well. The gradients from
    number `independent` on may be independent of the tensors' values.
    """
    if is_sparse(tensors[0]):
        return _with_sparse(forward, backward, *tensors, independent=independent)

    @tf.custom_gradient
    def operation(*tensors: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
        outputs = forward(*tensors)

        def gradient(*upstream: tf.Tensor) -> Any:
            several = isinstance(outputs, tuple)
            gradients = backward(upstream if several else upstream[0], outputs, *tensors)
            # The update of a weight must wait until the weight has been read. The runtime ensures
            # this, except if there is a custom gradient between them that does not depend on the
            # weight, such as the gradient of a feedback weight.
            with tf.control_dependencies(tensors[independent:]):
                tied = [None if g is None else tf.identity(g) for g in gradients[independent:]]
            return [*gradients[:independent], *tied]

        return outputs, gradient

    # A variable among the arguments makes eager mode ask for a `variables` argument.
    return operation(*(tf.convert_to_tensor(tensor) for tensor in tensors))


def _with_sparse(
    forward: Callable[..., tf.Tensor],
    backward: Callable[..., Any],
    inputs: tf.SparseTensor,
    *tensors: Any,
    independent: int,
) -> tf.Tensor:
    """Do the same as `with_gradient` for sparse inputs, with a gradient at stored entries."""

    def whole(values: tf.Tensor) -> tf.SparseTensor:
        return tf.SparseTensor(inputs.indices, values, inputs.dense_shape)

    def of_entries(
        upstream: Any, outputs: Any, values: tf.Tensor, *others: tf.Tensor
    ) -> tuple[tf.Tensor | None, ...]:
        first, *rest = backward(upstream, outputs, whole(values), *others)
        return None if first is None else tf.gather_nd(first, inputs.indices), *rest

    return with_gradient(
        lambda values, *others: forward(whole(values), *others),
        of_entries,
        inputs.values,
        *tensors,
        independent=independent,
    )


def is_sparse(tensor: Any) -> bool:
    """Return whether a tensor stores only some of its entries."""
    return isinstance(tensor, tf.SparseTensor)


def matmul(
    a: tf.Tensor, b: tf.Tensor, transpose_a: bool = False, transpose_b: bool = False
) -> tf.Tensor:
    """Multiply matrices without materialising a transpose; the first may be sparse."""
    if is_sparse(a):
        return tf.sparse.sparse_dense_matmul(a, b, adjoint_a=transpose_a, adjoint_b=transpose_b)
    return tf.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)


def conv_input_gradient(
    linear_map: Convolution, upstream: tf.Tensor, kernel: tf.Tensor, inputs: tf.Tensor
) -> tf.Tensor:
    """Return the backend's convolution-backprop-input of `upstream` with `kernel`."""
    if len(linear_map.strides) == 1:
        flat, inputs, upstream = _as_2d(linear_map, inputs, upstream)
        gradient = conv_input_gradient(flat, upstream, kernel[None], inputs)
        return tf.squeeze(gradient, _new_axis(linear_map))
    return _adjoint(_input_gradient, linear_map, inputs, kernel, upstream)


def conv_kernel_gradient(
    linear_map: Convolution, inputs: tf.Tensor, upstream: tf.Tensor, kernel: tf.Tensor
) -> tf.Tensor:
    """Return the backend's convolution-backprop-filter of `inputs` and `upstream`."""
    if len(linear_map.strides) == 1:
        flat, inputs, upstream = _as_2d(linear_map, inputs, upstream)
        return conv_kernel_gradient(flat, inputs, upstream, kernel[None])[0]
    return _adjoint(_kernel_gradient, linear_map, inputs, kernel, upstream)


def depthwise_input_gradient(
    linear_map: DepthwiseConvolution, upstream: tf.Tensor, kernel: tf.Tensor, inputs: tf.Tensor
) -> tf.Tensor:
    """Return the backend's depthwise-backprop-input of `upstream` with `kernel`."""
    if not _is_native(linear_map):
        return _derived(linear_map, 0, inputs, kernel, upstream)
    if len(linear_map.strides) == 1:
        flat, inputs, upstream = _as_2d(linear_map, inputs, upstream)
        flat = replace(flat, strides=linear_map.strides * 2)  # Of unequal ones it has none.
        return depthwise_input_gradient(flat, upstream, kernel[None], inputs)[:, 0]
    return tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
        input_sizes=tf.shape(inputs),
        filter=kernel,
        out_backprop=upstream,
        strides=_full(linear_map.strides, first=False),
        padding=linear_map.padding.upper(),
    )


def depthwise_kernel_gradient(
    linear_map: DepthwiseConvolution, inputs: tf.Tensor, upstream: tf.Tensor, kernel: tf.Tensor
) -> tf.Tensor:
    """Return the backend's depthwise-backprop-filter of `inputs` and `upstream`."""
    if not _is_native(linear_map):
        return _derived(linear_map, 1, inputs, kernel, upstream)
    if len(linear_map.strides) == 1:
        flat, inputs, upstream = _as_2d(linear_map, inputs, upstream)
        flat = replace(flat, strides=linear_map.strides * 2)  # Of unequal ones it has none.
        return depthwise_kernel_gradient(flat, inputs, upstream, kernel[None])[0]
    return tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
        input=inputs,
        filter_sizes=tf.shape(kernel),
        out_backprop=upstream,
        strides=_full(linear_map.strides, first=False),
        padding=linear_map.padding.upper(),
    )


def transposed_input_gradient(
    linear_map: TransposedConvolution, upstream: tf.Tensor, kernel: tf.Tensor, inputs: tf.Tensor
) -> tf.Tensor:
    """Return the convolution of `upstream` with `kernel`."""
    return linear_map.convolution.apply(upstream, kernel)


def transposed_kernel_gradient(
    linear_map: TransposedConvolution, inputs: tf.Tensor, upstream: tf.Tensor, kernel: tf.Tensor
) -> tf.Tensor:
    """Return the convolution's kernel gradient, with activity and error exchanged."""
    return conv_kernel_gradient(linear_map.convolution, upstream, inputs, kernel)


def patches(inputs: tf.Tensor, windows: Windows) -> tf.Tensor:
    """Bring `(*space, c, batch)` to `(positions, taps * c, batch)`, with a fast gradient."""

    @tf.custom_gradient
    def operation(inputs: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        channels, batch = inputs.shape[-2], inputs.shape[-1] or tf.shape(inputs)[-1]
        rows = tf.reshape(inputs, (math.prod(windows.sizes), channels * batch))
        taken = tf.gather(rows, _seen_rows(windows))
        shape = (math.prod(windows.positions), math.prod(windows.kernel_size) * channels, batch)
        return tf.reshape(taken, shape), lambda upstream: patches_adjoint(upstream, windows)

    return operation(inputs)


def patches_adjoint(upstream: tf.Tensor, windows: Windows) -> tf.Tensor:
    """Sum patches where they overlap, one spatial axis after the other."""
    channels = upstream.shape[1] // math.prod(windows.kernel_size)
    batch = upstream.shape[-1] or tf.shape(upstream)[-1]
    shape = (*windows.positions, *windows.kernel_size, channels * batch)
    tensor = tf.reshape(upstream, shape)
    for axis in reversed(range(len(windows.sizes))):
        tensor = _overlap_add(tensor, axis, windows.strides[axis], windows.sizes[axis])
    return tf.reshape(tensor, (*windows.sizes, channels, batch))


def read(variable: Any) -> tf.Tensor:
    """Read a Keras variable once; otherwise each use of a TensorFlow variable reads it again."""
    return tf.convert_to_tensor(variable.value)


def read_in_place(variable: Any) -> tf.Tensor:
    """Read a Keras variable, few rows of which are written in each step.

    After a write of rows, every reading copies the variable, so that the next write need not copy
    it. Here a step has finished all readings before its write, so that no copy is needed.
    """
    tf.raw_ops.DisableCopyOnRead(resource=variable.value.handle)
    return read(variable)


def as_rows(tensor: tf.Tensor) -> tf.Tensor:
    """Return a tensor, of a rank that may be unknown, as a matrix with a row for each sample."""
    return tf.reshape(tensor, (tf.shape(tensor)[0], -1))


def top_k(values: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the k largest entries of each row, in descending order, and their places.

    Among equal entries the first comes first. TensorFlow's own function compares number after
    number. The k largest are in the k groups with the largest maxima: computing maxima takes a
    fraction of that time, and leaves few numbers to compare.
    """
    values = tf.convert_to_tensor(values)
    count = values.shape[-1]
    # The size of groups divides the row and leaves as few maxima and numbers as possible.
    sizes = [size for size in range(1, count) if count % size == 0]
    size = min(sizes, key=lambda size: count // size + k * size, default=1)
    groups = count // size
    if groups < k or groups + k * size > count // 2:
        return tuple(tf.math.top_k(values, k))
    grouped = tf.reshape(values, (-1, groups, size))
    _, best = tf.math.top_k(tf.reduce_max(grouped, axis=-1), k)
    best = tf.sort(best)  # This keeps equal numbers in their order.
    left = tf.reshape(tf.gather(grouped, best, batch_dims=1), (-1, k * size))
    largest, places = tf.math.top_k(left, k)
    places = tf.gather(best, places // size, batch_dims=1) * size + places % size
    if values.shape.rank == 2:
        return largest, places
    shape = tf.concat([tf.shape(values)[:-1], [k]], axis=0)
    return tf.reshape(largest, shape), tf.reshape(places, shape)


def distinct(indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return each of the indices once, and for each entry its place among them."""
    return tuple(tf.unique(indices))


def matrix_of_few(places: tf.Tensor, values: tf.Tensor, shape: tuple[Any, Any]) -> tf.SparseTensor:
    """Return a matrix, for `matmul`, that is zero but for the given entries."""
    return tf.SparseTensor(tf.cast(places, tf.int64), values, tf.cast(tf.stack(shape), tf.int64))


def take_rows(variable: Any, rows: tf.Tensor) -> tf.Tensor:
    """Read rows of a variable; the gradient touches these rows only."""
    return tf.gather(variable, rows)


def write_rows(variable: Any, rows: tf.Tensor, values: tf.Tensor) -> None:
    """Write rows of a Keras variable in place."""
    variable.value.scatter_update(tf.IndexedSlices(values, rows))


def image_writer(folder: str) -> tuple[Callable[..., None], Callable[[], None]]:
    """Open an event file for TensorBoard.

    Returns:
        A function of name, PNG bytes, width, height and step, which writes an image, and one
        without arguments that closes the file.
    """
    writer = tf.summary.create_file_writer(folder)
    metadata = tf.compat.v1.SummaryMetadata()
    # This is the form of TensorBoard's own image summary: sizes, then encoded images.
    metadata.plugin_data.plugin_name = "images"

    def write(name: str, png: bytes, width: int, height: int, step: int) -> None:
        with writer.as_default(step):
            tf.summary.write(name, [str(width), str(height), png], metadata=metadata)
        writer.flush()

    return write, writer.close


def replica_sums(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """Return sums over replicas inside a replica, and otherwise the tensors."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tensors
    return list(context.all_reduce(tf.distribute.ReduceOp.SUM, tensors))


def eagerly(function: Callable[[], tf.Tensor]) -> tf.Tensor:
    """Compute a value outside the graph that is being traced."""
    with tf.init_scope():
        return function()


def holds_values(tensor: tf.Tensor) -> bool:
    """Return whether a tensor that was computed eagerly is more than a shape."""
    return True


def replica_count() -> int:
    """Return the number of replicas in sync."""
    count: int = tf.distribute.get_strategy().num_replicas_in_sync
    return count


def guarded_step(model: Any, step: Any, arguments: tuple[Any, ...], kept: Sequence[Any]) -> Any:
    """Make a training step, and undo it unless loss and weights are finite; see `guarded`."""
    before = [tf.identity(variable.value) for variable in kept]
    logs = step(*arguments)
    finite = [tf.reduce_all(tf.math.is_finite(each.value)) for each in model.trainable_variables]
    healthy = tf.reduce_all(tf.stack([tf.math.is_finite(logs["loss"]), *finite]))
    healthy = tf.equal(replica_sums([1.0 - tf.cast(healthy, "float32")])[0], 0.0)
    for variable, value in zip(kept, before, strict=True):
        _assign(variable, tf.where(healthy, variable.value, value))
    total, loss = model._loss_tracker.total, logs["loss"]
    total.assign(tf.where(healthy, total.value, tf.cast(math.nan, total.dtype)))
    return {**logs, "loss": tf.where(healthy, loss, tf.cast(math.nan, loss.dtype))}


def _assign(variable: Any, value: tf.Tensor) -> None:
    """Assign a value that is the same on all replicas, or a value for this replica."""
    context = tf.distribute.get_replica_context()
    own = variable.value.synchronization == tf.VariableSynchronization.ON_READ
    if own or context is None or context.num_replicas_in_sync == 1:
        variable.assign(value)
        return

    def update(strategy: Any, value: Any) -> None:
        strategy.extended.update(variable.value, lambda each, new: each.assign(new), args=(value,))

    context.merge_call(update, args=(value,))


def known(condition: tf.Tensor) -> bool | None:
    """Return the value of a condition, or None inside a graph."""
    return bool(condition) if tf.executing_eagerly() else None


def call_if(condition: tf.Tensor, function: Callable[[], None]) -> bool:
    """Return False: a compiled step may run under XLA, which cannot call Python functions."""
    return False


def in_strategy() -> bool:
    """Return whether variables created here belong to a `tf.distribute` strategy."""
    return bool(tf.distribute.has_strategy())


def replica_index() -> tf.Tensor | int:
    """Return the number of this replica among those in sync, 0 outside a replica."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def _new_axis(linear_map: Convolution | DepthwiseConvolution) -> int:
    return 1 if linear_map.data_format == "channels_last" else 2


def _as_2d(
    linear_map: Map, inputs: tf.Tensor, upstream: tf.Tensor
) -> tuple[Map, tf.Tensor, tf.Tensor]:
    axis = _new_axis(linear_map)
    flat = type(linear_map)(
        strides=(1, *linear_map.strides),
        padding=linear_map.padding,
        dilation_rate=(1, *linear_map.dilation_rate),
        data_format=linear_map.data_format,
    )
    return flat, tf.expand_dims(inputs, axis), tf.expand_dims(upstream, axis)


def _adjoint(
    operation: Callable[..., tf.Tensor],
    linear_map: Convolution,
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    upstream: tf.Tensor,
) -> tf.Tensor:
    first = linear_map.data_format == "channels_first"
    spatial = len(linear_map.strides)
    channels = inputs.shape[1 if first else -1]
    grouped = channels != kernel.shape[-2]
    # Cases that TensorFlow's CPU kernels lack use XLA, as in keras.ops.conv; only some builds have
    # dilated adjoints on the CPU.
    if grouped or (first and spatial == 3) or max(linear_map.dilation_rate) > 1:
        operation = tf.function(operation, jit_compile=True, autograph=False)
    return operation(
        inputs,
        kernel,
        upstream,
        strides=_full(linear_map.strides, first),
        dilations=_full(linear_map.dilation_rate, first),
        padding=linear_map.padding.upper(),
        data_format=_DATA_FORMATS[spatial, first],
    )


def _is_native(linear_map: DepthwiseConvolution) -> bool:
    return linear_map.data_format == "channels_last" and max(linear_map.dilation_rate) == 1


def _derived(
    linear_map: DepthwiseConvolution,
    argument: int,
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    upstream: tf.Tensor,
) -> tf.Tensor:
    """Differentiate a composition in keras.ops, for cases that the operation lacks.

    It is a separate function, so that the forward product, which no gradient needs, is pruned.
    """

    def gradient(inputs: tf.Tensor, kernel: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
        outputs = linear_map.apply(inputs, kernel)
        return tf.gradients(outputs, (inputs, kernel)[argument], upstream)[0]

    return tf.function(gradient, autograph=False)(inputs, kernel, upstream)


_DATA_FORMATS = {(2, False): "NHWC", (2, True): "NCHW", (3, False): "NDHWC", (3, True): "NCDHW"}


def _full(sizes: tuple[int, ...], first: bool) -> list[int]:
    return [1, 1, *sizes] if first else [1, *sizes, 1]


def _input_gradient(
    inputs: tf.Tensor, kernel: tf.Tensor, upstream: tf.Tensor, **attributes: Any
) -> tf.Tensor:
    operation = (
        tf.raw_ops.Conv2DBackpropInput
        if len(attributes["strides"]) == 4
        else tf.raw_ops.Conv3DBackpropInputV2
    )
    return operation(
        input_sizes=tf.shape(inputs), filter=kernel, out_backprop=upstream, **attributes
    )


def _kernel_gradient(
    inputs: tf.Tensor, kernel: tf.Tensor, upstream: tf.Tensor, **attributes: Any
) -> tf.Tensor:
    operation = (
        tf.raw_ops.Conv2DBackpropFilter
        if len(attributes["strides"]) == 4
        else tf.raw_ops.Conv3DBackpropFilterV2
    )
    return operation(
        input=inputs, filter_sizes=tf.shape(kernel), out_backprop=upstream, **attributes
    )


def _seen_rows(windows: Windows) -> np.ndarray:
    """Return the number of the input, in the flattened space, for each position and tap."""
    rank, rows = len(windows.sizes), np.zeros((1,), "int32")
    for i, (size, taps, stride, count) in enumerate(
        zip(windows.sizes, windows.kernel_size, windows.strides, windows.positions, strict=True)
    ):
        seen = stride * np.arange(count)[:, None] + np.arange(taps)
        shape = [1] * (2 * rank)
        shape[i], shape[rank + i] = count, taps
        rows = rows * size + seen.reshape(shape).astype("int32")
    return rows.reshape(-1)


def _overlap_add(tensor: tf.Tensor, axis: int, stride: int, size: int) -> tf.Tensor:
    """Sum the taps of all positions on `axis` into `size` inputs."""
    taps = tf.unstack(tensor, axis=-2)
    most = -(-len(taps) // stride)
    # The taps of one lane are a whole number of strides apart, so they add up without gaps.
    lanes = [
        tf.add_n(
            [_pad(tap, axis, i, most - 1 - i) for i, tap in enumerate(taps[lane::stride])]
            or [_pad(tf.zeros_like(taps[0]), axis, 0, most - 1)]
        )
        for lane in range(stride)
    ]
    if stride == 1:
        return lanes[0]
    length = lanes[0].shape[axis] * stride
    joined = tf.stack(lanes, axis + 1)
    shape = tf.shape(joined)
    joined = tf.reshape(joined, tf.concat([shape[:axis], [length], shape[axis + 2 :]], 0))
    if length > size:
        return joined[(slice(None),) * axis + (slice(size),)]
    return _pad(joined, axis, 0, size - length)


def _pad(tensor: tf.Tensor, axis: int, before: int, behind: int) -> tf.Tensor:
    if before == behind == 0:
        return tensor
    amounts = [(0, 0)] * tensor.shape.rank
    amounts[axis] = (before, behind)
    return tf.pad(tensor, amounts)
