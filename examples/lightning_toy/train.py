"""Fits a line with Lightning over all processes; checkpoints and scalars come back."""

import argparse
import os

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

parser = argparse.ArgumentParser()
parser.add_argument("--devices", type=int, required=True)
parser.add_argument("--nodes", type=int, required=True)
arguments = parser.parse_args()
outputs = os.environ["LAUNCHER_OUTPUT_DIR"]


class Line(lightning.LightningModule):
    """y = 2 x + 1."""

    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(1, 1)

    def training_step(self, batch, number):
        (x,) = batch
        loss = torch.nn.functional.mse_loss(self.line(x), 2 * x + 1)
        self.log("loss", loss, sync_dist=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.3)


data = torch.utils.data.TensorDataset(torch.linspace(-1, 1, 256)[:, None])
trainer = lightning.Trainer(
    accelerator="cpu",
    strategy="ddp",
    devices=arguments.devices,
    num_nodes=arguments.nodes,
    max_epochs=8,
    enable_progress_bar=False,
    log_every_n_steps=1,
    logger=TensorBoardLogger(outputs, name="scalars"),
    callbacks=[ModelCheckpoint(os.path.join(outputs, "checkpoints"), save_last=True)],
)
trainer.fit(Line(), torch.utils.data.DataLoader(data, batch_size=16, shuffle=True))
loss = float(trainer.callback_metrics["loss"])
print(f"rank {trainer.global_rank} of {trainer.world_size}: loss {loss:.3f}")
trainer.strategy.barrier()  # no rank leaves while another one still needs it
torch.distributed.destroy_process_group()
