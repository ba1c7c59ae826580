# %% [markdown]
# # From training to a small file
#
# Feedback weights, rules and this package are needed while a model learns, and not afterwards.
# This tutorial takes a model of convolutions from training to a model of built-in layers, to eight
# bits, and to a file for another program.

# %%
import keras
import keras_local as kl

keras.utils.set_random_seed(0)
(images, labels), (test_images, test_labels) = kl.datasets.load("digits")

# %% [markdown]
# Begin with any Keras model. `convert` returns the same model with a rule in each layer that has a
# kernel.

# %%
plain = keras.Sequential([
    keras.Input((8, 8, 1)),
    keras.layers.Conv2D(16, 3, activation="relu", name="features"),
    keras.layers.MaxPooling2D(),
    keras.layers.Flatten(),
    keras.layers.Dense(10, name="scores"),
])
model = kl.models.convert(plain, feedback="kolen_pollack", verbose=False)
print(kl.models.conversion_report(model))

# %%
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss, metrics=["accuracy"])
model.fit(images, labels, batch_size=50, epochs=6, verbose=0)


def right(scores):
    return float((scores.argmax(axis=-1) == test_labels).mean())


scores = model.predict(test_images, verbose=0)
print(f"{right(scores):.3f} of the test digits are right")

# %% [markdown]
# `to_plain` is the way back: built-in layers, no feedback weights, the same answers.

# %%
served = kl.models.to_plain(model)
print([type(layer).__name__ for layer in served.layers])
print(f"{model.count_params()} weights become {served.count_params()}")
print(abs(served.predict(test_images, verbose=0) - scores).max(), "is the largest difference")

# %% [markdown]
# What Keras does with built-in layers can be done with these: eight bits in the dense layer, for
# example.

# %%
served.quantize("int8", filters=lambda layer: isinstance(layer, keras.layers.Dense))
eight = served.predict(test_images, verbose=0)
same = (eight.argmax(axis=-1) == scores.argmax(axis=-1)).mean()
print(f"{same:.1%} of the answers in eight bits are those of the trained model")

# %% [markdown]
# `export` writes files for programs without Keras. LiteRT runs on phones and small computers.

# %%
import tempfile
from pathlib import Path

from ai_edge_litert.interpreter import Interpreter

file = Path(tempfile.mkdtemp()) / "digits.tflite"
kl.models.export(model, file, format="litert")
runner = Interpreter(str(file)).get_signature_runner()
found = runner(inputs=test_images)["outputs"]
print(f"{file.stat().st_size / 1000:.1f} kB, {right(found):.3f} right")

# %% [markdown]
# **Next:** [all formats, and what each needs](../guides/export.md), [quantisation and
# LoRA](../guides/quantise.md), and [learning that goes on in the
# file](../guides/learning_on_device.md).
