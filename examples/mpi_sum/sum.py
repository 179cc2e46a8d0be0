"""Adds up one number of every rank with mpi4py."""

import socket

from mpi4py import MPI

world = MPI.COMM_WORLD
total = world.allreduce(world.rank + 1)
print(f"rank {world.rank}/{world.size} on {socket.gethostname()}: {total}")
