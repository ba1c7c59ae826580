# %% [markdown]
# # Errors that return through weights of their own
#
# Backpropagation sends the error of a layer down through the transpose of its forward weights. A
# synapse cannot do that: it would have to know the strength of another one. A *feedback layer* has
# separate weights for the way down, and a rule that says what they are. In this tutorial, one
# small network learns digits with three rules.

# %%
import keras
import keras_local as kl

(images, labels), test = kl.datasets.load("digits", flatten=True)
images.shape, labels.shape

# %% [markdown]
# A feedback layer is the Keras layer of that name with one more argument.
#
# - `"symmetric"`: the transposed forward weights, which is backpropagation.
# - `"feedback_alignment"`: random feedback weights that never change.
# - `"kolen_pollack"`: feedback weights that begin at random and receive the same updates as the
#   forward weights.


# %%
def network(feedback):
    keras.utils.set_random_seed(0)
    return keras.Sequential([
        keras.Input((64,)),
        kl.layers.FeedbackDense(64, activation="relu", feedback=feedback, name="low"),
        kl.layers.FeedbackDense(32, activation="relu", feedback=feedback, name="middle"),
        kl.layers.FeedbackDense(10, feedback=feedback, name="scores"),
    ])


# %% [markdown]
# Training is plain `compile` and `fit`. `AlignmentMonitor` writes into the logs how each feedback
# kernel is related to its forward kernel.

# %%
histories, monitors = {}, {}
for rule in ("symmetric", "feedback_alignment", "kolen_pollack"):
    model = network(rule)
    model.compile(keras.optimizers.SGD(0.1), kl.losses.LocalHinge(), metrics=["accuracy"])
    monitors[rule] = kl.callbacks.AlignmentMonitor() if rule != "symmetric" else None
    histories[rule] = model.fit(
        images, labels, batch_size=20, epochs=8, validation_data=test, verbose=0,
        callbacks=[monitors[rule]] if monitors[rule] else None,
    )
    accuracy = histories[rule].history["val_accuracy"][-1]
    print(f"{rule:20}{accuracy:.3f} of the test digits are right")

# %%
kl.plots.learning_curves(histories)

# %% [markdown]
# All three learn, though two of them send errors through weights that have nothing to do with the
# forward weights at the beginning. Why that can work is seen in the angle between the two kernels:
# at 90 degrees they are unrelated, and at 0 degrees the rule is backpropagation.

# %%
rule = "feedback_alignment"
kl.plots.alignment(histories[rule], monitors[rule].initial, title="fixed random feedback")

# %% [markdown]
# The feedback weights are fixed, so that it is the *forward* weights that turn towards them. With
# Kolen and Pollack's rule both sides move:

# %%
rule = "kolen_pollack"
kl.plots.alignment(histories[rule], monitors[rule].initial, title="updated feedback")

# %% [markdown]
# The lowest layer is missing in both figures: no layer below it learns, so that nothing uses its
# feedback kernel.
#
# An angle says how two kernels are related, and not how well a network learns. To compare rules,
# train each from several seeds and with a learning rate of its own: [the
# guide](../guides/compare.md) does it in one call.
#
# **Next:** [which rule answers which question](../guides/which_rule.md), and [a rule of your
# own](own_rule.ipynb).
