"""Real values, several labels, one label: what each way of learning reaches on real data.

Values are the progression of diabetes after a year (scikit-learn, 442 patients, 10 inputs); several
labels are three properties of handwritten digits (odd, greater than four, prime); one label is
whether a tumour is benign (scikit-learn, 569 tumours, 30 inputs). Every fifth sample tests.
"""

import argparse
import warnings

import keras
import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

import keras_local as kl

parser = argparse.ArgumentParser(description="Values and labels on real data.")
parser.add_argument("--seeds", type=int, default=3, help="number of seeds, counted from 0")
parser.add_argument("--epochs", type=int, default=100, help="passes over the training images")

HIDDEN = 32
RULES = ("symmetric", "feedback_alignment", "kolen_pollack", "usf", "direct_feedback")
PROPERTIES = np.array([[n % 2, n > 4, n in (2, 3, 5, 7)] for n in range(10)], "float32")
networks = kl.dynamics
NETWORKS = {
    "predictive coding": networks.PredictiveCodingNetwork,
    "contrastive Hebbian": networks.ContrastiveHebbianNetwork,
    "difference target": networks.DifferenceTargetPropagation,
    "temporal difference": networks.TemporalDifferenceNetwork,
    "equilibrium": networks.EquilibriumNetwork,
    "microcircuit": networks.MicrocircuitNetwork,
    "burstprop": networks.BurstpropNetwork,
    "segregated dendrites": networks.SegregatedDendritesNetwork,
}


def data(task):
    """Inputs, scaled to mean 0 and variance 1, and targets of training and test."""
    if task == "values":
        x, y = load_diabetes(return_X_y=True)
        y = (y - y.mean()) / y.std()
    elif task == "labels":
        x, digits = load_digits(return_X_y=True)
        y = PROPERTIES[digits]
    else:
        x, y = load_breast_cancer(return_X_y=True)
    test = np.arange(len(x)) % 5 == 4
    x = (x - x[~test].mean(axis=0)) / (x[~test].std(axis=0) + 1e-6)
    x, y = x.astype("float32"), np.reshape(y, (len(y), -1)).astype("float32")
    return (x[~test], y[~test]), (x[test], y[test])


def plain(task, inputs, outputs):
    """A network of one hidden layer."""
    last = {"values": "linear"}.get(task, "sigmoid")
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            keras.layers.Dense(HIDDEN, "tanh"),
            keras.layers.Dense(outputs, last),
        ]
    )


def by_feedback(rule, task, train, epochs):
    """A network whose errors come back by a feedback rule."""
    model = plain(task, train[0].shape[1], train[1].shape[1])
    if rule == "direct_feedback":
        model = kl.models.direct(model)
    elif rule != "symmetric":
        model = kl.models.convert(model, feedback=rule)
    model.compile("adam", "mse" if task == "values" else "binary_crossentropy")
    model.fit(*train, epochs=epochs, verbose=0)
    return model.predict


def by_pretraining(readout, task, train, epochs):
    """Features that were learned without targets, and a readout."""
    hidden = kl.layers.HebbianDense(200, plasticity="soft_hebb")
    encoder = keras.Sequential([keras.Input(train[0].shape[1:]), hidden])
    kl.models.pretrain(encoder, train[0], epochs=10, batch_size=32, step_size=0.01, verbose=0)
    targets = "values" if task == "values" else "labels"
    options = {"classes": train[1].shape[1], "power": 1.0, "targets": targets}
    if readout == "linear":
        model = kl.models.readout(encoder, use_bias=True, **options)
        model.fit(*train, epochs=epochs, verbose=0)
    else:
        model = kl.models.nearest_neighbours(encoder, neighbours=15, **options)
        model.fit(*train)
    return model.predict


def by_network(name, task, train, epochs):
    """A network of `dynamics`, as `compile()` recommends it."""
    make, (x, y) = NETWORKS[name], train
    sizes = [x.shape[1], HIDDEN, y.shape[1]]
    network = make(sizes, targets="values" if task == "values" else "labels")
    network.compile()
    low, width = 0.0, 1.0
    if name == "equilibrium" and task == "values":
        # Its outputs are from 0 to 1.
        low, width = y.min(), np.ptp(y)
    network.fit(x, (y - low) / width, epochs=epochs, verbose=0)
    return lambda x, verbose: low + width * network.predict(x, verbose=verbose)


def score(task, predict, test):
    """The share of the variance that is explained, or of the labels that are right."""
    x, y = test
    found = predict(x, verbose=0)
    if task == "values":
        return 1.0 - np.square(y - found).sum() / np.square(y - y.mean(axis=0)).sum()
    return np.mean((found > 0.5) == (y > 0.5))


def main():
    """Print the table."""
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    tasks = ("values", "labels", "binary")
    ways = [(rule, by_feedback, rule) for rule in RULES]
    ways += [(f"pretraining, {name}", by_pretraining, name) for name in ("linear", "nearest")]
    ways += [(name, by_network, name) for name in NETWORKS]
    print("| | values: R2 | three labels | one label |\n|---|---|---|---|", flush=True)
    for title, learn, name in ways:
        row = []
        for task in tasks:
            train, test = data(task)
            try:
                found = []
                for seed in range(arguments.seeds):
                    keras.utils.set_random_seed(seed)
                    predict = learn(name, task, train, arguments.epochs)
                    found.append(score(task, predict, test))
                row.append(f"{np.mean(found):.3f} ({min(found):.3f} to {max(found):.3f})")
            except ValueError as error:
                row.append("refused" if "`targets`" in str(error) else str(error)[:60])
        print(f"| {title} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
