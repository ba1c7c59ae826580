# %% [markdown]
# # Credit in time, without a way back
#
# Backpropagation through time stores every step of a sequence, and goes through all of them again
# in reverse. In *e-prop* each synapse keeps a trace instead: one number that remembers what it has
# done to its unit so far. The synapse changes when an error arrives, and nothing has to go back.

# %%
import keras
import keras_local as kl

sequences, sums = kl.datasets.adding(5120, steps=20, seed=0)
test = kl.datasets.adding(512, steps=20, seed=1)
sequences[0].round(2)

# %% [markdown]
# The task is to add two numbers: those in the first column that are marked in the second one, among
# many that are not. The sum is asked for at the end, so that no single step contains it. A network
# has to learn what to keep. One that has learned nothing but the mean has a squared error of 1/6.
#
# Three ways to give credit to earlier steps, in the same LSTM from the same weights:
#
# - `"bptt"`: backpropagation through time.
# - `"eprop"`: traces at the synapses. Credit comes through the cells' own memory, and no error
#   crosses a recurrent synapse.
# - the last step alone: what the cells hold at the end is used, but nothing learns how to hold it.


# %%
def network(way):
    keras.utils.set_random_seed(0)
    time_rule = "eprop" if way == "e-prop" else "bptt"
    lstm = kl.layers.FeedbackLSTM(24, feedback="symmetric", time_rule=time_rule, return_state=True)
    inputs = keras.Input(sequences.shape[1:])
    if way == "the last step alone":
        _, *states = lstm(inputs[:, :-1])
        states = [keras.ops.stop_gradient(state) for state in states]
        outputs, *_ = lstm(inputs[:, -1:], initial_state=states)
    else:
        outputs, *_ = lstm(inputs)
    return keras.Model(inputs, keras.layers.Dense(1)(outputs))


# %%
histories = {}
for way in ("backpropagation through time", "e-prop", "the last step alone"):
    model = network(way)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    histories[way] = model.fit(
        sequences, sums, batch_size=32, epochs=5, validation_data=test, verbose=0
    )
    print(f"{histories[way].history['val_loss'][-1]:.4f} squared error: {way}")

# %%
figure = kl.plots.learning_curves(histories, "val_loss")
figure.axes[0].set_yscale("log")
figure

# %% [markdown]
# Traces learn much better than credit for the last step alone, which can only use what the cells
# happen to hold, though not as well as the way back through time. This is one seed, on a task that
# was chosen because the last step alone does not solve it; `python -m benchmarks.sequence_tasks`
# compares the rules on several tasks with three seeds.
#
# Tasks in which credit has to come through other units, and not through a cell's own memory, are
# harder for e-prop: it leaves that part of the gradient out. [Its page](../rules/eprop.md) has the
# formulas and what holds exactly.
#
# **Next:** [sequences](../guides/sequences.md): all recurrent layers, cells of your own, and what
# a step costs.
