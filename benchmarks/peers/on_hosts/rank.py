"""One rank, whoever has started it: it looks for its number where its starter puts it.

    python rank.py noop|all_reduce|hold ADDRESS:PORT OUTPUTS

`noop` says that it is there. `all_reduce` also adds up a tensor of all ranks, by torch and gloo. `hold`
writes down its pid, and then sleeps until somebody ends it.
"""

import os
import socket
import sys
import time

#: Where `hold` writes its pid.
PIDS = "/tmp/peers"
#: By torchrun and what imitates it, Open MPI, Horovod, and Slurm.
RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "HOROVOD_RANK", "SLURM_PROCID")
WORLDS = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "HOROVOD_SIZE", "SLURM_NTASKS")


def main(kind: str, meet: str, outputs: str) -> str:
    """Be a rank. Return what it says, for starters that bring values back."""
    rank, world = number(RANKS), number(WORLDS)
    said = f"peer rank {rank} of {world} on {socket.gethostname()}"
    print(said, flush=True)
    if kind == "all_reduce":
        said = f"{said}: the sum is {all_reduce(rank, world, meet)}"
        print(said, flush=True)
    if kind == "hold":
        write(PIDS, rank, str(os.getpid()))
        while True:
            time.sleep(0.2)
    write(os.environ.get("LAUNCHER_OUTPUT_DIR") or outputs, rank, said)
    return said


def all_reduce(rank: int, world: int, meet: str) -> int:
    """Add up a tensor of all ranks."""
    import torch
    from torch import distributed

    ours = not distributed.is_initialized()  # Ray and torchrunx have done it
    if ours:
        address, _, port = meet.partition(":")
        os.environ.setdefault("MASTER_ADDR", address)
        os.environ.setdefault("MASTER_PORT", port)
        distributed.init_process_group("gloo", rank=rank, world_size=world)
    ones = torch.ones(1000)
    distributed.all_reduce(ones)
    if ours:
        distributed.destroy_process_group()
    return int(ones[0])


def number(names: tuple[str, ...]) -> int:
    """Return the first of these variables that there is."""
    return int(next(os.environ[name] for name in names if name in os.environ))


def write(folder: str, rank: int, text: str) -> None:
    """Write a file of this rank, which appears whole."""
    os.makedirs(folder, exist_ok=True)
    name = os.path.join(folder, f"rank-{rank}")
    with open(name + ".written", "w") as file:
        file.write(text)
    os.rename(name + ".written", name)


if __name__ == "__main__":
    main(*sys.argv[1:4])
