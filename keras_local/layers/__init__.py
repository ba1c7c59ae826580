"""The Keras layers that users write, one class a file."""

from keras_local.layers.direct_feedback import DirectFeedback as DirectFeedback
from keras_local.layers.direct_random_target import DirectRandomTarget as DirectRandomTarget
from keras_local.layers.feedback_conv1d import FeedbackConv1D as FeedbackConv1D
from keras_local.layers.feedback_conv2d import FeedbackConv2D as FeedbackConv2D
from keras_local.layers.feedback_conv3d import FeedbackConv3D as FeedbackConv3D
from keras_local.layers.feedback_dense import FeedbackDense as FeedbackDense
from keras_local.layers.feedback_layer import FeedbackLayer as FeedbackLayer
from keras_local.layers.hebbian_dense import HebbianDense as HebbianDense

__all__ = [
    "DirectFeedback",
    "DirectRandomTarget",
    "FeedbackConv1D",
    "FeedbackConv2D",
    "FeedbackConv3D",
    "FeedbackDense",
    "FeedbackLayer",
    "HebbianDense",
]
