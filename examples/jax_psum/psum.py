"""Adds up one number of every process over all hosts, the first thing to see working."""

import os

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(
    num_processes=int(os.environ["JAX_NUM_PROCESSES"]),
    process_id=int(os.environ["JAX_PROCESS_ID"]),
)
mesh = Mesh(np.array(jax.devices()), ("all",))
split, whole = (NamedSharding(mesh, PartitionSpec(*axis)) for axis in (("all",), ()))
mine = jnp.array([jax.process_index() + 1.0])
numbers = jax.make_array_from_process_local_data(split, mine)
total = jax.jit(jnp.sum, out_shardings=whole)(numbers)
print(f"process {jax.process_index()} of {jax.process_count()}: the sum is {float(total):.0f}")
