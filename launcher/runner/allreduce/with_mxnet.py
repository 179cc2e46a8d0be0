"""A push to MXNet's servers and a pull of the sum: MXNet has no all-reduce.

Scheduler and servers never get past ``import mxnet``.
"""

import mxnet as mx
from measure import ON_CPU, Reducer, measure


class MXNet(Reducer):
    """Ranks are workers; tensors are in host memory, from where MXNet sends them in any case."""

    what = "pushes and pulls"

    def __init__(self):
        self._store = mx.kv.create("dist_sync")
        self.rank, self.size = self._store.rank, self._store.num_workers
        self.bytes, self.backend = ON_CPU, "MXNet's servers"
        self._tensor = mx.nd.ones((self.bytes // 4,))
        self._total = mx.nd.zeros(self._tensor.shape)
        self._store.init("tensor", self._total)
        self._store.init("most", mx.nd.zeros((self.size,)))

    def reduce(self, count):
        """Sum ones."""
        for _ in range(count):
            self._over("tensor", self._tensor, self._total)

    def most(self, value):
        """Add up arrays in which each worker sets its own element: servers can only add."""
        mine, found = mx.nd.zeros((self.size,)), mx.nd.zeros((self.size,))
        mine[self.rank] = value
        self._over("most", mine, found)
        return float(found.max().asscalar())

    def right(self):
        """Compare with the number of workers."""
        return (
            float(self._total.min().asscalar()) == float(self._total.max().asscalar()) == self.size
        )

    def _over(self, key, mine, total):
        self._store.push(key, mine.copy())  # a pull overwrites what was pushed
        self._store.pull(key, out=total)
        total.wait_to_read()


if __name__ == "__main__":
    measure(MXNet())
