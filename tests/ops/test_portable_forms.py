"""Operations that a runtime lacks, as formulas, against TensorFlow's own."""

from __future__ import annotations

import pytest

from tests.support import tensorflow_only

pytestmark = tensorflow_only


@pytest.mark.parametrize(
    ("one", "other"),
    [((3, 4), (4,)), ((4,), (3, 4)), ((3, 1), (3, 4)), ((2, 3, 4), (3, 1)), ((3, 4), (3, 4))],
)
def test_along_which_axes_a_sum_was_repeated(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    import tensorflow as tf

    from keras_local.ops._tensorflow_portable_forms import FORMS

    wanted = tf.raw_ops.BroadcastGradientArgs(s0=list(one), s1=list(other))
    with tf.Graph().as_default():
        shapes = [
            tf.raw_ops.Shape(input=tf.compat.v1.placeholder(tf.float32, shape))
            for shape in (one, other)
        ]
        operation = tf.raw_ops.BroadcastGradientArgs(s0=shapes[0], s1=shapes[1])[0].op
        found = [
            tf.get_static_value(axes) for axes in FORMS["BroadcastGradientArgs"](operation, *shapes)
        ]
    assert [list(axes) for axes in found] == [list(axes.numpy()) for axes in wanted]
