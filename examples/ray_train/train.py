"""Fits a line with Ray Train: two workers, one on each host, with torch's DistributedDataParallel."""

import os
from pathlib import Path

import ray
import torch
from ray import train
from ray.train.torch import TorchTrainer, prepare_model

EPOCHS = 40


def fit(config: dict[str, float]) -> None:
    """Train on this worker's part of the points; rank 0 keeps the model at the end."""
    context = train.get_context()
    torch.manual_seed(context.get_world_rank())
    model = prepare_model(torch.nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    points = torch.rand(64, 1)
    for _ in range(EPOCHS):
        loss = torch.nn.functional.mse_loss(model(points), 2 * points + 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    host = ray.get_runtime_context().get_node_id()
    who = f"worker {context.get_world_rank()} of {context.get_world_size()}"
    print(f"{who} on {host}: loss {loss.item():.4f}", flush=True)
    if context.get_world_rank() == 0:  # a checkpoint of Ray's needs a folder that all hosts share
        torch.save(model.state_dict(), Path(os.environ["LAUNCHER_OUTPUT_DIR"], "model.pt"))
    train.report({"loss": loss.item()})


ray.init()  # finds the cluster in RAY_ADDRESS
TorchTrainer(
    fit,
    train_loop_config={"lr": 0.5},
    scaling_config=train.ScalingConfig(
        num_workers=2, placement_strategy="STRICT_SPREAD", use_gpu=bool(os.environ.get("USE_GPU"))
    ),
    run_config=train.RunConfig(name="line", storage_path=os.environ["LAUNCHER_OUTPUT_DIR"]),
).fit()
hosts = sum(node["Alive"] for node in ray.nodes())
print(f"trained by 2 workers on {hosts} hosts")
