"""The order of reading and writing a weight in the graph that TensorFlow really runs."""

from __future__ import annotations

from typing import Any

import keras
import pytest

from keras_local import feedback
from tests.feedback.nets import LOSS, NETS, data
from tests.support import tensorflow_only

OFFSET, SEPARATE = feedback.KolenPollack(), feedback.KolenPollack(separate=True)


@pytest.mark.few(6)
@tensorflow_only
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
@pytest.mark.parametrize(
    ("rule", "weight_decay"),
    [
        pytest.param(OFFSET, None, id="offset"),
        pytest.param(OFFSET, 0.1, id="offset-decay"),
        pytest.param(SEPARATE, None, id="separate"),
        pytest.param(SEPARATE, 0.1, id="separate-decay"),
        pytest.param(feedback.KolenPollack(decay=0.1), None, id="decay"),
        pytest.param(feedback.SymmetricAlignment(), None, id="symmetric_alignment"),
        pytest.param(feedback.ActivationAlignment(), None, id="activation_alignment"),
        pytest.param(feedback.InformationAlignment(every=2), None, id="every"),
        pytest.param(feedback.WeightMirror(), None, id="weight_mirror"),
    ],
)
def test_a_weight_is_read_before_it_is_written(
    rule: Any, net: Any, weight_decay: float | None
) -> None:
    """Without a tie between the two, an error sometimes goes through the next step's weights.

    Seen about once in thousand steps of a busy machine. The runtime drops the edge from the read
    to the update because the custom gradient stands between them, and afterwards removes what
    stood between. No number shows this reliably, hence a look at the graph.
    """
    import tensorflow as tf
    from tensorflow.python.eager import context

    model = net(rule)
    inputs, labels = (tf.constant(a) for a in data(model))
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=weight_decay)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step() -> Any:
        with tf.GradientTape() as tape:
            loss = LOSS(labels, model(inputs, training=True)) + sum(model.losses)
        optimizer.apply(tape.gradient(loss, model.trainable_variables))
        return loss

    context.enable_graph_collection()
    try:
        step()
        collected = context.export_run_metadata().function_graphs
    finally:
        context.disable_graph_collection()
    graph = max((g.post_optimization_graph for g in collected), key=lambda g: len(g.node))
    writes = [node for node in graph.node if node.op.startswith("Assign")]
    assert len(writes) >= len(model.trainable_variables)
    unordered = [
        (read.name, write.name)
        for write in writes
        for read in graph.node
        if read.op == "ReadVariableOp"
        and read.input[0] == write.input[0]
        and write.name not in following(graph, read.name)
        and read.name not in following(graph, write.name)
    ]
    assert not unordered


def following(graph: Any, name: str) -> set[str]:
    """Names of the nodes that run after another one, by data or by control."""
    followers: dict[str, list[str]] = {}
    for node in graph.node:
        for source in node.input:
            followers.setdefault(source.lstrip("^").split(":")[0], []).append(node.name)
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for follower in followers.get(waiting.pop(), []):
            if follower not in found:
                found.add(follower)
                waiting.append(follower)
    return found
