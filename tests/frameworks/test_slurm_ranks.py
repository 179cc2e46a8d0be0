"""Frameworks that find their ranks by Slurm's variables do so over two hosts, without any argument."""

from __future__ import annotations

import pytest

from support.command import Launcher

pytestmark = pytest.mark.timeout(300)

# A script that leaves torch's group open ends with an abort now and then.

#: Torch's variables are there, too; without them only Slurm's can tell.
WITHOUT_TORCH = """
import os
for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK"):
    os.environ.pop(name, None)
"""
#: Its collectives on processors take the address of a host's own name, which is loopback here.
JAX = """
import jax
jax.distributed.initialize()
print("found", jax.process_index(), jax.process_count(), [one.process_index for one in jax.devices()])
"""
LIGHTNING = """
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
trainer = Trainer(
    accelerator="cpu", devices=1, num_nodes=2, max_steps=2, logger=False,
    enable_checkpointing=False, enable_progress_bar=False,
)
trainer.fit(BoringModel())
print("by", type(trainer.strategy.cluster_environment).__name__)
print("found", trainer.global_rank, trainer.world_size)
torch.distributed.destroy_process_group()
"""
ACCELERATE = """
import torch
from accelerate import Accelerator
found = Accelerator(cpu=True)
ranks = found.gather(torch.tensor([found.process_index])).tolist()
print("found", found.process_index, found.num_processes, ranks)
found.end_training()
"""
TRAINER = """
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        return {"input_ids": torch.arange(8) + i, "labels": torch.tensor(i % 2)}

config = BertConfig(vocab_size=99, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                    intermediate_size=16)
arguments = TrainingArguments(
    "out", use_cpu=True, max_steps=2, report_to="none", save_strategy="no", disable_tqdm=True
)
Trainer(BertForSequenceClassification(config), arguments, train_dataset=Data()).train()
print("found", arguments.process_index, arguments.world_size)
torch.distributed.destroy_process_group()
"""


@pytest.mark.parametrize(
    ("of", "script", "said"),
    [
        pytest.param("jax", WITHOUT_TORCH + JAX, "found {rank} 2 [0, 1]", id="jax"),
        pytest.param(
            "lightning",
            WITHOUT_TORCH + LIGHTNING,
            "by SLURMEnvironment\nfound {rank} 2",
            id="lightning",
        ),
        pytest.param("lightning", ACCELERATE, "found {rank} 2 [0, 1]", id="accelerate"),
        pytest.param("projects", TRAINER, "found {rank} 2", id="transformers"),
    ],
    indirect=["of"],
)
def test_ranks_are_found_unaided(of: Launcher, script: str, said: str) -> None:
    of.script(script)
    ran = of.run("--framework", "slurm", "--nodes", "2", "--nproc-per-node", "1", "train.py")
    assert ran.code == 0, ran.out + ran.err
    for rank in (0, 1):
        assert said.format(rank=rank) in ran.log(f"rank-{rank}.out").decode()
