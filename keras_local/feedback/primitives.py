"""Kunin's primitives: terms of a local regulariser of the feedback kernel, which can be added."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import Strategy, serializable
from keras_local.ops import LinearMap
from keras_local.ops.backend import Tensor
from keras_local.ops.precision import precise


@dataclass
class Activity:
    """Activity before and behind the synapses, and both kernels, as a regulariser sees them.

    Attributes:
        linear_map: The map `M` of the layer.
        inputs: Presynaptic activity `x`.
        outputs: Postsynaptic activity `z`: `M(x, W)`, or the response `f(M(x, W) + b)` to it.
        kernel: Forward weights `W`.
        feedback_kernel: Feedback weights `B`, in the kernel's shape.
        driving: The inputs from which the outputs were computed, if they differ from `inputs`: for
            centred inputs, the inputs before their mean is subtracted. None means `inputs`.
        pull_back: Function from a derivative at the outputs to the derivative at `M(x, W)`, if a
            response function lies between the two; otherwise None.
        samples: How many samples count, in parts of all; None for all. Those that do not count have
            activities of 0.
    """

    linear_map: LinearMap
    inputs: Tensor
    outputs: Tensor
    kernel: Tensor
    feedback_kernel: Tensor
    driving: Tensor | None = None
    pull_back: Callable[[Tensor], Tensor] | None = None
    samples: Tensor | None = None

    @cached_property
    def projection(self) -> Tensor:
        """Return the inputs sent forward through the feedback weights, `u = M(x, B)`."""
        return self.linear_map.apply(self.inputs, self.feedback_kernel)

    @cached_property
    def reconstruction(self) -> Tensor:
        """Return the outputs sent back through the feedback weights, `r = M^T(z, B)`."""
        return self.linear_map.input_gradient(self.outputs, self.feedback_kernel, self.inputs)

    def correlation(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return the mean product of activities at each synapse, over examples and positions."""
        product = self.linear_map.kernel_gradient(inputs, outputs, self.kernel)
        shape = tuple(self.kernel.shape)
        # The number of products (of an example and a position) in which one weight takes part.
        uses = self.linear_map.fans(shape)[0] / math.prod(shape)
        # In half precision the number of activities may lie beyond the range.
        dtype = precise(product.dtype)
        count = ops.cast(ops.size(outputs), dtype) * uses
        if self.samples is not None:
            count = count * ops.cast(self.samples, dtype)
        mean = ops.cast(product, dtype) / count
        return ops.cast(mean, product.dtype)

    def through_outputs(self, derivative: Tensor) -> Tensor:
        """Return the gradient at the kernel, given a term's derivative at the outputs."""
        inputs = self.inputs if self.driving is None else self.driving
        if self.pull_back is not None:
            derivative = self.pull_back(derivative)
        # On PyTorch, Keras multiplies double precision by a number in single precision.
        return self.correlation(inputs, ops.cast(derivative, self.kernel.dtype))

    def mean(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the mean inner product of two activities, over examples."""
        mean = ops.sum(first * second) / ops.cast(ops.shape(first)[0], first.dtype)
        return mean if self.samples is None else mean / ops.cast(self.samples, mean.dtype)


class Primitive(Strategy, ABC):
    """Interface of one term of a layer-local regulariser, with its gradients.

    `feedback.Decay(0.1) + feedback.SelfAlign(0.1)` is a `Regulariser`. Forms and gradients are
    those of the paper, with its factors of 1/2. In a convolution the mean is also taken over
    positions, so that one rate suits layers of every size.

    Args:
        rate: Weight of the term.

    Raises:
        ValueError: If the rate is negative.
    """

    def __init__(self, rate: float) -> None:
        self.rate = check.real("rate", rate, minimum=0.0)

    @abstractmethod
    def value(self, activity: Activity) -> Tensor:
        """Return the value of the term, without its rate; sums run over positions."""

    @abstractmethod
    def gradient(self, activity: Activity) -> Tensor:
        """Return the gradient at the feedback kernel, without the rate."""

    @abstractmethod
    def forward_gradient(self, activity: Activity) -> Tensor:
        """Return the gradient at the kernel, without the rate; most rules do not use it.

        It is the gradient of the value. For `Decay` and `Sparsify`, whose value does not depend on
        `W`, it is the gradient of the same value with `W` in place of `B`.
        """

    def __add__(self, other: Primitive | Regulariser) -> Regulariser:
        """Return the sum of the two primitives."""
        return Regulariser([self]).__add__(other)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"rate": self.rate}


@serializable
class Decay(Primitive):
    """Decay of the feedback weights: `1/2 |B|^2`, with the gradient `B`. Local.

    >>> from keras_local import feedback
    >>> feedback.Decay(0.5).get_config()
    {'rate': 0.5}

    Source: Kunin et al. 2020, "Two routes to scalable credit assignment without weight symmetry".
    """

    def value(self, activity: Activity) -> Tensor:
        """Return `1/2 |B|^2`."""
        return 0.5 * ops.sum(ops.square(activity.feedback_kernel))

    def gradient(self, activity: Activity) -> Tensor:
        """Return `B`."""
        return activity.feedback_kernel

    def forward_gradient(self, activity: Activity) -> Tensor:
        """Return `W`."""
        return activity.kernel


@serializable
class Amplify(Primitive):
    """Hebbian growth with the product of activities: `-mean <u, z>`. Local.

    The gradient is `-x^T z`, the negative product of pre- and postsynaptic activity.

    Source: Kunin et al. 2020.
    """

    def value(self, activity: Activity) -> Tensor:
        """Return `-mean <u, z>`."""
        return -activity.mean(activity.projection, activity.outputs)

    def gradient(self, activity: Activity) -> Tensor:
        """Return `-x^T z`."""
        return -activity.correlation(activity.inputs, activity.outputs)

    def forward_gradient(self, activity: Activity) -> Tensor:
        """Return `-x^T u`."""
        return -activity.through_outputs(activity.projection)


@serializable
class Nullify(Primitive):
    """A penalty on the signal that the feedback weights send back: `1/2 mean |r|^2`. Local.

    The gradient is `r^T z` with the reconstruction `r`. It normalises like Oja's rule, so that
    weights do not grow without bound by `Amplify`.

    Source: Kunin et al. 2020.
    """

    def value(self, activity: Activity) -> Tensor:
        """Return `1/2 mean |r|^2`."""
        return 0.5 * activity.mean(activity.reconstruction, activity.reconstruction)

    def gradient(self, activity: Activity) -> Tensor:
        """Return `r^T z`."""
        return activity.correlation(activity.reconstruction, activity.outputs)

    def forward_gradient(self, activity: Activity) -> Tensor:
        """Return `x^T M(r, B)`."""
        returned = activity.linear_map.apply(activity.reconstruction, activity.feedback_kernel)
        return activity.through_outputs(returned)


@serializable
class Sparsify(Primitive):
    """A penalty on the inputs' projection by the feedback weights: `1/2 mean |u|^2`. Not local.

    The gradient is `x^T u`: the synapse would have to know the inputs of all other synapses of its
    neuron.

    Source: Kunin et al. 2020.
    """

    def value(self, activity: Activity) -> Tensor:
        """Return `1/2 mean |u|^2`."""
        return 0.5 * activity.mean(activity.projection, activity.projection)

    def gradient(self, activity: Activity) -> Tensor:
        """Return `x^T u`."""
        return activity.correlation(activity.inputs, activity.projection)

    def forward_gradient(self, activity: Activity) -> Tensor:
        """Return `x^T z`."""
        return activity.through_outputs(activity.outputs)


@serializable
class SelfAlign(Primitive):
    """A pull towards the kernel: `-<W, B>`, with the gradient `-W`. Not local.

    Source: Kunin et al. 2020.
    """

    def value(self, activity: Activity) -> Tensor:
        """Return `-<W, B>`."""
        return -ops.sum(activity.kernel * activity.feedback_kernel)

    def gradient(self, activity: Activity) -> Tensor:
        """Return `-W`."""
        return -activity.kernel

    def forward_gradient(self, activity: Activity) -> Tensor:
        """Return `-B`."""
        return -activity.feedback_kernel


@serializable
class Regulariser(Strategy):
    """A sum of primitives, each with its rate; the result of `a + b`.

    Args:
        terms: The primitives, at least one.

    Raises:
        ValueError: If there is no term, or one of them is not a `Primitive`.

    >>> from keras_local import feedback
    >>> total = feedback.Decay(0.1) + feedback.Amplify(0.2) + feedback.Nullify(0.1)
    >>> [type(term).__name__ for term in total.terms]
    ['Decay', 'Amplify', 'Nullify']
    """

    def __init__(self, terms: Iterable[Primitive]) -> None:
        allowed = "one or more primitives, as Decay(0.1)"
        check.require(
            isinstance(terms, Iterable) and not isinstance(terms, str), "terms", allowed, terms
        )
        self.terms = [check.instance("terms", term, Primitive) for term in terms]
        check.require(bool(self.terms), "terms", allowed, self.terms)

    def __add__(self, other: Primitive | Regulariser) -> Regulariser:
        """Return the sum with another primitive or regulariser."""
        if isinstance(other, Primitive):
            return Regulariser([*self.terms, other])
        if isinstance(other, Regulariser):
            return Regulariser([*self.terms, *other.terms])
        return NotImplemented

    @property
    def active(self) -> list[Primitive]:
        """Return the terms whose rate is not zero."""
        return [term for term in self.terms if term.rate]

    def value(self, activity: Activity) -> Tensor:
        """Return the value of the sum."""
        return self._weighted(lambda term: term.value(activity), ops.zeros(()))

    def gradient(self, activity: Activity) -> Tensor:
        """Return the gradient at the feedback kernel."""
        nothing = ops.zeros_like(activity.kernel)
        return self._weighted(lambda term: term.gradient(activity), nothing)

    def forward_gradient(self, activity: Activity) -> Tensor:
        """Return the gradient at the kernel."""
        nothing = ops.zeros_like(activity.kernel)
        return self._weighted(lambda term: term.forward_gradient(activity), nothing)

    def _weighted(self, part: Callable[[Primitive], Tensor], nothing: Tensor) -> Tensor:
        # Each product with a rate is a pass over memory, so terms of equal rate share one product.
        alike: dict[float, list[Tensor]] = {}
        for term in self.active:
            alike.setdefault(term.rate, []).append(part(term))
        if not alike:
            return nothing
        return sum(rate * sum(parts[1:], parts[0]) for rate, parts in alike.items())

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"terms": [keras.saving.serialize_keras_object(term) for term in self.terms]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Regulariser:
        """Restore the sum from its config."""
        return cls(keras.saving.deserialize_keras_object(term) for term in config["terms"])
