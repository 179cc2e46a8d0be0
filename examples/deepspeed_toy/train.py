"""Fits a line with DeepSpeed over all processes; a plain optimizer, so that nothing is compiled."""

import argparse

import deepspeed
import torch

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=60)
steps = parser.parse_args().steps

deepspeed.init_distributed(dist_backend="nccl" if torch.cuda.is_available() else "gloo")
rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
model = torch.nn.Linear(1, 1)
engine, _, _, _ = deepspeed.initialize(
    model=model,
    optimizer=torch.optim.SGD(model.parameters(), lr=0.3),
    config={"train_micro_batch_size_per_gpu": 64, "steps_per_print": 1_000_000},
)
draw = torch.Generator().manual_seed(rank)
for _ in range(steps):
    x = torch.rand(64, 1, generator=draw).to(engine.device) * 2 - 1
    engine.backward(torch.nn.functional.mse_loss(engine(x), 2 * x + 1))
    engine.step()
weight, bias = (float(value.detach()) for value in model.parameters())
print(f"rank {rank} of {size}: weight {weight:.1f} bias {bias:.1f}", flush=True)
torch.distributed.barrier()  # no rank leaves while another one still needs it
torch.distributed.destroy_process_group()
