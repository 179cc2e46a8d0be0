"""Fits a line with MultiWorkerMirroredStrategy: every worker holds the same weights."""

import argparse
import os

import numpy as np
import tensorflow as tf

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=20)
steps = parser.parse_args().steps

strategy = tf.distribute.MultiWorkerMirroredStrategy()
index = strategy.cluster_resolver.task_id
with strategy.scope():
    weight = tf.Variable(0.0)
    bias = tf.Variable(0.0)


@tf.function
def step(seed):
    """One step on y = 2 x + 1; gradients are averaged over all workers."""

    def one():
        x = tf.random.stateless_uniform([64], [seed, index], -1.0, 1.0)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((weight * x + bias - (2.0 * x + 1.0)) ** 2)
        context = tf.distribute.get_replica_context()
        gradients = context.all_reduce("mean", tape.gradient(loss, [weight, bias]))
        for variable, gradient in zip([weight, bias], gradients, strict=True):
            variable.assign(variable - 0.3 * gradient)
        return loss

    return strategy.run(one)


for number in range(steps):
    step(tf.constant(number))
fitted = np.array([weight.numpy(), bias.numpy()])
np.save(os.path.join(os.environ["LAUNCHER_OUTPUT_DIR"], f"fitted-{index}.npy"), fitted)
print(f"worker {index} of {strategy.num_replicas_in_sync}: {fitted.round(1)}")
