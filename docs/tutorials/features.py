# %% [markdown]
# # Features without labels
#
# A Hebbian layer changes its weights by what its inputs and its own units do, with no error and no
# label. Here 64 units compete for images of digits. Then a linear readout, which is all that sees
# labels, learns the classes from what the units say.

# %%
import keras
import keras_local as kl

keras.utils.set_random_seed(0)
(images, labels), test = kl.datasets.load("digits", flatten=True)

# %% [markdown]
# The rule of [Krotov and Hopfield](../rules/krotov_hopfield.md): for each image, the unit with the
# largest current moves towards the image, and the unit of rank 7 moves away from it.

# %%
hidden = kl.layers.HebbianDense(
    64,
    plasticity=kl.plasticity.KrotovHopfield(p=3, rank=7, delta=0.4),
    kernel_initializer=keras.initializers.RandomUniform(0, 1),
    name="hidden",
)
encoder = keras.Sequential([keras.Input((64,)), hidden])
kl.plots.receptive_fields(hidden, units=24, columns=8, title="before")

# %% [markdown]
# `pretrain` trains the layers of an encoder one after the other. It gets images only.

# %%
history = kl.models.pretrain(encoder, images, epochs=20, batch_size=50, step_size=0.1, verbose=0)
history["hidden"].report

# %%
kl.plots.receptive_fields(hidden, units=24, columns=8, title="after")

# %% [markdown]
# Red weights are positive, blue ones negative. Units look like digits, or like parts of them, with
# negative weights where similar images of *other* digits have ink.
#
# `converged` in the report is the share of units whose norm has come down to 1. Units that never
# win any image stay where they began. They show in the norms:

# %%
kl.plots.norm_histogram(hidden)

# %%
kl.plots.win_counts(hidden, images)

# %% [markdown]
# ## The readout
#
# Are these features of any use? A number means little without the same readout on random features.


# %%
def accuracy(encoder):
    classifier = kl.models.readout(encoder, classes=10, optimizer=keras.optimizers.Adam(0.01))
    classifier.fit(images, labels, epochs=15, batch_size=50, verbose=0)
    return classifier.evaluate(*test, verbose=0)[1]


untrained = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, use_bias=False)])
print(f"{accuracy(encoder):.3f} with features that were learned without labels")
print(f"{accuracy(untrained):.3f} with as many random features")

# %% [markdown]
# **What to keep in mind.** In every step the largest change of a weight is exactly the step size,
# so that the number of steps matters and not the number of epochs. `pretrain` warns if fewer than
# half of the units have converged.
#
# **Next:** [readouts](../guides/readouts.md), [few labels](../guides/few_labels.md), and
# [SoftHebb](../rules/soft_hebb.md), whose convolutions learn in several layers.
