"""Keras layers with feedback rules, with plasticity rules, and with direct feedback."""

from keras_local.layers.converted import Converted as Converted
from keras_local.layers.direct.direct_feedback import DirectFeedback as DirectFeedback
from keras_local.layers.direct.direct_random_target import DirectRandomTarget as DirectRandomTarget
from keras_local.layers.feedback.convolution import FeedbackConv1D as FeedbackConv1D
from keras_local.layers.feedback.convolution import FeedbackConv2D as FeedbackConv2D
from keras_local.layers.feedback.convolution import FeedbackConv3D as FeedbackConv3D
from keras_local.layers.feedback.dense import FeedbackDense as FeedbackDense
from keras_local.layers.feedback.depthwise_convolution import (
    FeedbackDepthwiseConv1D as FeedbackDepthwiseConv1D,
)
from keras_local.layers.feedback.depthwise_convolution import (
    FeedbackDepthwiseConv2D as FeedbackDepthwiseConv2D,
)
from keras_local.layers.feedback.einsum_dense import FeedbackEinsumDense as FeedbackEinsumDense
from keras_local.layers.feedback.layer import FeedbackLayer as FeedbackLayer
from keras_local.layers.feedback.locally_connected import LocallyConnected1D as LocallyConnected1D
from keras_local.layers.feedback.locally_connected import LocallyConnected2D as LocallyConnected2D
from keras_local.layers.feedback.multi_head_attention import (
    FeedbackMultiHeadAttention as FeedbackMultiHeadAttention,
)
from keras_local.layers.feedback.separable_convolution import (
    FeedbackSeparableConv1D as FeedbackSeparableConv1D,
)
from keras_local.layers.feedback.separable_convolution import (
    FeedbackSeparableConv2D as FeedbackSeparableConv2D,
)
from keras_local.layers.feedback.transposed_convolution import (
    FeedbackConv1DTranspose as FeedbackConv1DTranspose,
)
from keras_local.layers.feedback.transposed_convolution import (
    FeedbackConv2DTranspose as FeedbackConv2DTranspose,
)
from keras_local.layers.feedback.transposed_convolution import (
    FeedbackConv3DTranspose as FeedbackConv3DTranspose,
)
from keras_local.layers.hebbian.convolution import HebbianConv1D as HebbianConv1D
from keras_local.layers.hebbian.convolution import HebbianConv2D as HebbianConv2D
from keras_local.layers.hebbian.dense import HebbianDense as HebbianDense
from keras_local.layers.hebbian.layer import HebbianLayer as HebbianLayer
from keras_local.layers.hebbian.locally_connected import (
    HebbianLocallyConnected2D as HebbianLocallyConnected2D,
)
from keras_local.layers.hebbian.synaptic_traces import SynapticTraces as SynapticTraces
from keras_local.layers.hebbian.zca_whitening import ZCAWhitening as ZCAWhitening
from keras_local.layers.learning_form import LearningForm as LearningForm
from keras_local.layers.plain_form import ErrorKernel as ErrorKernel
from keras_local.layers.plain_form import PlainForm as PlainForm
from keras_local.layers.recurrent.cells import FeedbackRNN as FeedbackRNN
from keras_local.layers.recurrent.gru import FeedbackGRU as FeedbackGRU
from keras_local.layers.recurrent.leaky import LeakyRNN as LeakyRNN
from keras_local.layers.recurrent.lstm import FeedbackLSTM as FeedbackLSTM
from keras_local.layers.recurrent.simple import FeedbackSimpleRNN as FeedbackSimpleRNN

__all__ = [
    "Converted",
    "DirectFeedback",
    "DirectRandomTarget",
    "ErrorKernel",
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
    "FeedbackGRU",
    "FeedbackLSTM",
    "FeedbackLayer",
    "FeedbackMultiHeadAttention",
    "FeedbackRNN",
    "FeedbackSeparableConv1D",
    "FeedbackSeparableConv2D",
    "FeedbackSimpleRNN",
    "HebbianConv1D",
    "HebbianConv2D",
    "HebbianDense",
    "HebbianLayer",
    "HebbianLocallyConnected2D",
    "LeakyRNN",
    "LearningForm",
    "LocallyConnected1D",
    "LocallyConnected2D",
    "PlainForm",
    "SynapticTraces",
    "ZCAWhitening",
]
