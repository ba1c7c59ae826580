"""The Keras layers that users write, one class a file."""

from keras_local.layers.direct_feedback import DirectFeedback as DirectFeedback
from keras_local.layers.direct_random_target import DirectRandomTarget as DirectRandomTarget
from keras_local.layers.feedback_conv1d import FeedbackConv1D as FeedbackConv1D
from keras_local.layers.feedback_conv1d_transpose import (
    FeedbackConv1DTranspose as FeedbackConv1DTranspose,
)
from keras_local.layers.feedback_conv2d import FeedbackConv2D as FeedbackConv2D
from keras_local.layers.feedback_conv2d_transpose import (
    FeedbackConv2DTranspose as FeedbackConv2DTranspose,
)
from keras_local.layers.feedback_conv3d import FeedbackConv3D as FeedbackConv3D
from keras_local.layers.feedback_conv3d_transpose import (
    FeedbackConv3DTranspose as FeedbackConv3DTranspose,
)
from keras_local.layers.feedback_dense import FeedbackDense as FeedbackDense
from keras_local.layers.feedback_depthwise_conv1d import (
    FeedbackDepthwiseConv1D as FeedbackDepthwiseConv1D,
)
from keras_local.layers.feedback_depthwise_conv2d import (
    FeedbackDepthwiseConv2D as FeedbackDepthwiseConv2D,
)
from keras_local.layers.feedback_einsum_dense import FeedbackEinsumDense as FeedbackEinsumDense
from keras_local.layers.feedback_layer import FeedbackLayer as FeedbackLayer
from keras_local.layers.feedback_multi_head_attention import (
    FeedbackMultiHeadAttention as FeedbackMultiHeadAttention,
)
from keras_local.layers.feedback_separable_conv1d import (
    FeedbackSeparableConv1D as FeedbackSeparableConv1D,
)
from keras_local.layers.feedback_separable_conv2d import (
    FeedbackSeparableConv2D as FeedbackSeparableConv2D,
)
from keras_local.layers.hebbian_conv1d import HebbianConv1D as HebbianConv1D
from keras_local.layers.hebbian_conv2d import HebbianConv2D as HebbianConv2D
from keras_local.layers.hebbian_dense import HebbianDense as HebbianDense
from keras_local.layers.hebbian_layer import HebbianLayer as HebbianLayer
from keras_local.layers.hebbian_locally_connected2d import (
    HebbianLocallyConnected2D as HebbianLocallyConnected2D,
)
from keras_local.layers.locally_connected1d import LocallyConnected1D as LocallyConnected1D
from keras_local.layers.locally_connected2d import LocallyConnected2D as LocallyConnected2D
from keras_local.layers.synaptic_traces import SynapticTraces as SynapticTraces
from keras_local.layers.zca_whitening import ZCAWhitening as ZCAWhitening

__all__ = [
    "DirectFeedback",
    "DirectRandomTarget",
    "FeedbackConv1D",
    "FeedbackConv1DTranspose",
    "FeedbackConv2D",
    "FeedbackConv2DTranspose",
    "FeedbackConv3D",
    "FeedbackConv3DTranspose",
    "FeedbackDense",
    "FeedbackDepthwiseConv1D",
    "FeedbackDepthwiseConv2D",
    "FeedbackEinsumDense",
    "FeedbackLayer",
    "FeedbackMultiHeadAttention",
    "FeedbackSeparableConv1D",
    "FeedbackSeparableConv2D",
    "HebbianConv1D",
    "HebbianConv2D",
    "HebbianDense",
    "HebbianLayer",
    "HebbianLocallyConnected2D",
    "LocallyConnected1D",
    "LocallyConnected2D",
    "SynapticTraces",
    "ZCAWhitening",
]
