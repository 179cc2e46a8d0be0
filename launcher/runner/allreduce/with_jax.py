"""A sum over all devices of all JAX processes, which XLA turns into an all-reduce."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from measure import ON_CPU, ON_GPU, Reducer, measure


class Jax(Reducer):
    """Ranks are devices here: a process may have several."""

    def __init__(self):
        _use_interface(os.environ.get("GLOO_SOCKET_IFNAME"))
        jax.distributed.initialize(
            num_processes=int(os.environ["JAX_NUM_PROCESSES"]),
            process_id=int(os.environ["JAX_PROCESS_ID"]),
        )
        devices = jax.devices()
        kind = devices[0].platform
        self.rank, self.size = jax.process_index(), len(devices)
        self.backend, self.bytes = f"JAX ({kind})", ON_CPU if kind == "cpu" else ON_GPU
        mesh = Mesh(np.array(devices), ("all",))
        self._split, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("all",), ()))
        self._sum = jax.jit(functools.partial(jnp.sum, axis=0), out_shardings=whole)
        self._most = jax.jit(jnp.max, out_shardings=whole)
        self._tensor, self._total = self._of_all(1.0, self.bytes // 4), None

    def _of_all(self, value, width):
        """Return an array with a row of ``value`` on each device of this process."""
        rows = np.full((jax.local_device_count(), width), value, np.float32)
        return jax.make_array_from_process_local_data(self._split, rows)

    def reduce(self, count):
        """Sum ones."""
        for _ in range(count):
            self._total = self._sum(self._tensor).block_until_ready()

    def most(self, value):
        """Reduce over the same library."""
        return float(self._most(self._of_all(value, 1)))

    def right(self):
        """Compare with the number of devices."""
        return bool((np.asarray(self._total) == self.size).all())


def _use_interface(interface):
    """Make gloo use this interface, for which JAX has no setting.

    Where a host's own name resolves to 127.0.0.1, gloo would pass that address to the other hosts.
    GPUs use NCCL, which reads NCCL_SOCKET_IFNAME.
    """
    try:
        from jax._src import xla_bridge

        make = xla_bridge._jax.make_gloo_tcp_collectives
    except (ImportError, AttributeError):
        return  # another version of JAX: there, names must resolve to real addresses
    if interface:
        xla_bridge._jax.make_gloo_tcp_collectives = functools.partial(make, interface=interface)


if __name__ == "__main__":
    measure(Jax())
