"""All-reduces of ``horovod.torch``, with the library that Horovod was built for and is set to use."""

from measure import ON_CPU, ON_GPU, Reducer, exit_without, measure

try:
    import horovod.torch as hvd
    import torch
except ImportError as error:  # Horovod may have been built for another framework
    exit_without(f"horovod.torch ({error})")


class Horovod(Reducer):
    """One GPU per rank, by its local rank."""

    def __init__(self):
        hvd.init()
        self.rank, self.size = hvd.rank(), hvd.size()
        device = torch.device("cpu")
        carries = "MPI" if hvd.mpi_enabled() else "gloo"
        if torch.cuda.is_available():
            device, self.bytes = torch.device("cuda", hvd.local_rank()), ON_GPU
            torch.cuda.set_device(device)
            carries = "NCCL" if hvd.nccl_built() else carries
        else:
            self.bytes = ON_CPU
        self.backend = f"Horovod ({carries})"
        self._tensor = torch.full((self.bytes // 4,), float(self.rank + 1), device=device)

    def reduce(self, count):
        """Take the maximum, which stays the same however often."""
        for _ in range(count):
            hvd.allreduce_(self._tensor, op=hvd.Max, name="tensor")
        if self._tensor.is_cuda:
            torch.cuda.synchronize()

    def most(self, value):
        """Reduce over the same library."""
        return float(hvd.allreduce(torch.tensor([value]), op=hvd.Max, name="most"))

    def right(self):
        """Compare with the last rank's value, the largest."""
        return float(self._tensor.min()) == float(self._tensor.max()) == self.size

    def end(self):
        """Shut down before other ranks exit."""
        hvd.shutdown()


if __name__ == "__main__":
    measure(Horovod())
