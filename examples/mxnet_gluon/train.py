"""Fits a line with gluon over `dist_sync`: servers hold the weights, workers wait for each other."""

import argparse
import os

import mxnet as mx
from mxnet import autograd, gluon, nd

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=20)
steps = parser.parse_args().steps

store = mx.kv.create("dist_sync")
mx.random.seed(store.rank)
net = gluon.nn.Dense(1, in_units=1)
net.initialize(mx.init.Zero())
trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.3}, kvstore=store)
for _ in range(steps):
    x = nd.random.uniform(-1, 1, shape=(64, 1))
    with autograd.record():
        loss = gluon.loss.L2Loss()(net(x), 2 * x + 1)
    loss.backward()
    trainer.step(64 * store.num_workers)
weight = float(net.weight.data().asscalar())
bias = float(net.bias.data().asscalar())
net.save_parameters(os.path.join(os.environ["LAUNCHER_OUTPUT_DIR"], f"net-{store.rank}.params"))
print(f"worker {store.rank} of {store.num_workers}: weight {weight:.1f} bias {bias:.1f}")
