"""Adds up a tensor over all ranks for some seconds, and tells how fast that went.

The bandwidth is that of the bus, as NCCL's own tests count it: 2 (n - 1) / n times the bytes of the
tensor for every all-reduce, so that it does not depend on the number of ranks.
"""

import json
import os
import sys
import time

import torch
import torch.distributed as dist

#: All-reduces between two looks at the clock.
BATCH = 5
#: Bytes of the tensor: what a link is filled by, and a CPU has to copy.
SIZE = {"nccl": 256 << 20, "gloo": 16 << 20}


def main(seconds: float) -> None:
    """All ranks see the same times, so that all stop after the same batch."""
    os.environ.setdefault("WORLD_SIZE", os.environ.get("NUM_NODES", "1"))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    device = torch.device("cpu")
    if backend == "nccl":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group(backend)
    world = dist.get_world_size()
    tensor = torch.ones(SIZE[backend] // 4, device=device)
    _batch(tensor, 2)
    best, count, spent = float("inf"), 0, 0.0
    while spent < seconds:
        took = torch.tensor([_batch(tensor, BATCH)], device=device)
        dist.all_reduce(took, op=dist.ReduceOp.MAX)
        spent += float(took)
        best = min(best, float(took) / BATCH)
        count += BATCH
    right = float(tensor.max()) == float(tensor.min()) == 1.0
    if dist.get_rank() == 0:
        mean = spent / count
        moved = tensor.numel() * 4 * 2 * (world - 1) / world
        told = {"backend": backend, "ranks": world, "bytes": tensor.numel() * 4, "count": count}
        told |= {"seconds": spent, "each": mean, "bandwidth": moved / mean, "best": moved / best}
        print("launcher-smoke " + json.dumps({**told, "right": right}), flush=True)
    dist.destroy_process_group()


def _batch(tensor: torch.Tensor, count: int) -> float:
    if tensor.is_cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(count):
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)  # ones stay ones, however often
    if tensor.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    main(float(sys.argv[1]))
