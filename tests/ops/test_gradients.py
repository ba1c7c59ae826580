from __future__ import annotations

import numpy as np
from keras import ops as kops

from keras_local import ops


def test_gradients_of_a_product():
    rng = np.random.default_rng(0)
    a, b, unused = (rng.normal(size=(3, 2)).astype("float32") for _ in range(3))
    tensors = [kops.convert_to_tensor(each) for each in (a, b, unused)]
    found = ops.gradients(lambda a, b, _: kops.sum(a * a * b), tensors)
    expected = (2 * a * b, a * a, np.zeros((3, 2)))
    for gradient, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(kops.convert_to_numpy(gradient), other, rtol=1e-5)
