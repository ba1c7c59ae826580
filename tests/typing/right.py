"""The same lines without the errors: mypy, strict, has nothing to say. Never run."""

import keras

import keras_local as kl


def never_called() -> None:
    kl.layers.FeedbackDense(3, feedback="kolen_pollack")
    kl.layers.FeedbackConv2D(3, 3, kernel_initializer="zeros")
    kl.feedback.SymmetricAlignment(every=3)
    kl.plasticity.SoftHebb(reduction=kl.plasticity.Sum())
    kl.dynamics.EquilibriumNetwork([4, 5, 3], nudging="centred")
    kl.layers.HebbianDense(64, plasticity="oja")
    net = kl.dynamics.EquilibriumNetwork([4, 5, 3])
    net.compile("sgd")
    kl.models.readout(keras.Sequential(), classes=10, power=2.0)
    kl.layers.HebbianConv2D(3, 3, padding="same")
