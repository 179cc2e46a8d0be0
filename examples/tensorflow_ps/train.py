"""Fits a line over parameter servers: the chief hands out steps, workers and ps serve for ever."""

import argparse
import json
import os

import numpy as np
import tensorflow as tf

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=20)
steps = parser.parse_args().steps

task = json.loads(os.environ["TF_CONFIG"])["task"]
resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
if task["type"] in ("worker", "ps"):
    server = tf.distribute.Server(
        resolver.cluster_spec(), job_name=task["type"], task_index=task["index"], protocol="grpc"
    )
    print(f"{task['type']} {task['index']} serves", flush=True)
    server.join()  # never returns: launcher ends it when the chief has ended

strategy = tf.distribute.ParameterServerStrategy(resolver)
coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
with strategy.scope():
    weight = tf.Variable(0.0)
    bias = tf.Variable(0.0)


@tf.function
def step(seed):
    """One step of stochastic gradient descent on y = 2 x + 1."""

    def one():
        x = tf.random.stateless_uniform([64], [seed, 0], -1.0, 1.0)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((weight * x + bias - (2.0 * x + 1.0)) ** 2)
        d_weight, d_bias = tape.gradient(loss, [weight, bias])
        weight.assign_sub(0.3 * d_weight)
        bias.assign_sub(0.3 * d_bias)
        return loss

    return strategy.run(one)


for number in range(steps):
    coordinator.schedule(step, args=(number,))
coordinator.join()
fitted = np.array([weight.numpy(), bias.numpy()])
np.save(os.path.join(os.environ["LAUNCHER_OUTPUT_DIR"], "fitted.npy"), fitted)
print(f"after {steps} steps on {strategy._extended._num_workers} workers: {fitted.round(1)}")
