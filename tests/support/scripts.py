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

#: The beginning of a script of torch's: all ranks go on at the same time, or nearly.
MEET = """
import os, socket, time
where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
if os.environ["RANK"] == "0":
    with socket.create_server(("", where[1])) as server:
        for line in [server.accept()[0] for _ in range(int(os.environ["WORLD_SIZE"]) - 1)]:
            line.sendall(b"x")
while os.environ["RANK"] != "0":
    try:
        socket.create_connection(where).recv(1)
        break
    except OSError:
        time.sleep(0.05)
"""
