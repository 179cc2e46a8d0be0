"""Measures how fast a library adds up a tensor over all ranks: the loop, the units, and the line that
tells it.
"""

import json
import sys
import time

MARK = "launcher-smoke "
#: All-reduces between two looks at the clock.
BATCH = 5
#: Bytes of the tensor: what a link is filled by, and a CPU has to copy.
ON_GPU, ON_CPU = 256 << 20, 16 << 20


class Reducer:
    """A tensor of ``bytes`` bytes of floats, as all of ``size`` ranks have one; this is ``rank``.

    ``backend`` names what carries it, ``what`` what it does over and over.
    """

    rank, size, bytes = 0, 1, ON_CPU
    backend, what = "", "all-reduces"

    def reduce(self, count):
        """Goes over all ranks, ``count`` times; all of them are done when it returns."""
        raise NotImplementedError

    def most(self, value):
        """The largest of what all ranks give."""
        raise NotImplementedError

    def right(self):
        """Whether the tensor holds what comes of what the ranks had."""
        raise NotImplementedError

    def end(self):
        """Leaves the others."""


def measure(reducer):
    """Goes on for as many seconds as the first argument says. All ranks see the same times, so that all
    stop after the same batch.

    The bandwidth is that of the bus, as NCCL's own tests count it: 2 (n - 1) / n times the bytes of the
    tensor for every all-reduce, so that it does not depend on the number of ranks.
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
        _tell(
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


def lacking(what):
    """Ends this rank, and says that it cannot measure anything without ``what``: no fault of a job that
    does not need it."""
    _tell(lacking=what)
    sys.exit(1)


def _tell(**told):
    print(MARK + json.dumps(told), flush=True)
