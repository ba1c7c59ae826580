"""The layers of this package that replace those of Keras, registered like a user's pair."""

from __future__ import annotations

from keras_local import layers
from keras_local.layers.conversions import register_conversion as register_conversion

for _ours in (
    layers.FeedbackConv1D,
    layers.FeedbackConv1DTranspose,
    layers.FeedbackConv2D,
    layers.FeedbackConv2DTranspose,
    layers.FeedbackConv3D,
    layers.FeedbackConv3DTranspose,
    layers.FeedbackDense,
    layers.FeedbackDepthwiseConv1D,
    layers.FeedbackDepthwiseConv2D,
    layers.FeedbackEinsumDense,
    layers.FeedbackGRU,
    layers.FeedbackLSTM,
    layers.FeedbackMultiHeadAttention,
    layers.FeedbackRNN,
    layers.FeedbackSeparableConv1D,
    layers.FeedbackSeparableConv2D,
    layers.FeedbackSimpleRNN,
):
    register_conversion(_ours.plain, _ours)
