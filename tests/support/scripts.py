"""Training scripts that several tests run."""

from __future__ import annotations

# -- on hosts


TRAIN = """\
import os, sys, torch, torch.distributed as dist
dist.init_process_group("gloo")
torch.manual_seed(0)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1, 1))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(60):
    x = torch.tensor([[float(dist.get_rank()) + step % 3]])
    optimizer.zero_grad(); loss = ((model(x) - 2 * x - 1) ** 2).mean(); loss.backward(); optimizer.step()
said = ("of", dist.get_world_size(), "on", os.environ["LAUNCHER_HOST"],
        "learned", loss.item() < 0.5, sys.argv[1:], [os.environ["TOKEN"]])
os.write(1, (" ".join(map(str, said)) + "\\n").encode())  # at once: ranks share an output
del model, optimizer  # what of them holds the group goes first
dist.barrier()
dist.destroy_process_group()
os._exit(0)  # torch's threads abort an interpreter that ends beside them, once in a hundred runs
"""
