"""``MPI_Allreduce`` in host memory, called through mpi4py without numpy."""

import array

from measure import ON_CPU, Reducer, exit_without, measure

try:
    from mpi4py import MPI
except ImportError as error:
    exit_without(f"mpi4py ({error})")


class Mpi(Reducer):
    """All ranks of MPI_COMM_WORLD."""

    def __init__(self):
        self._world = MPI.COMM_WORLD
        self.rank, self.size = self._world.rank, self._world.size
        self.bytes, self.backend = ON_CPU, "MPI"
        self._tensor = array.array("f", [self.rank + 1.0]) * (self.bytes // 4)

    def reduce(self, count):
        """Take the maximum, which stays the same however often."""
        for _ in range(count):
            self._world.Allreduce(MPI.IN_PLACE, self._tensor, op=MPI.MAX)

    def most(self, value):
        """Reduce over the same library."""
        return self._world.allreduce(value, op=MPI.MAX)

    def right(self):
        """Compare with the last rank's value, the largest."""
        return self._tensor.count(self.size) == len(self._tensor)


if __name__ == "__main__":
    measure(Mpi())
