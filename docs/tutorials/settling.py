# %% [markdown]
# # A network that settles
#
# In equilibrium propagation a network has no forward and no backward pass. Its units drive each
# other in both directions until they come to rest. Then the outputs are pushed a little towards
# the right answer, and the push spreads through the same connections. A synapse compares the
# activity of its two units in the two phases: that difference is the gradient.

# %%
import keras
import keras_local as kl

keras.utils.set_random_seed(0)
(images, labels), (test_images, test_labels) = kl.datasets.load("digits", flatten=True)

# %% [markdown]
# A network of `kl.dynamics` is a Keras model. It runs its phases in each training step. `compile`
# takes no loss, because the rule determines what is minimised.

# %%
network = kl.dynamics.EquilibriumNetwork([64, 32, 10], free_steps=20, nudged_steps=10)
network.compile(keras.optimizers.SGD(0.2), metrics=["accuracy"])

# %% [markdown]
# Before any training, these are the rates of some units of each layer in one image. The line
# separates the free phase from the nudged phase.

# %%
states = network.trajectories(test_images[:1], test_labels[:1])
kl.plots.trajectories(states, mark=network.free_steps, title="before training")

# %% [markdown]
# `SettlingMonitor` measures how far the network is from rest at the end of the free phase. If it
# is not at rest, the two phases differ for another reason than the push, and what synapses learn
# is no gradient.

# %%
monitor = kl.callbacks.SettlingMonitor(test_images[:50])
history = network.fit(
    images, labels, batch_size=20, epochs=6, validation_data=(test_images, test_labels),
    callbacks=[monitor], verbose=0,
)
for epoch, (accuracy, residual) in enumerate(
    zip(history.history["val_accuracy"], history.history["residual"]), start=1
):
    print(f"epoch {epoch}: {accuracy:.3f} of the test digits, {residual:.1e} from rest")

# %% [markdown]
# After training the network knows the image. Its label, once the second phase begins, hardly
# changes anything; a wrong label does, down to the hidden layer.

# %%
states = network.trajectories(test_images[:1], test_labels[:1])
kl.plots.trajectories(states, mark=network.free_steps, title="the right label")

# %%
states = network.trajectories(test_images[:1], (test_labels[:1] + 1) % 10)
kl.plots.trajectories(states, mark=network.free_steps, title="a wrong label")

# %% [markdown]
# `predict` runs the free phase alone, and `export` writes it into a file that needs neither Keras
# nor this package.
#
# **Next:** the other [networks that learn in phases](../networks/index.md), and what is local in
# each of them.
