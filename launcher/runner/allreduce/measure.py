"""Measure how fast a library adds up a tensor over all ranks, and report it in one line."""

import json
import sys
import time

MARK = "launcher-smoke "
#: All-reduces between two readings of the clock.
BATCH = 5
#: Bytes of the tensor: enough to fill a link, and bearable for a CPU to copy.
ON_GPU, ON_CPU = 256 << 20, 16 << 20


class Reducer:
    """A tensor of ``bytes`` bytes of floats on each of ``size`` ranks; this is ``rank``.

    ``backend`` names the library that carries it, ``what`` the repeated operation.
    """

    rank, size, bytes = 0, 1, ON_CPU
    backend, what = "", "all-reduces"

    def reduce(self, count):
        """Reduce over all ranks ``count`` times; return when all are done."""
        raise NotImplementedError

    def most(self, value):
        """Return the largest value of all ranks."""
        raise NotImplementedError

    def right(self):
        """Return whether the tensor has the expected result."""
        raise NotImplementedError

    def end(self):
        """Leave the group."""


def measure(reducer):
    """Measure for as many seconds as the first argument says. All ranks see the same times, so that
    all stop after the same batch.

    The bandwidth is that of the bus, as NCCL's own tests count it: 2 (n - 1) / n times the bytes of
    the tensor per all-reduce, so that it does not depend on the number of ranks.
    """
    seconds = float(sys.argv[1])
    reducer.reduce(2)
    best, count, spent = float("inf"), 0, 0.0
    while spent < seconds:
        started = time.perf_counter()
        reducer.reduce(BATCH)
        took = reducer.most(time.perf_counter() - started)
        spent += took
        best = min(best, took / BATCH)
        count += BATCH
    right = reducer.most(0.0 if reducer.right() else 1.0) == 0.0
    if reducer.rank == 0:
        moved = reducer.bytes * 2 * (reducer.size - 1) / reducer.size
        _report(
            backend=reducer.backend,
            what=reducer.what,
            ranks=reducer.size,
            bytes=reducer.bytes,
            count=count,
            seconds=spent,
            each=spent / count,
            bandwidth=moved * count / spent,
            best=moved / best,
            right=right,
        )
    reducer.end()


def exit_without(what):
    """Report that ``what`` is missing and nothing can be measured, and exit: a job may not need it."""
    _report(missing=what)
    sys.exit(1)


def _report(**values):
    print(MARK + json.dumps(values), flush=True)
