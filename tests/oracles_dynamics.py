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


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
