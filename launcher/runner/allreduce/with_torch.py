"""All-reduces of ``torch.distributed``: with NCCL if this rank has a GPU, else with gloo."""

import os

import torch
import torch.distributed as dist
from measure import ON_CPU, ON_GPU, Reducer, measure


class Torch(Reducer):
    """One GPU per rank, by LOCAL_RANK."""

    def __init__(self):
        os.environ.setdefault("WORLD_SIZE", os.environ.get("NUM_NODES", "1"))
        on_gpu = torch.cuda.is_available()
        device = torch.device("cpu")
        if on_gpu:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(device)
        self.backend, self.bytes = ("nccl", ON_GPU) if on_gpu else ("gloo", ON_CPU)
        if "RANK" in os.environ:
            dist.init_process_group(self.backend)
        else:  # accelerate sets no variables for a single rank
            dist.init_process_group(self.backend, store=dist.HashStore(), rank=0, world_size=1)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._tensor = torch.full((self.bytes // 4,), float(self.rank + 1), device=device)

    def reduce(self, count):
        """Take the maximum, which stays the same however often."""
        for _ in range(count):
            dist.all_reduce(self._tensor, op=dist.ReduceOp.MAX)
        if self._tensor.is_cuda:
            torch.cuda.synchronize()

    def most(self, value):
        """Reduce over the same library."""
        found = torch.tensor([value], device=self._tensor.device)
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return float(found)

    def right(self):
        """Compare with the last rank's value, the largest."""
        return float(self._tensor.min()) == float(self._tensor.max()) == self.size

    def end(self):
        """Destroy the group before the interpreter exits, or torch complains."""
        dist.destroy_process_group()


if __name__ == "__main__":
    measure(Torch())
