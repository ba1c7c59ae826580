# %% [markdown]
# # A loss for each block
#
# Instead of sending one error through a whole network, each block can have a loss of its own: a
# small classifier beside it, which says how well the classes can be told from the outputs of this
# block. No error crosses from one block to the block below. Then a training step holds the
# activations of one block at a time, and memory hardly grows with depth.

# %%
import keras
import keras_local as kl

(images, labels), test = kl.datasets.load("digits")


# %% [markdown]
# The network is any Sequential or functional classifier. This one has five convolutions.


# %%
def network():
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 1))
    for number, filters in enumerate((16, 16, 16, 32, 32)):
        x = keras.layers.Conv2D(
            filters, 3, padding="same", activation="relu", strides=2 if number == 2 else 1,
            name=f"conv{number}",
        )(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))


local = kl.models.local_losses(network(), "pred")
local.blocks

# %% [markdown]
# `compile` gets the loss of the part above the last block, and `fit` reports each block. The same
# network with backpropagation, from the same weights, is beside it.

# %%
histories = {}
for name, model in {"local losses": local, "backpropagation": network()}.items():
    model.compile(
        keras.optimizers.Adam(0.005), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    histories[name] = model.fit(
        images, labels, batch_size=50, epochs=6, validation_data=test, verbose=0
    )
kl.plots.learning_curves(histories)

# %% [markdown]
# Each block reports how well its own small classifier does. Upper blocks build on what lower ones
# have found, though no error tells the lower ones what would help.

# %%
logs = histories["local losses"].history
for key in sorted(logs):
    if "accuracy" in key and not key.startswith("val_"):
        print(f"{key:24}{logs[key][-1]:.3f}")

# %% [markdown]
# What the losses train beside the blocks is left out of the finished model.

# %%
plain = kl.models.to_plain(local)
print(f"{local.count_params()} weights while it learns, {plain.count_params()} afterwards")

# %% [markdown]
# **Next:** [which losses there are, where a network is cut, and how much memory it
# saves](../guides/deeper_than_memory.md).
