"""Trains a small digit classifier with Horovod: gradients averaged over all ranks, on every host.

Horovod's own variables say which rank this is, however it was started. Rank 0 writes the model to
LAUNCHER_OUTPUT_DIR; at the end every rank says that its parameters equal those of all others.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import socket
from importlib.util import find_spec
from pathlib import Path

import horovod.torch as hvd
import numpy as np
import torch
from torch import Tensor, nn

TEST_IMAGES = 360  # Of 1797.


def load_data() -> tuple[Tensor, Tensor]:
    """Images and labels in an order that is the same on every rank."""
    # scikit-learn's own file, read directly: importing the package would take longer than training.
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("this example needs scikit-learn on every host: pip install scikit-learn")
    file = Path(package.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    table = torch.as_tensor(np.loadtxt(file, delimiter=",", dtype=np.float32))
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(0))
    return table[order, :64] / 16, table[order, 64].to(torch.int64)


def train(epochs: int, batch: int, lr: float) -> nn.Module:
    """Each rank takes every size-th image; a batch is over all ranks."""
    rank, size = hvd.rank(), hvd.size()
    torch.manual_seed(rank)  # Different weights on purpose: the broadcast makes them equal.
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
    images, labels = load_data()
    count = (len(images) - TEST_IMAGES) // size  # The same on every rank, or one would wait.
    mine = slice(TEST_IMAGES + rank, TEST_IMAGES + rank + count * size, size)
    own_images, own_labels = images[mine], labels[mine]
    step = max(1, batch // size)
    for epoch in range(1, epochs + 1):
        for start in range(0, count, step):
            part = slice(start, start + step)
            loss = nn.functional.cross_entropy(model(own_images[part]), own_labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()  # Horovod averages the gradients of all ranks before this.
        with torch.no_grad():
            told = model(images[:TEST_IMAGES]).argmax(dim=1)
        right = float((told == labels[:TEST_IMAGES]).double().mean())
        mean = float(hvd.allreduce(loss.detach(), name="loss"))
        if rank == 0:
            print(f"epoch {epoch}/{epochs}  loss {mean:.4f}  test accuracy {right:.3f}", flush=True)
    return model


def check_equal(model: nn.Module) -> None:
    """Tells that every rank ended with the same parameters, bit for bit; RuntimeError if not."""
    content = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
    digest = hashlib.sha256(content).hexdigest()[:8]
    digests = hvd.allgather_object(digest, name="digests")
    where = f"rank {hvd.rank()}/{hvd.size()} on {socket.gethostname()}: params sha256 {digest}"
    if len(set(digests)) > 1:
        raise RuntimeError(f"{where} differs between ranks: {digests}")
    print(f"{where} equal on all {hvd.size()} ranks", flush=True)


def main() -> None:
    """Joins, trains, checks, leaves."""
    parser = argparse.ArgumentParser(description="Digits with Horovod.")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64, help="images a step, over all ranks")
    parser.add_argument("--lr", type=float, default=5e-3)
    args = parser.parse_args()
    torch.set_num_threads(1)  # The ranks of a host share its cores.
    hvd.init()
    model = train(args.epochs, args.batch_size, args.lr)
    check_equal(model)
    if hvd.rank() == 0:
        folder = Path(os.environ.get("LAUNCHER_OUTPUT_DIR", "outputs"))
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), folder / "model.pt")
    hvd.shutdown()


if __name__ == "__main__":
    main()
