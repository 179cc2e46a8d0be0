"""Trains a small digit classifier with DistributedDataParallel, as a script for launcher does it.

It reads what torchrun and launcher set for every process (RANK, WORLD_SIZE, LOCAL_RANK,
MASTER_ADDR, MASTER_PORT) and writes under LAUNCHER_OUTPUT_DIR. It does not start processes, choose
GPUs or copy files: launcher does. Without those variables it is one process that writes to
./outputs.

Hosts share no files, so rank 0 alone writes and reads, and sends the others what they need.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

SPLIT_SEED = 0  # Not --seed: runs with different seeds are measured on the same test images.
TEST_IMAGES = 360  # Of 1797.


def parse_args() -> argparse.Namespace:
    """The command line; a batch is over all ranks, so more ranks do not change the steps taken."""
    parser = argparse.ArgumentParser(description="Digits with DistributedDataParallel.")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64, help="images a step, over all ranks")
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument(
        "--seed", type=int, default=0, help="of the weights and the order of images"
    )
    parser.add_argument("--no-resume", action="store_true", help="ignore an existing checkpoint")
    return parser.parse_args()


def say(text: str) -> None:
    """Prints at once and in one piece: a log is a file, and ranks may share it."""
    print(text + "\n", end="", flush=True)


def join() -> None:
    """Joins the other ranks, by the variables torch reads itself; alone when they are not set."""
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("gloo")
    else:  # A store in memory: no port to choose.
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)


def choose_device() -> tuple[torch.device, dist.ProcessGroup | None]:
    """This rank's device and the group for its gradients: NCCL if every rank has a GPU, else gloo.

    The ranks decide together, over gloo: with NCCL on one host and gloo on another all would hang.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    has_gpu = torch.tensor(int(torch.cuda.device_count() > local_rank and dist.is_nccl_available()))
    dist.all_reduce(has_gpu, op=dist.ReduceOp.MIN)
    if not has_gpu:
        torch.set_num_threads(1)  # The ranks of a host share its cores.
        return torch.device("cpu"), None
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank), dist.new_group(backend="nccl")


def load_data() -> tuple[TensorDataset, Tensor, Tensor]:
    """The training set, and the test images and labels; the same split on every rank."""
    # scikit-learn's own file, read directly: importing the package would take longer than training.
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("this example needs scikit-learn on every host: pip install scikit-learn")
    file = Path(package.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    table = torch.as_tensor(np.loadtxt(file, delimiter=",", dtype=np.float32))
    images, labels = table[:, :64] / 16, table[:, 64].to(torch.int64)  # 1797 of 0 to 16, 0 to 9
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SPLIT_SEED))
    test, train = order[:TEST_IMAGES], order[TEST_IMAGES:]
    return TensorDataset(images[train], labels[train]), images[test], labels[test]


def train_epoch(
    model: nn.Module,
    batches: DataLoader[Any],
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> float:
    """One pass over this rank's share; returns the mean loss an image over all ranks."""
    total = torch.zeros(2, dtype=torch.float64)  # sum of losses, number of images
    for images, labels in batches:
        loss = nn.functional.cross_entropy(model(images.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()  # DDP averages the gradients of all ranks in here.
        optimizer.step()
        total += torch.tensor([loss.item() * len(labels), len(labels)], dtype=torch.float64)
    dist.all_reduce(total)
    return float(total[0] / total[1])


@torch.no_grad()
def test_accuracy(net: nn.Module, images: Tensor, labels: Tensor, device: torch.device) -> float:
    """The share of test images told right; `net` is the bare model, as one rank alone calls it."""
    return float((net(images.to(device)).argmax(dim=1).cpu() == labels).double().mean())


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces `path` in one step: a kill or a pull at any moment finds the old file or the new."""
    part = path.with_name(path.name + ".tmp")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


class Recorder:
    """Rank 0's files under `folder`: checkpoint.pt, metrics.json and tensorboard/."""

    def __init__(self, folder: Path, first_epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # Slow to import: on rank 0 alone.

        self.folder = folder
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_epoch)

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Writes `checkpoint` and the metrics of its last epoch."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(self.folder / "checkpoint.pt", buffer.getvalue())
        metrics = {"world_size": dist.get_world_size(), "epochs": checkpoint["history"]}
        write_atomically(self.folder / "metrics.json", json.dumps(metrics, indent=2).encode())
        for name in ("loss", "accuracy"):
            self.board.add_scalar(name, checkpoint["history"][-1][name], checkpoint["epoch"])
        self.board.flush()


def load_checkpoint(path: Path, resume: bool) -> dict[str, Any] | None:
    """Rank 0's checkpoint, on every rank; None when there is none or `resume` is false."""
    found: list[dict[str, Any] | None] = [None]
    if dist.get_rank() == 0 and resume and path.exists():
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        say(f"resumed from {path} after epoch {checkpoint['epoch']}")
        found = [checkpoint]
    dist.broadcast_object_list(found, src=0)
    return found[0]


def train(args: argparse.Namespace, folder: Path) -> nn.Module:
    """Trains to `args.epochs`, from the checkpoint in `folder` if there is one; the bare model."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    device, group = choose_device()
    torch.manual_seed(args.seed)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)).to(device)
    model = DistributedDataParallel(net, process_group=group)
    optimizer = torch.optim.Adam(net.parameters(), lr=args.lr)
    checkpoint = load_checkpoint(folder / "checkpoint.pt", resume=not args.no_resume)
    history: list[dict[str, float]] = []
    if checkpoint:
        net.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        history = checkpoint["history"]

    dataset, test_images, test_labels = load_data()
    sampler: DistributedSampler[Any] = DistributedSampler(dataset, seed=args.seed)
    batches = DataLoader(dataset, max(1, args.batch_size // world_size), sampler=sampler)
    recorder = Recorder(folder, len(history) + 1) if rank == 0 else None
    for epoch in range(len(history) + 1, args.epochs + 1):
        sampler.set_epoch(epoch)  # Another order each epoch, also after a resume.
        loss = train_epoch(model, batches, optimizer, device)
        if recorder is None:
            continue
        accuracy = test_accuracy(net, test_images, test_labels, device)
        history.append({"epoch": epoch, "loss": loss, "accuracy": accuracy})
        state = {"model": net.state_dict(), "optimizer": optimizer.state_dict()}
        recorder.save(state | {"epoch": epoch, "history": history})
        say(f"epoch {epoch}/{args.epochs}  loss {loss:.4f}  test accuracy {accuracy:.3f}")
    if recorder:
        recorder.board.close()
    return net


def check_equal(net: nn.Module) -> None:
    """Tells that every rank ended with the same parameters, bit for bit; RuntimeError if not."""
    content = b"".join(p.detach().cpu().numpy().tobytes() for p in net.parameters())
    rank, size = dist.get_rank(), dist.get_world_size()
    digests: list[Any] = [None] * size
    # A group of its own, whose threads end with it: one of the default group (which outlives its
    # destruction once DDP was used) may free a tensor while Python exits, and then torch aborts
    # the process now and then (pytorch/pytorch#190489).
    group = dist.new_group(backend="gloo")
    dist.all_gather_object(digests, hashlib.sha256(content).hexdigest()[:8], group=group)
    dist.destroy_process_group(group)
    where = f"rank {rank}/{size} on {socket.gethostname()}: params sha256 {digests[rank]}"
    if len(set(digests)) > 1:
        raise RuntimeError(f"{where} differs between ranks: {digests}")
    say(f"{where} equal on all {size} ranks")


def main() -> None:
    """Joins, trains, checks, leaves."""
    args = parse_args()
    folder = Path(os.environ.get("LAUNCHER_OUTPUT_DIR", "outputs"))
    folder.mkdir(parents=True, exist_ok=True)
    join()
    check_equal(train(args, folder))
    dist.destroy_process_group()  # Not in a `finally`: after an error it would wait for the others.


if __name__ == "__main__":
    main()
