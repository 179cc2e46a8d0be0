"""Adds up one number of every process over all hosts, the first thing to see working."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import xla_bridge
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# On CPUs only: where a host's own name means 127.0.0.1, gloo tells the others that address, and JAX has
# no setting for it. GPUs talk by NCCL, which reads NCCL_SOCKET_IFNAME.
interface = os.environ.get("GLOO_SOCKET_IFNAME")
if interface:
    library = xla_bridge._jax
    make = library.make_gloo_tcp_collectives
    library.make_gloo_tcp_collectives = functools.partial(make, interface=interface)

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
