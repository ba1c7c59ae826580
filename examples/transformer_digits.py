"""A transformer of two blocks on sequences of digits' rows, by four ways for the errors.

Each of scikit-learn's digits is a sequence of eight tokens, its rows. Every token says which digit
it is; attention sees the whole sequence.
"""

import argparse

import keras
import numpy as np

import keras_local as kl

parser = argparse.ArgumentParser(description="A transformer of two blocks on rows of digits.")
parser.add_argument("--seeds", type=int, default=3, help="number of seeds, counted from 0")
parser.add_argument("--epochs", type=int, default=20, help="passes over the training images")

WIDTH, HEADS = 32, 4
RULES = ("backprop", "feedback_alignment", "kolen_pollack", "direct_feedback", "frozen")


def places(batch):
    """One-hot places of the tokens, which attention does not know by itself."""
    return keras.ops.broadcast_to(keras.ops.eye(8), (keras.ops.shape(batch)[0], 8, 8))


def transformer():
    """Two blocks of attention and dense layers, and the classes of each token."""
    inputs = keras.Input((8, 8))
    x = keras.layers.Concatenate()([inputs, keras.layers.Lambda(places)(inputs)])
    x = keras.layers.Dense(WIDTH, name="embedding")(x)
    for block in ("a", "b"):
        attend = keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name=f"attention_{block}")
        x = keras.layers.LayerNormalization()(keras.layers.Add()([x, attend(x, x)]))
        inner = keras.layers.Dense(2 * WIDTH, "relu", name=f"upper_{block}")(x)
        inner = keras.layers.Dense(WIDTH, name=f"lower_{block}")(inner)
        x = keras.layers.Add()([x, inner])
        x = keras.layers.LayerNormalization(name=f"block_{block}")(x)
    return keras.Model(inputs, keras.layers.Dense(10, "softmax", name="classes")(x))


def taught_by(rule):
    """The transformer with errors that come back by a rule."""
    model = transformer()
    if rule == "direct_feedback":
        return kl.models.direct(model, hooks=["embedding", "block_a", "block_b"])
    if rule == "frozen":
        for layer in model.layers[:-1]:
            layer.trainable = False
    elif rule != "backprop":
        return kl.models.convert(model, feedback=rule)
    return model


def main():
    """Print the accuracy of each rule on the test images, over all tokens."""
    arguments = parser.parse_args()
    (x, y), (x_test, y_test) = kl.datasets.load("digits", flatten=True)
    train, test = (
        (images.reshape(-1, 8, 8), np.repeat(labels[:, None], 8, axis=1))
        for images, labels in ((x, y), (x_test, y_test))
    )
    for rule in RULES:
        found = []
        for seed in range(arguments.seeds):
            keras.utils.set_random_seed(seed)
            model = taught_by(rule)
            loss = "sparse_categorical_crossentropy"
            model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
            model.fit(*train, batch_size=32, epochs=arguments.epochs, verbose=0)
            found.append(model.evaluate(*test, verbose=0)[1])
        print(rule, " ".join(f"{accuracy:.3f}" for accuracy in found), flush=True)


if __name__ == "__main__":
    main()
