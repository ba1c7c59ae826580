"""Activations of the papers whose rules are implemented here.

They are objects and not functions, because each has a parameter: use them as `activation=Ramp()` in
any Keras layer. They can be saved and loaded.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_local import _validation
from keras_local._serialization import Strategy, serializable


@serializable
class Ramp(Strategy):
    """Saturating ramp, a piecewise linear function bounded by -1 and 1.

        f(h) = min(max(scale * h, -1), 1),    f'(h) = scale if |scale * h| < 1 else 0

    The derivative at the two corners is 0 on every backend. Local: element by element.

    Args:
        scale: Slope of the linear part, greater than 0.

    Call arguments:
        x: Tensor of any shape.

    Returns:
        Tensor of the same shape and type.

    Raises:
        ValueError: If `scale` is not a finite number greater than 0.

    Example:
        >>> from keras import ops
        >>> field = ops.convert_to_tensor([-4.0, -1.0, 0.5, 2.0])
        >>> ops.convert_to_numpy(Ramp(scale=0.5)(field)).tolist()
        [-1.0, -0.5, 0.25, 1.0]

    References:
        Amit 2019, "Deep learning with asymmetric connections and Hebbian updates", Frontiers in
        Computational Neuroscience 13:18 (slope 0.5 as in the author's code).
    """

    def __init__(self, scale: float = 0.5) -> None:
        self.scale = _validation.real("scale", scale, minimum=0.0, exclusive=True)

    def __call__(self, x: Any) -> Any:
        """Return the ramp of `x`."""
        x = ops.convert_to_tensor(x)
        field = self.scale * x
        # A bare clip has the derivative `scale` at the corners on some backends.
        saturated = ops.stop_gradient(ops.clip(field, -1.0, 1.0))
        return ops.where(ops.abs(field) < 1.0, field, saturated)

    def plain(self, x: Any) -> Any:
        """Return the same values from built-in operations, for models without this package.

        Args:
            x: Tensor or symbolic `keras.KerasTensor` of any shape.

        Returns:
            Tensor or `keras.KerasTensor` of the same shape.
        """
        return ops.clip(self.scale * x, -1.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"scale": self.scale}


@serializable
class RePU(Strategy):
    """Rectified power unit.

        f(h) = max(h, 0)^power,    f'(h) = power * max(h, 0)^(power - 1)

    with derivative 0 for all h <= 0, also if `power` is 1. Local: element by element.

    A large power soon leaves the range of half precision (for the power 4.5, float16 ends at a
    field of 11.7). Use fields of the order of 1.

    Args:
        power: Exponent, at least 1.

    Call arguments:
        x: Tensor of any shape.

    Returns:
        Tensor of the same shape and type.

    Raises:
        ValueError: If `power` is not a finite number of at least 1.

    Example:
        >>> from keras import ops
        >>> field = ops.convert_to_tensor([-3.0, 0.0, 3.0])
        >>> ops.convert_to_numpy(RePU(power=2.0)(field)).tolist()
        [0.0, 0.0, 9.0]

    References:
        Krotov and Hopfield 2019, "Unsupervised learning by competing hidden units", PNAS
        116(16):7723-7731.
    """

    def __init__(self, power: float = 4.5) -> None:
        self.power = _validation.real("power", power, minimum=1.0)

    def __call__(self, x: Any) -> Any:
        """Return the rectified power of `x`."""
        return self.plain(ops.convert_to_tensor(x))

    def plain(self, x: Any) -> Any:
        """Return the same values from built-in operations, for models without this package.

        Args:
            x: Tensor or symbolic `keras.KerasTensor` of any shape.

        Returns:
            Tensor or `keras.KerasTensor` of the same shape.
        """
        return ops.power(ops.relu(x), self.power)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"power": self.power}


@serializable
class Triangle(Strategy):
    """Rectified power of the amount by which a channel exceeds the mean of all channels.

        f(u)_k = max(u_k - mean_l u_l, 0)^power

    with the mean over the last axis, at each position; the derivative is 0 where `f` is 0. Not
    local to a unit: the mean represents inhibition that all channels of a position share.

    Args:
        power: Exponent, positive.

    Call arguments:
        x: Tensor of any shape, channels last.

    Returns:
        Tensor of the same shape and type.

    Raises:
        ValueError: If `power` is not a finite number greater than 0.

    Example:
        >>> from keras import ops
        >>> field = ops.convert_to_tensor([[1.0, 2.0, 6.0]])
        >>> ops.convert_to_numpy(Triangle(power=2.0)(field)).tolist()
        [[0.0, 0.0, 9.0]]

    References:
        Coates, Ng and Lee 2011, "An analysis of single-layer networks in unsupervised feature
        learning", for power 1; other powers are from Journe et al. 2023, "Hebbian deep learning
        without feedback".
    """

    def __init__(self, power: float = 1.0) -> None:
        self.power = _validation.real("power", power, minimum=0.0, exclusive=True)

    def __call__(self, x: Any) -> Any:
        """Return the triangle of `x`."""
        return self.plain(ops.convert_to_tensor(x))

    def plain(self, x: Any) -> Any:
        """Return the same values from built-in operations, for models without this package.

        Args:
            x: Tensor or symbolic `keras.KerasTensor` of any shape.

        Returns:
            Tensor or `keras.KerasTensor` of the same shape.
        """
        excess = ops.relu(x - ops.mean(x, axis=-1, keepdims=True))
        if self.power == 1.0:
            return excess
        # Powers below 1 are infinitely steep at 0.
        above = excess > 0.0
        power = ops.power(ops.where(above, excess, ops.ones_like(excess)), self.power)
        return ops.where(above, power, ops.zeros_like(excess))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"power": self.power}
