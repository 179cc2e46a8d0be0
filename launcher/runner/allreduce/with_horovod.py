"""All-reduces of ``horovod.torch``, by whatever Horovod was built with and is told to use."""

from measure import ON_CPU, ON_GPU, Reducer, lacking, measure

try:
    import horovod.torch as hvd
    import torch
except ImportError as error:  # it may have been built for another library
    lacking(f"horovod.torch ({error})")


class Horovod(Reducer):
    """One GPU a rank, that of its number on its host."""

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
        """The largest, which stays the largest however often."""
        for _ in range(count):
            hvd.allreduce_(self._tensor, op=hvd.Max, name="tensor")
        if self._tensor.is_cuda:
            torch.cuda.synchronize()

    def most(self, value):
        """By the same way."""
        return float(hvd.allreduce(torch.tensor([value]), op=hvd.Max, name="most"))

    def right(self):
        """The last rank had the largest."""
        return float(self._tensor.min()) == float(self._tensor.max()) == self.size

    def end(self):
        """Before the others are gone."""
        hvd.shutdown()


if __name__ == "__main__":
    measure(Horovod())
