"""Functions on tensors: linear maps and their gradients, asymmetric gradients, settling.

`asymmetric` lets an error return through another kernel than that of the forward pass;
`surrogate_loss` passes a weight change to the optimizer; `settle` repeats a step. Everything else
in the package uses these functions. The backend files (`_tensorflow`, `_jax`, `_torch`) are the
only files that import a backend.
"""

from keras_local.ops import abilities as abilities
from keras_local.ops.assertions import assured as assured
from keras_local.ops.asymmetric import ErrorPath as ErrorPath
from keras_local.ops.asymmetric import Signals as Signals
from keras_local.ops.asymmetric import asymmetric as asymmetric
from keras_local.ops.blocks import Part as Part
from keras_local.ops.blocks import Updates as Updates
from keras_local.ops.blocks import added_losses as added_losses
from keras_local.ops.blocks import in_blocks as in_blocks
from keras_local.ops.blocks import in_state as in_state
from keras_local.ops.columns import Columns as Columns
from keras_local.ops.columns import Joined as Joined
from keras_local.ops.depthwise import DepthwiseConvolution as DepthwiseConvolution
from keras_local.ops.direct import direct as direct
from keras_local.ops.direct import examples as direct_examples
from keras_local.ops.draws import random_rows as random_rows
from keras_local.ops.eager import Once as Once
from keras_local.ops.eager import eagerly as eagerly
from keras_local.ops.einsum import Einsum as Einsum
from keras_local.ops.gradients import gradients as gradients
from keras_local.ops.guarded import guarded_step as guarded_step
from keras_local.ops.images import image_writer as image_writer
from keras_local.ops.linear_maps import Convolution as Convolution
from keras_local.ops.linear_maps import Dense as Dense
from keras_local.ops.linear_maps import LinearMap as LinearMap
from keras_local.ops.linear_maps import is_sparse as is_sparse
from keras_local.ops.locally_connected import LocallyConnected as LocallyConnected
from keras_local.ops.masked import Masked as Masked
from keras_local.ops.order import after as after
from keras_local.ops.recurrence import Recurrence as Recurrence
from keras_local.ops.recurrence import recurrence as recurrence
from keras_local.ops.refusing_errors import refusing_errors as refusing_errors
from keras_local.ops.scaled import Scaled as Scaled
from keras_local.ops.settling import residual as residual
from keras_local.ops.settling import settle as settle
from keras_local.ops.settling import trajectory as trajectory
from keras_local.ops.surrogate import gradient_loss as gradient_loss
from keras_local.ops.surrogate import in_strategy as in_strategy
from keras_local.ops.surrogate import read as read
from keras_local.ops.surrogate import replica_count as replica_count
from keras_local.ops.surrogate import replica_index as replica_index
from keras_local.ops.surrogate import replica_mean as replica_mean
from keras_local.ops.surrogate import replica_rows as replica_rows
from keras_local.ops.surrogate import replica_sum as replica_sum
from keras_local.ops.surrogate import replica_sums as replica_sums
from keras_local.ops.surrogate import surrogate_loss as surrogate_loss
from keras_local.ops.transposed import TransposedConvolution as TransposedConvolution
from keras_local.ops.workers import multi_worker as multi_worker

__all__ = [
    "Columns",
    "Convolution",
    "Dense",
    "DepthwiseConvolution",
    "Einsum",
    "ErrorPath",
    "Joined",
    "LinearMap",
    "LocallyConnected",
    "Masked",
    "Once",
    "Part",
    "Recurrence",
    "Scaled",
    "Signals",
    "TransposedConvolution",
    "Updates",
    "abilities",
    "added_losses",
    "after",
    "assured",
    "asymmetric",
    "direct",
    "direct_examples",
    "eagerly",
    "gradient_loss",
    "gradients",
    "guarded_step",
    "image_writer",
    "in_blocks",
    "in_state",
    "in_strategy",
    "is_sparse",
    "multi_worker",
    "random_rows",
    "read",
    "recurrence",
    "replica_count",
    "replica_index",
    "replica_mean",
    "replica_rows",
    "replica_sum",
    "replica_sums",
    "residual",
    "settle",
    "surrogate_loss",
    "trajectory",
]
