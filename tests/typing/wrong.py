"""Nine typing errors: mypy, strict, has to see each of them. Never run."""

import keras

import keras_local as kl


def never_called() -> None:
    kl.layers.FeedbackDense(3, feedback="kolen_polack")  # wrong
    kl.layers.FeedbackConv2D(3, 3, kernel_initializr="zeros")  # wrong
    kl.feedback.SymmetricAlignment(evry=3)  # wrong
    kl.plasticity.SoftHebb(reducton=kl.plasticity.Sum())  # wrong
    kl.dynamics.EquilibriumNetwork([4, 5, 3], nudging="centerd")  # wrong
    kl.layers.HebbianDense("64", plasticity="oja")  # wrong
    net = kl.dynamics.EquilibriumNetwork([4, 5, 3])
    net.compil("sgd")  # wrong
    kl.models.readout(keras.Sequential(), classes=10, pwer=2.0)  # wrong
    kl.layers.HebbianConv2D(3, 3, padding="smae")  # wrong
