"""All-reduces of ``torch.distributed``: by NCCL where this rank has a GPU, else by gloo."""

import os

import torch
import torch.distributed as dist
from measure import ON_CPU, ON_GPU, Reducer, measure


class Torch(Reducer):
    """One GPU a rank, that of LOCAL_RANK."""

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
        else:  # accelerate tells a single rank nothing
            dist.init_process_group(self.backend, store=dist.HashStore(), rank=0, world_size=1)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._tensor = torch.full((self.bytes // 4,), float(self.rank + 1), device=device)

    def reduce(self, count):
        """The largest, which stays the largest however often."""
        for _ in range(count):
            dist.all_reduce(self._tensor, op=dist.ReduceOp.MAX)
        if self._tensor.is_cuda:
            torch.cuda.synchronize()

    def most(self, value):
        """By the same way."""
        found = torch.tensor([value], device=self._tensor.device)
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return float(found)

    def right(self):
        """The last rank had the largest."""
        return float(self._tensor.min()) == float(self._tensor.max()) == self.size

    def end(self):
        """Before the interpreter ends, or torch complains."""
        dist.destroy_process_group()


if __name__ == "__main__":
    measure(Torch())
