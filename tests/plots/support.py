"""What the tests of the figures share."""

import numpy as np

LOGS = {
    "loss": [1.0, 0.5],
    "alignment_angle/a": [80.0, 60.0],
    "norm_ratio/a": [1.0, 1.0],
    "alignment_angle/b": [85.0, 70.0],
}


def one_hot_units(inputs=9, units=6):
    kernel = np.zeros((inputs, units))
    for unit in range(units):
        kernel[4, unit] = (-1) ** unit * (unit + 1.0)  # the centre of a 3 x 3 image
    return kernel
