"""Fits a line with Accelerate over all processes."""

import argparse

import torch
from accelerate import Accelerator

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=60)
steps = parser.parse_args().steps

accelerator = Accelerator()
rank, size = accelerator.process_index, accelerator.num_processes
model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
model, optimizer = accelerator.prepare(model, optimizer)
draw = torch.Generator().manual_seed(rank)
for _ in range(steps):
    x = torch.rand(64, 1, generator=draw).to(accelerator.device) * 2 - 1
    optimizer.zero_grad()
    accelerator.backward(torch.nn.functional.mse_loss(model(x), 2 * x + 1))
    optimizer.step()
weight, bias = (float(value) for value in accelerator.unwrap_model(model).parameters())
print(f"rank {rank} of {size}: weight {weight:.1f} bias {bias:.1f}")
model, optimizer = accelerator.free_memory(model, optimizer)  # what holds the group goes before it
accelerator.wait_for_everyone()
accelerator.end_training()
