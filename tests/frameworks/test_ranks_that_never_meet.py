"""Ranks that should meet and never do are named; those that meet by their framework's own means are not."""

from __future__ import annotations

import pytest

from support.command import Launcher

pytestmark = pytest.mark.timeout(300)

TORCH = """
import sys, time, torch
time.sleep(11)
if "meet" in sys.argv:
    {meet}
    time.sleep(3)
"""
JAX = """
import os, sys, time, jax, jaxlib.xla_client
if "meet" in sys.argv:
    jax.distributed.initialize(
        num_processes=int(os.environ["JAX_NUM_PROCESSES"]), process_id=int(os.environ["JAX_PROCESS_ID"])
    )
time.sleep(12)
"""
TENSORFLOW = """
import sys, time
import tensorflow as tf
if "meet" in sys.argv:
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
time.sleep(12)
"""
SCRIPTS = {
    "torch": ("lightning", TORCH.format(meet="torch.distributed.init_process_group('gloo')")),
    "deepspeed": (
        "deepspeed",
        TORCH.format(meet="import deepspeed; deepspeed.init_distributed('gloo')"),
    ),
    "jax": ("jax", JAX),
    "tensorflow": ("tensorflow", TENSORFLOW),
}


@pytest.mark.parametrize(
    ("of", "name"),
    [(environment, name) for name, (environment, _) in SCRIPTS.items()],
    indirect=["of"],
    ids=list(SCRIPTS),
)
def test_ranks_that_never_meet(of: Launcher, name: str) -> None:
    of.script(SCRIPTS[name][1])
    shape = (
        "--nodes",
        "2",
        "--nproc-per-node",
        "1",
        "--framework",
        name,
        "-e",
        "DS_ACCELERATOR=cpu",
    )
    alone = of.run(*shape, "train.py")
    assert alone.code == 0, alone.err
    assert "each of 2 worked alone" in alone.err
    together = of.run(*shape, "train.py", "meet")
    assert together.code == 0, together.err
    assert "alone" not in together.err
