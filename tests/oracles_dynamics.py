"""NumPy oracles of networks that settle: loops, written from the papers' equations.

They share no code with the package. References for gradients are finite differences of the loss at
the equilibrium.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Arrays = list[np.ndarray]


def steep_sigmoid(u: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-4 * (u - 0.5)))


def field(k: int, states: Arrays, kernels: Arrays, biases: Arrays) -> np.ndarray:
    """Field of layer `k + 1`; `states[0]` are the inputs. Any axes may come in front."""
    total = states[k] @ kernels[k] + biases[k]
    if k + 1 < len(kernels) and k + 2 < len(states):
        total = total + states[k + 2] @ np.swapaxes(kernels[k + 1], -1, -2)
    return total


class Equilibrium:
    """A layered network with tied weights, its classes among the states or above them."""

    def __init__(
        self,
        kernels: Arrays,
        biases: Arrays,
        move: Callable[[np.ndarray, np.ndarray], np.ndarray],
        cost: str = "mse",
    ) -> None:
        self.kernels, self.biases, self.move, self.cost_name = kernels, biases, move, cost

    def settle(
        self,
        inputs: np.ndarray,
        steps: int,
        targets: np.ndarray | None = None,
        strength: complex = 0.0,
        start: Arrays | None = None,
        dtype: type = np.float64,
    ) -> Arrays:
        """States of all layers after `steps` steps of all layers at once."""
        layers = len(self.kernels) - (self.cost_name == "cross_entropy")
        states = start or [np.zeros((len(inputs), k.shape[-1])) for k in self.kernels[:layers]]
        states = [state.astype(dtype) for state in states]
        for _ in range(steps):
            everything = [inputs.astype(dtype), *states]
            after = []
            for k in range(layers):
                u = field(k, everything, self.kernels, self.biases)
                if k == layers - 1 and targets is not None:
                    u = u + strength * self.pull(states[-1], targets)
                after.append(self.move(states[k], u))
            states = after
        return states

    def pull(self, top: np.ndarray, targets: np.ndarray) -> np.ndarray:
        if self.cost_name == "mse":
            return targets - top
        return (targets - self.output([top])) @ np.swapaxes(self.kernels[-1], -1, -2)

    def output(self, states: Arrays) -> np.ndarray:
        if self.cost_name == "mse":
            return states[-1]
        powers = np.exp(states[-1] @ self.kernels[-1] + self.biases[-1])
        return powers / powers.sum(axis=-1, keepdims=True)

    def loss(self, states: Arrays, targets: np.ndarray) -> np.ndarray:
        output = self.output(states)
        if self.cost_name == "mse":
            return 0.5 * np.sum((output - targets) ** 2, axis=(-1, -2)) / len(targets)
        return -np.sum(targets * np.log(output), axis=(-1, -2)) / len(targets)

    def correlations(self, inputs: np.ndarray, states: Arrays) -> tuple[Arrays, Arrays]:
        """`< s_{k-1} s_k >` and `< s_k >`, means over the batch."""
        everything = [inputs, *states]
        kernels = [np.zeros_like(k, dtype=states[-1].dtype) for k in self.kernels[: len(states)]]
        biases = [np.zeros_like(b, dtype=states[-1].dtype) for b in self.biases[: len(states)]]
        for k in range(len(states)):
            for b in range(len(inputs)):
                kernels[k] += np.outer(everything[k][b], states[k][b]) / len(inputs)
                biases[k] += states[k][b] / len(inputs)
        return kernels, biases

    def gradient(
        self, inputs: np.ndarray, targets: np.ndarray, steps: int, width: float = 1e-5
    ) -> Arrays:
        """Central differences of the loss at the free equilibrium, for each kernel.

        All perturbed networks settle side by side, along a new first axis of one kernel.
        """
        rest = self.settle(inputs, 2 * steps)
        found = []
        for k, kernel in enumerate(self.kernels):
            bumps = width * np.eye(kernel.size).reshape(-1, *kernel.shape)
            bumped = [*self.kernels]
            bumped[k] = np.concatenate([kernel + bumps, kernel - bumps])
            there = Equilibrium(bumped, self.biases, self.move, self.cost_name)
            start = [np.broadcast_to(s, (len(bumped[k]), *s.shape)) for s in rest]
            up, down = np.split(there.loss(there.settle(inputs, steps, start=start), targets), 2)
            found.append(((up - down) / (2 * width)).reshape(kernel.shape))
        return found


def feedforward(
    inputs: np.ndarray, kernels: Arrays, biases: Arrays, rates: list[Callable[..., np.ndarray]]
) -> Arrays:
    """Activities of all layers, the inputs first."""
    layers = [inputs]
    for kernel, bias, rate in zip(kernels, biases, rates, strict=True):
        layers.append(rate(layers[-1] @ kernel + bias))
    return layers


def backpropagation(
    layers: Arrays, kernels: Arrays, slopes: Arrays, error: np.ndarray
) -> tuple[Arrays, Arrays]:
    """Changes of kernels and biases, means over the batch, and the errors at the fields.

    `error` is that of the field of the output, in the direction of descent; `slopes[k]` is the
    derivative of the rate of layer `k + 1` at its field.
    """
    changes: Arrays = []
    errors = [error]
    for k in reversed(range(len(kernels))):
        change = np.zeros(kernels[k].shape)
        for b in range(len(error)):
            change += np.outer(layers[k][b], errors[0][b]) / len(error)
        changes.insert(0, change)
        if k:
            errors.insert(0, (errors[0] @ kernels[k].T) * slopes[k - 1])
    return changes, errors


class Contrastive:
    """A layered network of hyperbolic tangents, its feedback weaker by `gamma`."""

    def __init__(self, kernels: Arrays, biases: Arrays, gamma: float, output: str) -> None:
        self.kernels, self.biases, self.gamma = kernels, biases, gamma
        last = sigmoid if output == "sigmoid" else (lambda u: u)
        self.rates = [np.tanh] * (len(kernels) - 1) + [last]

    def settle(
        self, start: Arrays, steps: int, step_size: float, targets: np.ndarray | None = None
    ) -> Arrays:
        """All layers, the inputs first, after `steps` steps of all of them at once."""
        x = [layer.copy() for layer in start]
        top = len(self.kernels)
        if targets is not None:
            x[top] = targets
        for _ in range(steps):
            after = [layer.copy() for layer in x]
            for k in range(1, top + 1):
                if k == top and targets is not None:
                    continue
                u = x[k - 1] @ self.kernels[k - 1] + self.biases[k - 1]
                if k < top:
                    u = u + self.gamma * x[k + 1] @ self.kernels[k].T
                after[k] = x[k] + step_size * (self.rates[k - 1](u) - x[k])
            x = after
        return x

    def changes(self, clamped: Arrays, free: Arrays) -> Arrays:
        found, layers = [], len(self.kernels)
        for k in range(1, layers + 1):
            change = np.zeros(self.kernels[k - 1].shape)
            for b in range(len(free[0])):
                change += np.outer(clamped[k - 1][b], clamped[k][b])
                change -= np.outer(free[k - 1][b], free[k][b])
            found.append(self.gamma ** (k - layers) * change / len(free[0]))
        return found


class ConvEquilibrium:
    """Convolutions, written as matrices, with 2 x 2 max pooling by loops; prototypical form."""

    def __init__(
        self,
        kernels: Arrays,
        biases: Arrays,
        dense: np.ndarray,
        dense_bias: np.ndarray,
        shape: tuple[int, int, int],
        cost: str,
    ) -> None:
        self.biases, self.dense, self.dense_bias = biases, dense, dense_bias
        self.cost_name = cost
        self.maps, self.shapes, self.pooled = [], [], []
        for kernel in kernels:
            self.maps.append(convolution_matrix(kernel, shape))
            self.shapes.append((shape[0], shape[1], kernel.shape[-1]))
            shape = (shape[0] // 2, shape[1] // 2, kernel.shape[-1])
            self.pooled.append(shape)

    def settle(
        self,
        inputs: np.ndarray,
        steps: int,
        targets: np.ndarray | None = None,
        strength: float = 0.0,
        start: Arrays | None = None,
    ) -> Arrays:
        """States of a single sample, each a vector, after `steps` steps."""
        sizes = [int(np.prod(shape)) for shape in self.pooled]
        if self.cost_name == "mse":
            sizes.append(len(self.dense_bias))
        s = start or [np.zeros(size) for size in sizes]
        count = len(self.maps)
        for _ in range(steps):
            fields, below = [np.zeros(size) for size in sizes], inputs.reshape(-1)
            for k in range(count):
                image = self.maps[k] @ below + np.tile(self.biases[k], self.shapes[k][0] ** 2)
                places = winners(image, self.shapes[k])
                fields[k] += image[places]
                if k:
                    spread = np.zeros(image.size)
                    spread[places] = s[k]
                    fields[k - 1] += self.maps[k].T @ spread
                below = s[k]
            if self.cost_name == "mse":
                fields[count - 1] += self.dense @ s[count]
                fields[count] += self.dense.T @ s[count - 1] + self.dense_bias
            if targets is not None and self.cost_name == "mse":
                fields[-1] += strength * (targets - s[-1])
            elif targets is not None:
                fields[-1] += strength * self.dense @ (targets - self.output(s))
            s = [steep_sigmoid(u) for u in fields]
        return s

    def output(self, states: Arrays) -> np.ndarray:
        if self.cost_name == "mse":
            return states[-1]
        powers = np.exp(states[-1] @ self.dense + self.dense_bias)
        return powers / powers.sum()

    def loss(self, states: Arrays, targets: np.ndarray) -> float:
        output = self.output(states)
        if self.cost_name == "mse":
            return float(0.5 * np.sum((output - targets) ** 2))
        return float(-np.sum(targets * np.log(output)))


def convolution_matrix(kernel: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The matrix of a convolution of kernel `(3, 3, in, out)` with one row of zeros around."""
    height, width, channels = shape
    matrix = np.zeros((height, width, kernel.shape[-1], height, width, channels))
    for row in range(height):
        for column in range(width):
            for i in range(3):
                for j in range(3):
                    r, c = row + i - 1, column + j - 1
                    if 0 <= r < height and 0 <= c < width:
                        matrix[row, column, :, r, c, :] += kernel[i, j].T
    return matrix.reshape(height * width * kernel.shape[-1], -1)


def winners(image: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Places of the maxima of all 2 x 2 windows in the flat image."""
    height, width, channels = shape
    places = []
    for row in range(height // 2):
        for column in range(width // 2):
            for channel in range(channels):
                window = [
                    ((2 * row + i) * width + 2 * column + j) * channels + channel
                    for i in range(2)
                    for j in range(2)
                ]
                places.append(max(window, key=lambda place: image[place]))
    return np.array(places)


def sigmoid(u: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-u))


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
